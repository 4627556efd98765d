// SPDX-License-Identifier: Apache-2.0
#include <dgm/core/error.hpp>
#include <dgm/data/image.hpp>

#include <gtest/gtest.h>
#include <zlib.h>

#include <cmath>
#include <vector>

#include "tests/support/files.hpp"

namespace dgm {
namespace {

struct Picture {
  std::size_t width = 0, height = 0;
  std::vector<int> pixels;
};

std::size_t word(const std::string& bytes, std::size_t at) {
  std::size_t value = 0;
  for (std::size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

/// Decodes an 8-bit grey PNG by the specification: chunks, inflate, the five filters.
Picture decode(const std::string& png) {
  Picture out;
  std::string packed;
  for (std::size_t at = 8; at + 12 <= png.size(); at += 12 + word(png, at)) {
    const std::string type = png.substr(at + 4, 4);
    if (type == "IHDR") {
      out.width = word(png, at + 8);
      out.height = word(png, at + 12);
      EXPECT_EQ(png.substr(at + 16, 2), std::string("\x08\x00", 2)) << "8 bits, grey";
    }
    if (type == "IDAT") packed += png.substr(at + 8, word(png, at));
  }
  std::vector<unsigned char> raw(out.height * (out.width + 1));
  uLongf size = raw.size();
  EXPECT_EQ(uncompress(raw.data(), &size, reinterpret_cast<const Bytef*>(packed.data()), packed.size()), Z_OK);
  EXPECT_EQ(size, raw.size());
  out.pixels.assign(out.width * out.height, 0);
  const auto pixel = [&](long y, long x) {
    return y < 0 || x < 0 ? 0 : out.pixels[static_cast<std::size_t>(y) * out.width + static_cast<std::size_t>(x)];
  };
  for (std::size_t y = 0; y < out.height; ++y) {
    for (std::size_t x = 0; x < out.width; ++x) {
      const long i = static_cast<long>(y), j = static_cast<long>(x);
      const int a = pixel(i, j - 1), b = pixel(i - 1, j), c = j > 0 ? pixel(i - 1, j - 1) : 0, p = a + b - c;
      const int pa = std::abs(p - a), pb = std::abs(p - b), pc = std::abs(p - c);
      const int paeth = pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
      const int guesses[] = {0, a, b, (a + b) / 2, paeth};
      out.pixels[y * out.width + x] = (raw[y * (out.width + 1) + 1 + x] + guesses[raw[y * (out.width + 1)]]) & 255;
    }
  }
  return out;
}

TEST(WritePngGrid, PutsEveryValueInItsCellAndClampsIt) {
  const test::TempDir dir;
  const std::vector<float> images{0,        .2f,       .4f, .6f, .8f, 1, -3, 7, NAN,
                                  INFINITY, -INFINITY, .5f, 1,   0,   1, 0,  1, 0};  // three of 2 x 3
  write_png_grid(dir / "grid.png", images, 2, 2, 2, 3, 3);
  const Picture picture = decode(test::get(dir / "grid.png"));
  ASSERT_EQ(picture.width, 2u * 9 + 2);
  ASSERT_EQ(picture.height, 2u * 6 + 2);
  const int shades[] = {0, 51, 102, 153, 204, 255, 0, 255, 0, 255, 0, 128, 255, 0, 255, 0, 255, 0};
  for (std::size_t y = 0; y < picture.height; ++y) {
    for (std::size_t x = 0; x < picture.width; ++x) {
      const std::size_t r = y / 8, c = x / 11, py = y % 8 / 3, px = x % 11 / 3, cell = r * 2 + c;
      const bool inside = y % 8 < 6 && x % 11 < 9 && cell < 3;
      const int want = inside ? shades[cell * 6 + py * 3 + px] : 255;
      ASSERT_EQ(picture.pixels[y * picture.width + x], want) << "row " << y << " column " << x;
    }
  }
}

TEST(WritePngGrid, WritesLargeGridsOfNoise) {
  const test::TempDir dir;
  std::vector<float> images(100 * 28 * 28);
  unsigned state = 1;
  for (float& value : images) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<float>(state >> 24) / 255;
  }
  write_png_grid(dir / "grid.png", images, 10, 10, 28, 28, 1);
  const Picture picture = decode(test::get(dir / "grid.png"));
  ASSERT_EQ(picture.width, 298u);
  for (std::size_t i = 0; i < images.size(); ++i) {
    const std::size_t cell = i / 784, y = cell / 10 * 30 + i % 784 / 28, x = cell % 10 * 30 + i % 28;
    ASSERT_EQ(picture.pixels[y * picture.width + x], std::lround(images[i] * 255)) << i;
  }
}

TEST(WritePngGrid, RefusesShapesThatDoNotFit) {
  const test::TempDir dir;
  const std::vector<float> images(12);
  const std::string path = dir / "grid.png";
  EXPECT_THROW(write_png_grid(path, images, 1, 1, 2, 3), ShapeError);
  EXPECT_THROW(write_png_grid(path, images, 3, 3, 5, 1), ShapeError);
  EXPECT_THROW(write_png_grid(path, images, 0, 3, 2, 3), ShapeError);
  EXPECT_THROW(write_png_grid(path, images, 2, 1, 2, 3, 0), ShapeError);
  EXPECT_THROW(write_png_grid(path, images, 2, 1, 2, 3, 1 << 27), ArgumentError);
  EXPECT_THROW(write_png_grid(path, {}, std::size_t{1} << 62, 4, 2, 3), ArgumentError);
  EXPECT_THROW(write_png_grid(dir / "no/grid.png", images, 2, 1, 2, 3), FileError);
  EXPECT_TRUE(dir.names().empty());
}

}  // namespace
}  // namespace dgm
