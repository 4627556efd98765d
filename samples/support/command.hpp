// SPDX-License-Identifier: Apache-2.0
// What every sample's main() does around its own work.
#pragma once

#include <dgm/core/error.hpp>

#include <CLI/CLI.hpp>

#include <unistd.h>

#include <chrono>
#include <exception>
#include <filesystem>
#include <functional>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

namespace dgm::samples {

/// Parses the command line and runs the work. Exit status: 0; 1 for an error while working, told on
/// one line; CLI11's own (above 100) for a command line it refuses.
inline int run(CLI::App& app, int argc, char** argv, const std::function<void()>& work) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
  try {
    work();
    std::cout.flush();
    if (!std::cout) throw FileError("standard output: cannot be written");
  } catch (const std::exception& error) {
    std::cerr << app.get_name() << ": " << error.what() << "\n";
    return 1;
  }
  return 0;
}

/// --seed, --device and --threads, in that order, into the members of those names.
template <class Options>
void add_compute_options(CLI::App& app, Options& options) {
  app.add_option("--seed", options.seed, "Seed of everything random")->capture_default_str();
  app.add_option("--device", options.device, "auto, cpu, cuda or cuda:N")->capture_default_str();
  app.add_option("--threads", options.threads, "CPU threads (default: all cores)")->check(CLI::Range(1, 4096));
}

/// Refuses output files that could not be written, before the work rather than after it: throws
/// FileError for a folder that is missing or not writable, and for a file or folder of that name that cannot be
/// replaced. Empty paths are outputs not wanted.
inline void check_outputs(const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    if (path.empty()) continue;
    const std::filesystem::path folder = std::filesystem::path(path).parent_path();
    const std::string name = folder.empty() ? "." : folder.string();
    if (!std::filesystem::is_directory(name)) throw FileError(path + ": there is no folder " + name);
    const auto kind = std::filesystem::status(path).type();
    if (kind == std::filesystem::file_type::directory) throw FileError(path + ": is a folder; a file name is needed");
    const bool there = kind != std::filesystem::file_type::not_found;
    if (there && access(path.c_str(), W_OK) != 0) throw FileError(path + ": is not writable");
    // A file is replaced by a new one; a device or a pipe is written to where it is.
    const bool replaced = !there || kind == std::filesystem::file_type::regular;
    if (replaced && access(name.c_str(), W_OK) != 0)
      throw FileError(path + ": the folder " + name + " is not writable");
  }
}

/// The same for a picture, whose name says its format.
inline void check_picture(const std::string& path) {
  check_outputs({path});
  if (path.empty() || path.ends_with(".png") || path.ends_with(".svg")) return;
  throw FileError(path + ": a picture's name must end in .png or .svg");
}

/// One line on a terminal that is written over; nothing where standard error is no terminal.
class ProgressLine {
 public:
  void show(const std::string& line) {
    const auto now = std::chrono::steady_clock::now();
    if (!terminal_ || now - last_ < std::chrono::milliseconds(100)) return;
    last_ = now;
    std::cerr << "\r" << line << "\033[K" << std::flush;
  }
  void clear() const {
    if (terminal_) std::cerr << "\r\033[K" << std::flush;
  }

 private:
  bool terminal_ = isatty(STDERR_FILENO) == 1;
  std::chrono::steady_clock::time_point last_;
};

/// The parts, streamed one after the other.
template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

}  // namespace dgm::samples
