// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace dgm {

/// Numbers to draw: a copy of any vector, span or list of numbers.
class Numbers {
 public:
  Numbers(std::initializer_list<double> values) : values_(values) {}
  template <class Range>
  requires requires(const Range& range) {
    std::size(range);
    static_cast<double>(*std::begin(range));
  }
  Numbers(const Range& range) : values_(std::begin(range), std::end(range)) {}

  std::size_t size() const { return values_.size(); }
  double operator[](std::size_t i) const { return values_[i]; }

 private:
  std::vector<double> values_;
};

/// How a series looks.
struct Style {
  static constexpr int kNext = -1;
  /// Index into a palette that colour-blind people can tell apart; the next one of the panel by default.
  int color = kNext;
  bool dashed = false;
};

/// One coordinate system of a Plot. Every call adds something and returns the panel.
///
/// Values that are not finite, or not positive on a logarithmic axis, are left out; in a line they leave a gap.
/// A series of which nothing is left is not drawn. All throw ShapeError if lengths differ.
/// Text is UTF-8 and drawn as it is; a series with an empty name is not in the legend.
class Panel {
 public:
  Panel(std::string title, std::string x_label, std::string y_label);
  ~Panel();
  Panel(const Panel&) = delete;
  Panel& operator=(const Panel&) = delete;

  /// A scatter of at most kMostPoints points: of more, evenly spaced ones are drawn.
  static constexpr std::size_t kMostPoints = 20000;
  Panel& points(const Numbers& x, const Numbers& y, const std::string& name = "", Style style = {});
  /// Points coloured by class; class k (>= 0) has colour k and, in the legend, names[k] if there is one.
  Panel& points_by_class(const Numbers& x, const Numbers& y, std::span<const std::int32_t> classes,
                         const std::vector<std::string>& names = {});
  /// The contours at these multiples of the standard deviation of a Gaussian, and a cross at its mean.
  /// covariance is {xx, xy, yx, yy}; negative eigenvalues count as 0.
  Panel& ellipse(std::array<double, 2> mean, std::array<double, 4> covariance, Style style = {},
                 std::vector<double> sigmas = {1, 2});
  Panel& line(const Numbers& x, const Numbers& y, const std::string& name = "", Style style = {});
  /// A line over 1, 2, 3, ...: a training curve.
  Panel& curve(const Numbers& y, const std::string& name = "", Style style = {});
  /// Points with bars from y - half to y + half.
  Panel& error_bars(const Numbers& x, const Numbers& y, const Numbers& half, const std::string& name = "",
                    Style style = {});
  /// The area between two curves, drawn below everything else.
  Panel& band(const Numbers& x, const Numbers& low, const Numbers& high, const std::string& name = "",
              Style style = {});
  /// A matrix (rows, cols) as a grid of shades with row 0 at the top; labels, if given, one a row and a column.
  Panel& matrix(const Numbers& values, std::size_t rows, std::size_t cols,
                const std::vector<std::string>& row_labels = {}, const std::vector<std::string>& col_labels = {});
  /// A function on a grid as shades, below everything else: values[r, c] fills its cell of the box x by y, row 0 at
  /// the bottom.
  Panel& density(const Numbers& values, std::size_t rows, std::size_t cols, std::array<double, 2> x,
                 std::array<double, 2> y);

  Panel& log_x();
  Panel& log_y();
  Panel& x_range(double low, double high);
  Panel& y_range(double low, double high);

 private:
  friend class Plot;
  struct State;
  std::unique_ptr<State> state_;
};

/// A picture of one or more panels, drawn by gnuplot:
///
///   Plot plot("penguins");
///   plot.panel("clusters", "bill length / mm", "bill depth / mm").points_by_class(x, y, component);
///   plot.panel("training", "iteration", "log-likelihood").curve(log_likelihoods);
///   plot.save("penguins.png");
class Plot {
 public:
  explicit Plot(std::string title = "");
  ~Plot();
  Plot(Plot&&) noexcept;
  Plot& operator=(Plot&&) noexcept;

  /// Adds a panel; panels fill rows from the left. The reference lives as long as the plot.
  Panel& panel(std::string title = "", std::string x_label = "", std::string y_label = "");
  /// Panels in a row; by default as many as make the picture about square, but up to three in one row.
  Plot& columns(int count);
  /// Size of one panel in points of 1/96 inch; 600 x 420 unless set. A .png has 1.5 pixels to a point.
  Plot& panel_size(int width, int height);

  /// Draws to .png or .svg, by the suffix. All or nothing, as write_file().
  /// Throws    FileError: another suffix, the file cannot be written, gnuplot reports an error;
  ///           BackendUnavailable: gnuplot is not installed.
  void save(const std::string& path) const;

  /// What gnuplot is told, for an output file of that name.
  std::string script(const std::string& path) const;

 private:
  std::string script(const std::string& suffix, const std::string& path) const;

  std::string title_;
  std::vector<std::unique_ptr<Panel>> panels_;
  int columns_ = 0;
  int width_ = 600;
  int height_ = 420;
};

}  // namespace dgm
