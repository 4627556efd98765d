// SPDX-License-Identifier: Apache-2.0
// Runs a sample as a user would, and keeps what it prints.
#pragma once

#include <gtest/gtest.h>

#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <string>

namespace dgm::test {

struct Outcome {
  int status = -1;     // exit status; -1 for a program that a signal ended
  std::string output;  // standard output and error together
};

/// The program of samples/<name>.cpp with arguments for a shell.
inline Outcome run_sample(const std::string& name, const std::string& arguments) {
  const std::string command = std::string(DGM_SAMPLES_BINARIES "/") + name + " " + arguments + " 2>&1 </dev/null";
  Outcome outcome;
  FILE* const pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) {
    ADD_FAILURE() << "cannot run " << command;
    return outcome;
  }
  std::array<char, 4096> bytes;
  while (const std::size_t count = std::fread(bytes.data(), 1, bytes.size(), pipe)) {
    outcome.output.append(bytes.data(), count);
  }
  const int status = ::pclose(pipe);
  if (WIFEXITED(status)) outcome.status = WEXITSTATUS(status);
  // A shell tells of a signal by a status above 128.
  if (outcome.status > 128) outcome.status = -1;
  return outcome;
}

/// Expects the program to refuse: a status that is neither success nor a crash, and these words.
inline void expect_refusal(const std::string& name, const std::string& arguments, const std::string& words) {
  const Outcome outcome = run_sample(name, arguments);
  EXPECT_GT(outcome.status, 0) << name << " " << arguments << "\n" << outcome.output;
  EXPECT_NE(outcome.output.find(words), std::string::npos)
      << name << " " << arguments << "\nwanted: " << words << "\ngot: " << outcome.output;
}

}  // namespace dgm::test
