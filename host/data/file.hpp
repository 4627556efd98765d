// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/data/file.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace dgm {

/// Bytes as they lie on the disk.
std::string read_raw_file(const std::string& path);

/// The content of a gzip stream of one or more members. name is for the message of a FileError.
std::string gunzip(std::string_view bytes, const std::string& name);

/// A text in blocks of whole lines, for what must not lie in memory at once. Gzipped or not; a pipe will do.
class LineBlocks {
 public:
  explicit LineBlocks(const std::string& path);
  ~LineBlocks();
  LineBlocks(const LineBlocks&) = delete;
  LineBlocks& operator=(const LineBlocks&) = delete;

  /// The next lines, or nothing after the last. Every block ends with a line feed, but for the last if the file does
  /// not. Valid until the next call.
  std::string_view next();

 private:
  std::string path_;
  void* file_ = nullptr;  // zlib's gzFile
  std::string buffer_;
  std::size_t given_ = 0;  // bytes at the front of the buffer that were handed out
  std::size_t used_ = 0;
  bool ended_ = false;
};

/// The content of a raw deflate stream of known size, as zip archives have them.
std::string inflate_raw(std::string_view bytes, std::size_t size, const std::string& name);

/// The checksum of zip and gzip.
std::uint32_t crc32_of(std::string_view bytes);

}  // namespace dgm
