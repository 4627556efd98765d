// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace dgm {

/// All bytes of a file, or of whatever else can be opened and read to its end; decompressed if they are gzip
/// (known by the magic bytes, not by the name).
///
/// Throws    FileError: missing, a directory, not permitted, a damaged or truncated gzip stream.
std::string read_file(const std::string& path);

/// Replaces the file at once: readers, and whoever looks after a crash, see all of the old bytes or all of the new.
/// The bytes go to a temporary file in the same folder, reach the disk, and take the name over. A device or a pipe
/// is written directly; a symbolic link keeps pointing where it did; an existing file keeps its mode. What a process
/// that was killed while writing left behind, .NAME.0.tmp say, the next write of NAME removes.
///
/// Throws    FileError (no space, not permitted, a directory, no such folder); the old file is then as it was and
///           the temporary file is gone.
void write_file(const std::string& path, std::string_view bytes);

/// The same for what is written piece by piece: the file appears under its name when commit() is called, completely.
/// Without commit() the old file stays. Throws as write_file().
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, std::size_t bytes);
  void write(std::string_view bytes) { write(bytes.data(), bytes.size()); }
  /// Flushes to the disk and takes the name over. Nothing may be written afterwards.
  void commit();

  /// Where the bytes go until then: for a child process that writes by name. The target itself where that is a device.
  const std::string& working_path() const { return working_; }

 private:
  [[noreturn]] void fail(const char* doing, int error);

  std::string path_;     // as the caller wrote it: for messages
  std::string target_;   // with symbolic links resolved
  std::string working_;  // the temporary file
  int descriptor_ = -1;
  bool direct_ = false;  // a device or pipe: nothing to rename
  bool replaces_ = false;
  unsigned mode_ = 0;
};

}  // namespace dgm
