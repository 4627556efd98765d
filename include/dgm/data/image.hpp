// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace dgm {

/// Writes grey images of one size as a grid, row by row from the left, into a .png: samples of a generative model.
///
/// images    (n, height, width), row-major, n <= rows * cols; cells without an image stay white. 0 is black and 1
///           white; values beyond are clamped, NaN is black.
/// scale     pixels, along each side, that a value takes; cells are two pixels apart.
/// Throws    ShapeError if images hold no whole number of images or more than there are cells, or if a size is 0;
///           ArgumentError if the picture has more than 2^28 pixels; FileError. All or nothing, as write_file().
void write_png_grid(const std::string& path, std::span<const float> images, std::size_t rows, std::size_t cols,
                    std::size_t height, std::size_t width, std::size_t scale = 2);

}  // namespace dgm
