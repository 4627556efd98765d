// SPDX-License-Identifier: Apache-2.0
#include <dgm/data/image.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#include <stb/stb_image_write.h>

#include "host/core/check.hpp"
#include "host/data/file.hpp"

namespace dgm {

void write_png_grid(const std::string& path, std::span<const float> images, std::size_t rows, std::size_t cols,
                    std::size_t height, std::size_t width, std::size_t scale) {
  constexpr std::size_t kGap = 2, kMost = std::size_t{1} << 28;
  for (const std::size_t size : {rows, cols, height, width, scale}) {
    check<ShapeError>(size > 0, "write_png_grid: ", rows, " x ", cols, " images of ", height, " x ", width, ", scale ",
                      scale, "; all must be at least 1");
    check<ArgumentError>(size <= kMost, "write_png_grid: ", size, " is too large; at most 2^28 is possible");
  }
  const std::size_t area = height * width;
  check<ShapeError>(images.size() % area == 0 && images.size() / area <= rows * cols, "write_png_grid: ", images.size(),
                    " values are not at most ", rows * cols, " images of ", height, " x ", width);
  // At most 2^57 each, so neither overflows, and their product is looked at by division.
  const std::size_t high = rows * (height * scale + kGap) - kGap, wide = cols * (width * scale + kGap) - kGap;
  check<ArgumentError>(high <= kMost && wide <= kMost / high, "write_png_grid: ", wide, " x ", high,
                       " pixels are too many; at most 2^28 are possible");
  std::vector<unsigned char> pixels(high * wide, 255);
  for (std::size_t i = 0; i < images.size(); ++i) {
    const float value = images[i];
    const auto shade = static_cast<unsigned char>(value > 0 ? std::lround(255 * std::min(value, 1.f)) : 0);
    const std::size_t cell = i / area, r = i % area / width, c = i % width;
    const std::size_t top = cell / cols * (height * scale + kGap) + r * scale;
    const std::size_t left = cell % cols * (width * scale + kGap) + c * scale;
    for (std::size_t y = top; y < top + scale; ++y) {
      std::fill_n(pixels.begin() + static_cast<std::ptrdiff_t>(y * wide + left), scale, shade);
    }
  }
  std::string bytes;
  const auto keep = [](void* to, void* data, int size) {
    static_cast<std::string*>(to)->append(static_cast<const char*>(data), static_cast<std::size_t>(size));
  };
  const int done = stbi_write_png_to_func(keep, &bytes, static_cast<int>(wide), static_cast<int>(high), 1,
                                          pixels.data(), static_cast<int>(wide));
  check<FileError>(done != 0 && !bytes.empty(), path, ": the picture cannot be encoded");
  write_file(path, bytes);
}

}  // namespace dgm
