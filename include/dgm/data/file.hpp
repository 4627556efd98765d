// SPDX-License-Identifier: Apache-2.0
#pragma once

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

}  // namespace dgm
