// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>
#include <memory>
#include <system_error>

#include "host/core/check.hpp"
#include "host/data/file.hpp"

namespace dgm {
namespace {

std::string describe(int error) { return std::generic_category().message(error); }

class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return value_; }

 private:
  int value_;
};

struct Inflater {
  z_stream stream{};
  explicit Inflater(int window_bits) {
    check<Error>(inflateInit2(&stream, window_bits) == Z_OK, "zlib cannot be initialised");
  }
  ~Inflater() { inflateEnd(&stream); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
};

// Whether two names are one file now.
bool same_file(int descriptor, const char* path) {
  struct stat held {};
  struct stat named {};
  return ::fstat(descriptor, &held) == 0 && ::lstat(path, &named) == 0 && held.st_dev == named.st_dev &&
         held.st_ino == named.st_ino;
}

// Removes a temporary file whose writer is gone. False if it is in use, or not ours to judge.
bool remove_abandoned(const std::string& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (file.get() < 0) return errno == ENOENT;
  struct stat info {};
  if (::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode) || info.st_uid != ::geteuid()) return false;
  // Under the lock nobody else renames or removes it, so that it is the name's file that goes.
  return ::flock(file.get(), LOCK_EX | LOCK_NB) == 0 && same_file(file.get(), path.c_str()) &&
         ::unlink(path.c_str()) == 0;
}

// Takes the lock of a new temporary file. False if, between its creation and this, somebody took it for abandoned.
// A file system without locks removes nothing, so there it is as good as held.
bool locked_in_time(int descriptor) {
  if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0) return errno != EWOULDBLOCK;
  struct stat info {};
  return ::fstat(descriptor, &info) != 0 || info.st_nlink > 0;
}

constexpr std::size_t kLargestChunk = std::size_t{1} << 30;  // zlib counts in 32 bits

}  // namespace

std::string read_raw_file(const std::string& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  check<FileError>(file.get() >= 0, path, ": cannot be opened: ", describe(errno));
  struct stat info {};
  check<FileError>(::fstat(file.get(), &info) == 0, path, ": cannot be examined: ", describe(errno));
  check<FileError>(!S_ISDIR(info.st_mode), path, ": is a directory; a file is needed");
  std::string bytes;
  std::size_t used = 0;
  bytes.resize(S_ISREG(info.st_mode) ? static_cast<std::size_t>(info.st_size) + 1 : 65536);
  while (true) {
    if (used == bytes.size()) bytes.resize(bytes.size() * 2);
    const ssize_t got = ::read(file.get(), bytes.data() + used, std::min(bytes.size() - used, kLargestChunk));
    if (got < 0 && errno == EINTR) continue;
    check<FileError>(got >= 0, path, ": cannot be read: ", describe(errno));
    if (got == 0) break;
    used += static_cast<std::size_t>(got);
  }
  bytes.resize(used);
  return bytes;
}

std::string gunzip(std::string_view bytes, const std::string& name) {
  Inflater inflater(15 + 16);  // the largest window; gzip wrapping
  z_stream& stream = inflater.stream;
  std::string out;
  std::size_t taken = 0;
  std::size_t used = 0;
  bool ended = false;
  while (true) {
    if (used == out.size()) out.resize(std::max<std::size_t>(out.size() * 2, bytes.size() * 4 + 1024));
    const std::size_t input = std::min(bytes.size() - taken, kLargestChunk);
    const std::size_t room = std::min(out.size() - used, kLargestChunk);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data() + taken));
    stream.avail_in = static_cast<uInt>(input);
    stream.next_out = reinterpret_cast<Bytef*>(out.data() + used);
    stream.avail_out = static_cast<uInt>(room);
    const int state = inflate(&stream, Z_NO_FLUSH);
    taken += input - stream.avail_in;
    used += room - stream.avail_out;
    if (state == Z_STREAM_END) {
      // Members may follow one another (cat a.gz b.gz); zeros that pad a tape block end the data.
      const std::string_view rest = bytes.substr(taken);
      if (rest.find_first_not_of('\0') == std::string_view::npos) {
        ended = true;
        break;
      }
      check<FileError>(rest.substr(0, 2) == "\x1f\x8b", name, ": ", rest.size(), " bytes follow its gzip data");
      inflateReset(&stream);
      continue;
    }
    if (state == Z_BUF_ERROR && stream.avail_out == 0) continue;
    if (state == Z_BUF_ERROR || (state == Z_OK && taken == bytes.size() && stream.avail_out != 0)) break;
    check<FileError>(state == Z_OK, name, ": its gzip data are damaged: ", stream.msg ? stream.msg : "unknown error");
  }
  check<FileError>(ended, name, ": its gzip data end too early; the file is truncated");
  out.resize(used);
  return out;
}

std::string inflate_raw(std::string_view bytes, std::size_t size, const std::string& name) {
  check<FileError>(bytes.size() < kLargestChunk * 2 && size < kLargestChunk * 3, name, ": is too large");
  // Deflate packs at most 1032 to 1: a size beyond that is a lie that would only cost memory.
  check<FileError>(size / 1032 <= bytes.size(), name, ": its size does not fit its compressed data");
  Inflater inflater(-15);
  z_stream& stream = inflater.stream;
  std::string out(size, '\0');
  char spare = 0;  // inflate() wants a place to point to, also for no bytes
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(size > 0 ? out.data() : &spare);
  stream.avail_out = static_cast<uInt>(size);
  const int state = inflate(&stream, Z_FINISH);
  check<FileError>(state == Z_STREAM_END && stream.avail_out == 0, name, ": its compressed data are damaged");
  return out;
}

std::uint32_t crc32_of(std::string_view bytes) {
  uLong crc = ::crc32(0, nullptr, 0);
  for (std::size_t at = 0; at < bytes.size(); at += kLargestChunk) {
    const std::string_view chunk = bytes.substr(at, kLargestChunk);
    crc = ::crc32(crc, reinterpret_cast<const Bytef*>(chunk.data()), static_cast<uInt>(chunk.size()));
  }
  return static_cast<std::uint32_t>(crc);
}

std::string read_file(const std::string& path) {
  std::string bytes = read_raw_file(path);
  if (std::string_view(bytes).substr(0, 2) == "\x1f\x8b") return gunzip(bytes, path);
  return bytes;
}

LineBlocks::LineBlocks(const std::string& path) : path_(path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  check<FileError>(descriptor >= 0, path, ": cannot be opened: ", describe(errno));
  struct stat info {};
  const bool folder = ::fstat(descriptor, &info) == 0 && S_ISDIR(info.st_mode);
  file_ = folder ? nullptr : ::gzdopen(descriptor, "rb");
  if (file_ == nullptr) ::close(descriptor);
  check<FileError>(!folder, path, ": is a directory; a file is needed");
  check<Error>(file_ != nullptr, path, ": zlib cannot be initialised");
  buffer_.resize(std::size_t{1} << 20);
}

LineBlocks::~LineBlocks() { ::gzclose(static_cast<gzFile>(file_)); }

std::string_view LineBlocks::next() {
  used_ -= given_;
  std::memmove(buffer_.data(), buffer_.data() + given_, used_);  // the beginning of a line whose rest is to come
  given_ = 0;
  while (!ended_) {
    const std::size_t searched = used_;
    if (used_ == buffer_.size()) buffer_.resize(buffer_.size() * 2);
    const std::size_t room = std::min(buffer_.size() - used_, kLargestChunk);
    const auto file = static_cast<gzFile>(file_);
    const int got = ::gzread(file, buffer_.data() + used_, static_cast<unsigned>(room));
    int state = Z_OK;
    const char* const message = ::gzerror(file, &state);
    check<FileError>(state != Z_ERRNO, path_, ": cannot be read: ", describe(errno));
    check<FileError>(state != Z_BUF_ERROR, path_, ": its gzip data end too early; the file is truncated");
    check<FileError>(got >= 0 && (state == Z_OK || state == Z_STREAM_END), path_,
                     ": its gzip data are damaged: ", message);
    used_ += static_cast<std::size_t>(got);
    ended_ = got == 0;
    const std::size_t feed = std::string_view(buffer_.data() + searched, used_ - searched).rfind('\n');
    if (feed == std::string_view::npos) continue;
    given_ = searched + feed + 1;
    return {buffer_.data(), given_};
  }
  given_ = used_;
  return {buffer_.data(), used_};
}

void write_file(const std::string& path, std::string_view bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

AtomicFile::AtomicFile(const std::string& path) : path_(path), target_(path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0) {
    check<FileError>(!S_ISDIR(info.st_mode), path, ": is a directory; a file name is needed");
    if (::access(path.c_str(), W_OK) != 0) fail("is not writable", errno);
    if (!S_ISREG(info.st_mode)) {
      direct_ = true;
      working_ = path;
      descriptor_ = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
      if (descriptor_ < 0) fail("cannot be opened for writing", errno);
      return;
    }
    replaces_ = true;
    mode_ = static_cast<unsigned>(info.st_mode) & 07777u;
    if (const std::unique_ptr<char, void (*)(void*)> real(::realpath(path.c_str(), nullptr), &::free); real) {
      target_ = real.get();
    }
  }
  const std::size_t slash = target_.rfind('/');
  const std::string folder = slash == std::string::npos ? "" : target_.substr(0, slash + 1);
  const std::string base = slash == std::string::npos ? target_ : target_.substr(slash + 1);
  check<FileError>(!base.empty(), path, ": is not a file name");
  // Numbered names, the lowest that no writer holds. Whoever writes holds a lock, so that what a killed process
  // left, which nobody can hold, is recognised and cleared away: there are never more than there are writers.
  const auto create = [&] { return ::open(working_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666); };
  for (unsigned number = 0; descriptor_ < 0; ++number) {
    working_ = text(folder, ".", base.substr(0, 200), ".", number, ".tmp");
    int created = create();
    if (created < 0 && errno == EEXIST) {
      if (!remove_abandoned(working_)) continue;
      created = create();
    }
    if (created < 0 && errno == EEXIST) continue;  // another writer was quicker
    if (created < 0) fail("cannot be created", errno);
    if (locked_in_time(created)) {
      descriptor_ = created;
    } else {
      ::close(created);
    }
  }
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  if (!direct_) ::unlink(working_.c_str());
  ::close(descriptor_);
}

void AtomicFile::fail(const char* doing, int error) {
  throw FileError(
      text(path_, ": ", doing, ": ", describe(error), replaces_ ? "; the file that was there is unchanged" : ""));
}

void AtomicFile::write(const void* data, std::size_t bytes) {
  const char* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t done = ::write(descriptor_, from, std::min(bytes, kLargestChunk));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) fail("cannot be written", errno);
    from += done;
    bytes -= static_cast<std::size_t>(done);
  }
}

void AtomicFile::commit() {
  if (!direct_) {
    if (replaces_) (void)::fchmod(descriptor_, mode_);  // best effort: some file systems have no modes
    // Without this a crash may leave the new name with none of the new bytes.
    if (::fsync(descriptor_) != 0) fail("cannot be flushed to disk", errno);
  }
  // The lock lasts as long as one descriptor does, and the file needs it until it has its name.
  const Descriptor lock(direct_ ? -1 : ::dup(descriptor_));
  const int descriptor = descriptor_;
  descriptor_ = -1;
  if (::close(descriptor) != 0 && errno != EINTR) {  // network file systems report a full disk here
    const int error = errno;
    if (!direct_) ::unlink(working_.c_str());
    fail("cannot be written", error);
  }
  if (direct_) return;
  if (std::rename(working_.c_str(), target_.c_str()) != 0) {
    const int error = errno;
    ::unlink(working_.c_str());
    fail("cannot be put in place", error);
  }
  const std::size_t slash = target_.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : target_.substr(0, slash + 1);
  const Descriptor directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // The new file is complete and in place; what is flushed here is its name. A folder may be writable without
  // being readable, and some file systems cannot flush one: neither is a failure to save.
  if (directory.get() >= 0 && ::fsync(directory.get()) != 0 && errno == EIO) {
    throw FileError(text(path_, ": was written, but its folder cannot be flushed to disk: ", describe(EIO)));
  }
}

}  // namespace dgm
