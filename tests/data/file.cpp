// SPDX-License-Identifier: Apache-2.0
#include <dgm/core/error.hpp>
#include <dgm/data/file.hpp>

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <thread>
#include <vector>

#include "tests/support/files.hpp"

namespace dgm {
namespace {

namespace fs = std::filesystem;
using test::get;
using test::message_of;
using test::put;
using ::testing::ExitedWithCode;

TEST(WriteFile, ReplacesTheWholeFileAndLeavesNothingElse) {
  const test::TempDir dir;
  const std::string path = dir / "model";
  for (const std::string& bytes :
       {std::string("first"), std::string(3 << 20, 'x'), std::string("\0\n", 2), std::string()}) {
    write_file(path, bytes);
    EXPECT_EQ(get(path), bytes);
    EXPECT_EQ(read_file(path), bytes);
    EXPECT_EQ(dir.names(), std::vector<std::string>{"model"});
  }
}

TEST(WriteFile, WritesByARelativeNameAndALongOne) {
  const test::TempDir dir;
  const fs::path before = fs::current_path();
  fs::current_path(dir.path());
  write_file("plain", "1");
  EXPECT_EQ(get("plain"), "1");
  const std::string longest(255, 'n');  // no room for a suffix
  write_file(longest, "2");
  EXPECT_EQ(get(longest), "2");
  fs::current_path(before);
}

TEST(WriteFile, KeepsModeAndSymbolicLinks) {
  const test::TempDir dir;
  put(dir / "model", "old");
  fs::permissions(dir / "model", fs::perms(0640));
  fs::create_symlink("model", dir / "latest");
  write_file(dir / "latest", "new");
  EXPECT_EQ(get(dir / "model"), "new");
  EXPECT_TRUE(fs::is_symlink(dir / "latest"));
  EXPECT_EQ(fs::status(dir / "model").permissions(), fs::perms(0640));
}

TEST(WriteFile, NamesAFolderThatIsNotThereAndAFolderInPlaceOfAFile) {
  const test::TempDir dir;
  EXPECT_EQ(message_of<FileError>([&] { write_file(dir / "no/model", "x"); }),
            dir / "no/model" + ": cannot be created: No such file or directory");
  EXPECT_EQ(message_of<FileError>([&] { write_file(dir.path(), "x"); }),
            dir.path() + ": is a directory; a file name is needed");
  EXPECT_EQ(message_of<FileError>([&] { write_file("", "x"); }), ": is not a file name");
}

TEST(WriteFile, ReportsAFullDevice) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "there is no /dev/full here";
  EXPECT_EQ(message_of<FileError>([] { write_file("/dev/full", "x"); }),
            "/dev/full: cannot be written: No space left on device");
  EXPECT_TRUE(fs::is_character_file("/dev/full")) << "a device must not be replaced by a file";
}

TEST(WriteFile, LeavesTheOldFileWhenTheDiskIsFull) {
  const test::TempDir dir;
  const std::string path = put(dir / "model", "old");
  const auto with_little_room = [&] {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1 << 16, 1 << 16};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) ::_exit(1);
    const std::string message = message_of<FileError>([&] { write_file(path, std::string(1 << 20, 'x')); });
    ::_exit(message == path + ": cannot be written: File too large; the file that was there is unchanged" ? 7 : 1);
  };
  EXPECT_EXIT(with_little_room(), ExitedWithCode(7), "");
  EXPECT_EQ(get(path), "old");
  EXPECT_EQ(dir.names(), std::vector<std::string>{"model"});
}

TEST(WriteFile, LeavesTheOldFileWhenWritingIsNotPermitted) {
  const test::TempDir dir;
  const std::string path = put(dir / "model", "old");
  fs::permissions(path, fs::perms(0666));
  const auto refused = [&](const std::string& wanted) {
    if (::geteuid() == 0 && ::setuid(65534) != 0) ::_exit(1);  // root may write everywhere
    const std::string message = message_of<FileError>([&] { write_file(path, "new"); });
    ::_exit(message == wanted ? 7 : 1);
  };
  fs::permissions(dir.path(), fs::perms(0555));
  const std::string unchanged = "Permission denied; the file that was there is unchanged";
  EXPECT_EXIT(refused(path + ": cannot be created: " + unchanged), ExitedWithCode(7), "");
  fs::permissions(dir.path(), fs::perms(0777));
  fs::permissions(path, fs::perms(0444));
  EXPECT_EXIT(refused(path + ": is not writable: Permission denied"), ExitedWithCode(7), "");
  EXPECT_EQ(get(path), "old");
  EXPECT_EQ(dir.names(), std::vector<std::string>{"model"});
}

TEST(WriteFile, LeavesAWholeFileWhenTheProcessIsKilledAtAnyMoment) {
  const test::TempDir dir;
  const std::string path = put(dir / "model", std::string(200000, 'a'));
  for (int round = 0; round < 25; ++round) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      for (char letter = 'b';; letter = letter == 'z' ? 'b' : static_cast<char>(letter + 1)) {
        write_file(path, std::string(200000, letter));
      }
    }
    std::this_thread::sleep_for(std::chrono::microseconds(2000 + 613 * round));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    const std::string found = get(path);
    ASSERT_EQ(found.size(), 200000u);
    ASSERT_EQ(found, std::string(200000, found[0]));
    ASSERT_LE(dir.names().size(), 2u) << "what killed processes leave must not pile up";
  }
  write_file(path, "new");
  EXPECT_EQ(dir.names(), std::vector<std::string>{"model"}) << "the next save clears up";
  EXPECT_EQ(get(path), "new");
}

TEST(WriteFile, RemovesWhatAKilledProcessLeftButNothingThatIsNotItsOwn) {
  const test::TempDir dir;
  put(dir / ".model.0.tmp", "half of a");
  fs::permissions(dir / ".model.0.tmp", fs::perms(0600));
  write_file(dir / "model", "new");
  EXPECT_EQ(get(dir / "model"), "new");
  EXPECT_EQ(dir.names(), std::vector<std::string>{"model"});
  EXPECT_NE(fs::status(dir / "model").permissions(), fs::perms(0600)) << "the leftover itself was put in place";

  // A link or a folder of that name is nobody's leftover: it stays, and the save goes around it.
  put(dir / "precious", "kept");
  fs::create_symlink("precious", dir / ".model.0.tmp");
  fs::create_directory(dir / ".model.1.tmp");
  write_file(dir / "model", "newer");
  EXPECT_EQ(get(dir / "model"), "newer");
  EXPECT_EQ(get(dir / "precious"), "kept");
  EXPECT_TRUE(fs::is_symlink(dir / ".model.0.tmp"));
  EXPECT_TRUE(fs::is_directory(dir / ".model.1.tmp"));
  EXPECT_EQ(dir.names().size(), 4u);
}

TEST(WriteFile, ManyWritersOfOneFileDoNotDisturbEachOther) {
  const test::TempDir dir;
  const std::string path = dir / "model";
  std::vector<std::thread> threads;
  for (char letter = 'a'; letter < 'e'; ++letter) {
    threads.emplace_back([&path, letter] {
      for (int round = 0; round < 50; ++round) {
        EXPECT_NO_THROW(write_file(path, std::string(20000, letter)));
        const std::string found = read_file(path);
        EXPECT_EQ(found, std::string(20000, found[0]));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(dir.names(), std::vector<std::string>{"model"});
}

}  // namespace
}  // namespace dgm
