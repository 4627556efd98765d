// SPDX-License-Identifier: Apache-2.0
#include <dgm/data/plot.hpp>

#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <numbers>
#include <optional>
#include <string_view>
#include <system_error>

#include "host/core/check.hpp"
#include "host/data/file.hpp"

extern char** environ;

namespace dgm {
namespace {

// Okabe & Ito's colours without the yellow, which is faint on white.
constexpr const char* kColors[] = {"0072B2", "D55E00", "009E73", "CC79A7", "E69F00", "56B4E9", "000000"};
constexpr int kColorCount = 7;
constexpr int kMarks[] = {7, 5, 9, 13, 11};  // filled circle, square, triangle, diamond, triangle down
constexpr const char* kShades = "0 '#ffffff', 1 '#d9e8f5', 2 '#a3c8e4', 3 '#569fd0', 4 '#1c6ab0', 5 '#08306b'";

/// "#rrggbb" of colour k, or "#aarrggbb" with alpha from 0 (opaque) to 1.
std::string color_text(int k, double transparency = 0) {
  char out[16];
  const auto alpha = static_cast<unsigned>(std::lround(255 * transparency));
  const char* rgb = kColors[k % kColorCount];
  if (alpha == 0) {
    std::snprintf(out, sizeof out, "'#%s'", rgb);
  } else {
    std::snprintf(out, sizeof out, "'#%02X%s'", alpha, rgb);
  }
  return out;
}

int mark(int k) { return kMarks[k / kColorCount % static_cast<int>(std::size(kMarks))]; }

/// A gnuplot string that means the text itself. Whatever could mean something else, such as quotes and backquotes,
/// is written as an octal escape: a doubled quote is not enough, gnuplot takes one at the beginning for the end.
std::string quoted(std::string_view s) {
  std::string out(1, '"');
  for (const char c : s) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 32 || byte == 127) {
      out += ' ';
    } else if (byte >= 128 || std::isalnum(byte) || c == ' ' || c == '_' || c == '.' || c == '/' || c == '-') {
      out += c;
    } else {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\%03o", static_cast<unsigned>(byte));
      out += escape;
    }
  }
  out += '"';
  return out;
}

void append(std::string& out, double value) {
  char digits[40];
  const auto result = std::to_chars(digits, digits + sizeof digits, value);
  out.append(digits, result.ptr);
}

std::string number(double value) {
  std::string out;
  append(out, value);
  return out;
}

struct Row {
  double v[4] = {};
};

// In the order in which they are drawn.
enum class Kind { shades, band, points, error_bars, line, contour, center };

struct Series {
  Kind kind;
  std::string name;
  int color = 0;
  bool dashed = false;
  int width = 2;            // numbers in a row
  std::vector<Row> rows{};  // x, y, and what the kind needs besides
  // shades:
  std::vector<double> cells{};
  std::size_t n_rows = 0, n_cols = 0;
  std::array<double, 2> x{}, y{};
};

std::string suffix_of(const std::string& path) {
  const std::size_t dot = path.find_last_of("./");
  if (dot == std::string::npos || path[dot] == '/') return "";
  std::string suffix = path.substr(dot);
  for (char& c : suffix) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return suffix;
}

std::string picture_suffix(const std::string& path) {
  const std::string suffix = suffix_of(path);
  check<FileError>(suffix == ".png" || suffix == ".svg", path, ": a picture is .png or .svg, not ",
                   suffix.empty() ? "without suffix" : suffix);
  return suffix;
}

}  // namespace

struct Panel::State {
  std::string title, x_label, y_label;
  std::vector<Series> series;
  bool log_x = false, log_y = false;
  std::optional<std::array<double, 2>> x_range, y_range;
  bool is_matrix = false;
  std::vector<std::string> row_labels, col_labels;
  int next_color = 0;

  int take(Style style) { return style.color == Style::kNext ? next_color++ : std::max(0, style.color); }

  bool visible(const Series& s, const Row& row) const {
    if (!std::all_of(row.v, row.v + s.width, [](double v) { return std::isfinite(v); })) return false;
    const bool two_heights = s.kind == Kind::band;
    return (!log_x || row.v[0] > 0) && (!log_y || (row.v[1] > 0 && (!two_heights || row.v[2] > 0)));
  }
  bool drawable(const Series& s) const {
    if (s.kind == Kind::shades) return true;
    return std::any_of(s.rows.begin(), s.rows.end(), [&](const Row& row) { return visible(s, row); });
  }

  void write_data(const Series& s, std::string& out) const {
    if (s.kind == Kind::shades) {
      const double dx = (x_of(s, 1) - x_of(s, 0)), dy = (y_of(s, 1) - y_of(s, 0));
      for (std::size_t r = 0; r < s.n_rows; ++r) {
        for (std::size_t c = 0; c < s.n_cols; ++c) {
          const double value = s.cells[r * s.n_cols + c];
          if (!std::isfinite(value) && !as_image(s)) continue;
          const double left = x_of(s, static_cast<double>(c)), low = y_of(s, static_cast<double>(r));
          for (const double v : {left + dx / 2, low + dy / 2, left, left + dx, low, low + dy}) {
            append(out, v);
            out += ' ';
          }
          out += std::isfinite(value) ? number(value) : "NaN";
          out += '\n';
        }
      }
      return;
    }
    bool gap = false;
    for (const Row& row : s.rows) {
      if (!visible(s, row)) {
        gap = true;
        continue;
      }
      if (gap && (s.kind == Kind::line || s.kind == Kind::band)) out += '\n';
      gap = false;
      for (int i = 0; i < s.width; ++i) {
        if (i > 0) out += ' ';
        append(out, row.v[i]);
      }
      out += '\n';
    }
  }

  std::string commands(std::size_t first_block, bool with_legend) const;

 private:
  /// What is drawn along a logarithmic axis, with some air: by itself gnuplot goes on to the next powers of ten.
  std::optional<std::array<double, 2>> log_range(int axis) const {
    double low = INFINITY, high = 0;
    for (const Series& s : series) {
      for (const Row& row : s.rows) {
        if (!visible(s, row)) continue;
        const bool bar = axis == 1 && s.kind == Kind::error_bars, area = axis == 1 && s.kind == Kind::band;
        const double least = bar ? row.v[1] - row.v[2] : row.v[axis];
        low = std::min(low, least > 0 ? least : row.v[axis]);
        high = std::max(high, bar ? row.v[1] + row.v[2] : area ? row.v[2] : row.v[axis]);
      }
    }
    if (low > high) return std::nullopt;
    const double air = std::max(1.05, std::pow(high / low, .04));
    return std::array{low / air, high * air};
  }
  /// Boxes are sharp in every format, and a single row of them can be drawn too; between many there are fine seams.
  bool as_image(const Series& s) const { return !is_matrix && s.n_rows > 1 && s.n_cols > 1; }
  static double x_of(const Series& s, double c) {
    return s.x[0] + (s.x[1] - s.x[0]) * c / static_cast<double>(s.n_cols);
  }
  static double y_of(const Series& s, double r) {
    return s.y[0] + (s.y[1] - s.y[0]) * r / static_cast<double>(s.n_rows);
  }
};

namespace {

void check_lengths(const char* function, std::size_t x, std::size_t y) {
  check<ShapeError>(x == y, function, ": x has ", x, " values but y has ", y);
}

std::string tics(const char* axis, const std::vector<std::string>& labels, const char* more) {
  std::string out = text("set ", axis, "tics ", more, " (");
  for (std::size_t i = 0; i < labels.size(); ++i) {
    std::string label;
    for (const char c : labels[i]) label.append(c == '%' ? 2 : 1, c);  // tic labels are formats
    out += text(i ? ", " : "", quoted(label), " ", static_cast<double>(i) + .5);
  }
  return out + ") scale 0\n";
}

}  // namespace

std::string Panel::State::commands(std::size_t first_block, bool with_legend) const {
  std::string out;
  out += text("set title ", quoted(title), " font 'Sans:Bold,12'\n");
  out += text("set xlabel ", quoted(x_label), "\nset ylabel ", quoted(y_label), "\n");
  out += log_x ? "set logscale x\n" : "unset logscale x\n";
  out += log_y ? "set logscale y\n" : "unset logscale y\n";
  const bool shaded = std::any_of(series.begin(), series.end(), [](auto& s) { return s.kind == Kind::shades; });
  const auto range = [&](const char* axis, const auto& chosen, const auto& logarithmic) {
    if (const auto limits = chosen ? chosen : logarithmic) {
      out += text("set ", axis, "range [", number((*limits)[0]), ":", number((*limits)[1]), "]\n");
    } else {
      out += text("set ", axis, "range [*:*]\nset autoscale ", axis, "fix\n");
    }
  };
  range("x", x_range, log_x ? log_range(0) : std::nullopt);
  range("y", y_range, log_y ? log_range(1) : std::nullopt);
  // Air around the data, which otherwise touch the frame.
  out += shaded ? "unset offsets\n"
                : text("set offsets graph ", log_x ? "0, 0" : "0.03, graph 0.03", ", graph ",
                       log_y ? "0, 0" : "0.05, graph 0.05", "\n");
  out += "set xtics norotate autofreq scale 0.5\nset ytics autofreq scale 0.5\n";
  out += is_matrix
             ? "unset grid\nset border 0\nset size ratio -1\n"
             : "set grid back lt 1 lw 0.5 lc rgb '#dddddd'\nset border 3 lw 0.8 lc rgb '#777777'\nset size noratio\n";
  if (is_matrix) {
    if (!col_labels.empty()) out += tics("x", col_labels, col_labels.size() > 6 ? "rotate by 60 right" : "norotate");
    if (!row_labels.empty()) out += tics("y", row_labels, "");
  }
  std::size_t longest = 0;  // gnuplot reserves the room for wide letters
  for (const Series& item : series) longest = std::max(longest, item.name.size());
  out += with_legend ? text("set key outside right top vertical Left reverse samplen 1.5 spacing 1.2 width -",
                            longest / 5, "\n")
                     : "unset key\n";

  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < series.size(); ++i) {
    if (drawable(series[i])) order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return series[a].kind < series[b].kind; });
  if (order.empty()) return out + "set xrange [0:1]\nset yrange [0:1]\nplot NaN notitle\n";
  const char* separator = "plot ";
  for (const std::size_t i : order) {
    const Series& s = series[i];
    const std::string block = text("$d", first_block + i);
    const std::string title_part = s.name.empty() ? "notitle" : "title " + quoted(s.name);
    const std::string dashes = s.dashed ? " dt '-'" : "";
    const auto add = [&](const std::string& how, const std::string& named) {
      out += separator + block + " " + how + " " + named;
      separator = ", \\\n  ";
    };
    switch (s.kind) {
      case Kind::shades:
        add(as_image(s) ? "using 1:2:7 with image" : "with boxxyerror fs solid 1 noborder lc palette", "notitle");
        break;
      case Kind::band:
        add("using 1:2:3 with filledcurves fs solid 1 noborder lc rgb " + color_text(s.color, .8), title_part);
        break;
      case Kind::points: {
        const std::size_t n = s.rows.size();
        const char* size = n <= 500 ? "0.55" : n <= 5000 ? "0.4" : "0.25";
        const double transparency = n <= 500 ? .25 : n <= 5000 ? .45 : .6;
        add(text("with points pt ", mark(s.color), " ps ", size, " lc rgb ", color_text(s.color, transparency)),
            "notitle");
        // The legend shows the colour itself, not the veil that lets dense points shine through.
        if (!s.name.empty()) {
          out += text(separator, "NaN with points pt ", mark(s.color), " ps 0.8 lc rgb ", color_text(s.color), " ",
                      title_part);
        }
        break;
      }
      case Kind::error_bars:
        add(text("with yerrorbars pt ", mark(s.color), " ps 0.55 lw 1.2 lc rgb ", color_text(s.color)), title_part);
        break;
      case Kind::line: {
        const auto drawn = std::count_if(s.rows.begin(), s.rows.end(), [&](const Row& row) { return visible(s, row); });
        const std::string with = drawn == 1 ? "with points pt 7 ps 0.6" : "with lines lw 1.8";
        add(with + dashes + " lc rgb " + color_text(s.color), title_part);
        break;
      }
      case Kind::contour:
        add("with lines lw 3.2 lc rgb '#40ffffff'", "notitle");  // a halo, so that it is seen on top of points
        add("with lines lw 1.6" + dashes + " lc rgb " + color_text(s.color), title_part);
        break;
      case Kind::center:
        add("with points pt 2 ps 1.1 lw 3.6 lc rgb '#40ffffff'", "notitle");
        add("with points pt 2 ps 1 lw 1.8 lc rgb " + color_text(s.color), "notitle");
        break;
    }
  }
  return out + "\n";
}

Panel::Panel(std::string title, std::string x_label, std::string y_label) : state_(std::make_unique<State>()) {
  state_->title = std::move(title);
  state_->x_label = std::move(x_label);
  state_->y_label = std::move(y_label);
}

Panel::~Panel() = default;

Panel& Panel::points(const Numbers& x, const Numbers& y, const std::string& name, Style style) {
  check_lengths("Panel::points", x.size(), y.size());
  Series s{.kind = Kind::points, .name = name, .color = state_->take(style)};
  const std::size_t step = (x.size() + kMostPoints - 1) / kMostPoints;
  for (std::size_t i = 0; i < x.size(); i += step) s.rows.push_back({{x[i], y[i]}});
  state_->series.push_back(std::move(s));
  return *this;
}

Panel& Panel::points_by_class(const Numbers& x, const Numbers& y, std::span<const std::int32_t> classes,
                              const std::vector<std::string>& names) {
  check_lengths("Panel::points_by_class", x.size(), y.size());
  check<ShapeError>(x.size() == classes.size(), "Panel::points_by_class: ", classes.size(), " classes for ", x.size(),
                    " points");
  constexpr std::int32_t kMostClasses = 1 << 16;
  std::vector<Series> by_class;
  const std::size_t step = (x.size() + kMostPoints - 1) / kMostPoints;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::int32_t k = classes[i];
    check<ArgumentError>(k >= 0 && k < kMostClasses, "Panel::points_by_class: classes[", i, "] = ", k, "; 0 to ",
                         kMostClasses - 1, " is needed");
    for (auto next = static_cast<std::int32_t>(by_class.size()); next <= k; ++next) {
      const auto at = static_cast<std::size_t>(next);
      by_class.push_back({.kind = Kind::points, .name = at < names.size() ? names[at] : "", .color = next});
    }
    if (i % step == 0) by_class[static_cast<std::size_t>(k)].rows.push_back({{x[i], y[i]}});
  }
  state_->next_color = std::max(state_->next_color, static_cast<int>(by_class.size()));
  for (Series& s : by_class) {
    if (!s.rows.empty()) state_->series.push_back(std::move(s));
  }
  return *this;
}

Panel& Panel::ellipse(std::array<double, 2> mean, std::array<double, 4> covariance, Style style,
                      std::vector<double> sigmas) {
  const auto [xx, xy, yx, yy] = covariance;
  check<ArgumentError>(std::isfinite(mean[0] + mean[1] + xx + xy + yx + yy),
                       "Panel::ellipse: the mean or the covariance is not finite");
  const int color = state_->take(style);
  // The axes are the eigenvectors, at angle t and at right angles to it.
  const double cross = (xy + yx) / 2, half = (xx - yy) / 2, middle = (xx + yy) / 2;
  const double radius = std::hypot(half, cross);
  const double t = std::atan2(cross, half) / 2;
  const double a = std::sqrt(std::max(0., middle + radius)), b = std::sqrt(std::max(0., middle - radius));
  constexpr int kCorners = 96;
  for (std::size_t i = 0; i < sigmas.size(); ++i) {
    Series s{.kind = Kind::contour, .name = "", .color = color, .dashed = style.dashed || i > 0};
    for (int corner = 0; corner <= kCorners; ++corner) {
      const double angle = 2 * std::numbers::pi * (corner % kCorners) / kCorners;
      const double u = sigmas[i] * a * std::cos(angle), v = sigmas[i] * b * std::sin(angle);
      s.rows.push_back({{mean[0] + u * std::cos(t) - v * std::sin(t), mean[1] + u * std::sin(t) + v * std::cos(t)}});
    }
    state_->series.push_back(std::move(s));
  }
  Series s{.kind = Kind::center, .name = "", .color = color};
  s.rows.push_back({{mean[0], mean[1]}});
  state_->series.push_back(std::move(s));
  return *this;
}

Panel& Panel::line(const Numbers& x, const Numbers& y, const std::string& name, Style style) {
  check_lengths("Panel::line", x.size(), y.size());
  Series s{.kind = Kind::line, .name = name, .color = state_->take(style), .dashed = style.dashed};
  for (std::size_t i = 0; i < x.size(); ++i) s.rows.push_back({{x[i], y[i]}});
  state_->series.push_back(std::move(s));
  return *this;
}

Panel& Panel::curve(const Numbers& y, const std::string& name, Style style) {
  std::vector<double> x(y.size());
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<double>(i + 1);
  return line(x, y, name, style);
}

Panel& Panel::error_bars(const Numbers& x, const Numbers& y, const Numbers& half, const std::string& name,
                         Style style) {
  check_lengths("Panel::error_bars", x.size(), y.size());
  check<ShapeError>(half.size() == y.size(), "Panel::error_bars: half has ", half.size(), " values but y has ",
                    y.size());
  Series s{.kind = Kind::error_bars, .name = name, .color = state_->take(style), .width = 3};
  for (std::size_t i = 0; i < x.size(); ++i) s.rows.push_back({{x[i], y[i], half[i]}});
  state_->series.push_back(std::move(s));
  return *this;
}

Panel& Panel::band(const Numbers& x, const Numbers& low, const Numbers& high, const std::string& name, Style style) {
  check_lengths("Panel::band", x.size(), low.size());
  check<ShapeError>(low.size() == high.size(), "Panel::band: low has ", low.size(), " values but high has ",
                    high.size());
  Series s{.kind = Kind::band, .name = name, .color = state_->take(style), .width = 3};
  for (std::size_t i = 0; i < x.size(); ++i) s.rows.push_back({{x[i], low[i], high[i]}});
  state_->series.push_back(std::move(s));
  return *this;
}

Panel& Panel::matrix(const Numbers& values, std::size_t rows, std::size_t cols,
                     const std::vector<std::string>& row_labels, const std::vector<std::string>& col_labels) {
  check<ShapeError>(row_labels.empty() || row_labels.size() == rows, "Panel::matrix: ", row_labels.size(),
                    " labels for ", rows, " rows");
  check<ShapeError>(col_labels.empty() || col_labels.size() == cols, "Panel::matrix: ", col_labels.size(),
                    " labels for ", cols, " columns");
  const auto height = static_cast<double>(rows), width = static_cast<double>(cols);
  density(values, rows, cols, {0, width}, {0, height});
  state_->is_matrix = true;
  state_->row_labels = row_labels;
  state_->col_labels = col_labels;
  return y_range(height, 0);
}

Panel& Panel::density(const Numbers& values, std::size_t rows, std::size_t cols, std::array<double, 2> x,
                      std::array<double, 2> y) {
  check<ShapeError>(rows > 0 && cols > 0 && values.size() == rows * cols, "Panel: ", values.size(),
                    " values do not make ", rows, " rows of ", cols, " columns");
  check<ArgumentError>(std::isfinite(x[0] + x[1] + y[0] + y[1]) && x[0] < x[1] && y[0] < y[1], "Panel: the box [", x[0],
                       ", ", x[1], "] by [", y[0], ", ", y[1], "] is empty");
  Series s{.kind = Kind::shades, .name = "", .n_rows = rows, .n_cols = cols, .x = x, .y = y};
  for (std::size_t i = 0; i < values.size(); ++i) s.cells.push_back(values[i]);
  state_->series.push_back(std::move(s));
  if (!state_->x_range) x_range(x[0], x[1]);
  if (!state_->y_range) y_range(y[0], y[1]);
  return *this;
}

Panel& Panel::log_x() {
  state_->log_x = true;
  return *this;
}

Panel& Panel::log_y() {
  state_->log_y = true;
  return *this;
}

Panel& Panel::x_range(double low, double high) {
  check<ArgumentError>(std::isfinite(low) && std::isfinite(high) && low != high, "Panel::x_range: [", low, ", ", high,
                       "] is no range");
  state_->x_range = {low, high};
  return *this;
}

Panel& Panel::y_range(double low, double high) {
  check<ArgumentError>(std::isfinite(low) && std::isfinite(high) && low != high, "Panel::y_range: [", low, ", ", high,
                       "] is no range");
  state_->y_range = {low, high};
  return *this;
}

Plot::Plot(std::string title) : title_(std::move(title)) {}
Plot::~Plot() = default;
Plot::Plot(Plot&&) noexcept = default;
Plot& Plot::operator=(Plot&&) noexcept = default;

Panel& Plot::panel(std::string title, std::string x_label, std::string y_label) {
  panels_.push_back(std::make_unique<Panel>(std::move(title), std::move(x_label), std::move(y_label)));
  return *panels_.back();
}

Plot& Plot::columns(int count) {
  check<ArgumentError>(count >= 1, "Plot::columns: count = ", count, "; at least 1 is needed");
  columns_ = count;
  return *this;
}

Plot& Plot::panel_size(int width, int height) {
  check<ArgumentError>(width >= 50 && height >= 50 && width <= 10000 && height <= 10000, "Plot::panel_size: ", width,
                       " x ", height, "; 50 to 10000 is needed");
  width_ = width;
  height_ = height;
  return *this;
}

std::string Plot::script(const std::string& path) const { return script(picture_suffix(path), path); }

std::string Plot::script(const std::string& suffix, const std::string& path) const {
  const int count = std::max(1, static_cast<int>(panels_.size()));
  const int columns = columns_ > 0 ? std::min(columns_, count)
                      : count <= 3 ? count
                                   : static_cast<int>(std::ceil(std::sqrt(static_cast<double>(count))));
  const int rows = (count + columns - 1) / columns;
  const int header = title_.empty() ? 0 : 36;
  const double scale = suffix == ".png" ? 1.5 : 1;
  const long width = std::lround(scale * columns * width_), height = std::lround(scale * (rows * height_ + header));

  std::string out = "set encoding utf8\n";
  out += suffix == ".png"
             ? text("set terminal pngcairo noenhanced truecolor size ", width, ",", height,
                    " font 'Sans,10' fontscale 1.5 linewidth 1.5 pointscale 1.5 background '#ffffff'\n")
             : text("set terminal svg noenhanced size ", width, ",", height, " font 'Sans,12' background '#ffffff'\n");
  // gnuplot would take a leading | for a command and ~ for a home.
  out += text("set output ", quoted(path.starts_with('/') ? path : "./" + path), "\n");
  out += "set tics out nomirror textcolor rgb '#333333'\n";
  out += text("set palette defined (", kShades, ")\n");

  std::vector<std::size_t> first_block;
  std::size_t block = 0;
  for (const auto& panel : panels_) {
    first_block.push_back(block);
    for (const Series& s : panel->state_->series) {
      if (panel->state_->drawable(s)) {
        out += text("$d", block, " << EOD\n");
        panel->state_->write_data(s, out);
        out += "EOD\n";
      }
      ++block;
    }
  }
  out += text("set multiplot layout ", rows, ",", columns);
  if (!title_.empty()) out += text(" title ", quoted(title_), " font 'Sans:Bold,14'");
  out += "\n";
  for (std::size_t p = 0; p < panels_.size(); ++p) {
    const Panel::State& state = *panels_[p]->state_;
    const bool with_legend = std::any_of(state.series.begin(), state.series.end(),
                                         [&](const Series& s) { return !s.name.empty() && state.drawable(s); });
    out += state.commands(first_block[p], with_legend);
  }
  return out + "unset multiplot\nunset output\n";
}

void Plot::save(const std::string& path) const {
  const std::string suffix = picture_suffix(path);  // complains before anything is created
  AtomicFile file(path);
  const std::string commands = script(suffix, file.working_path());

  // Files rather than pipes: nothing can block, and a gnuplot that dies early raises no SIGPIPE here.
  using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;
  const File input(std::tmpfile(), &std::fclose), errors(std::tmpfile(), &std::fclose);
  check<FileError>(
      input != nullptr && errors != nullptr &&
          std::fwrite(commands.data(), 1, commands.size(), input.get()) == commands.size() &&
          std::fflush(input.get()) == 0,
      path, ": the commands for gnuplot cannot be kept in a temporary file: ", std::generic_category().message(errno));
  std::rewind(input.get());

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ::fileno(input.get()), 0);
  posix_spawn_file_actions_adddup2(&actions, ::fileno(errors.get()), 1);
  posix_spawn_file_actions_adddup2(&actions, ::fileno(errors.get()), 2);
  char name[] = "gnuplot", defaults[] = "--default-settings";
  char* arguments[] = {name, defaults, nullptr};
  pid_t child = -1;
  const int error = ::posix_spawnp(&child, name, &actions, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  check<BackendUnavailable>(error != ENOENT, path,
                            ": cannot be drawn: gnuplot was not found; install it (Debian, Ubuntu: gnuplot-nox)");
  check<BackendUnavailable>(error == 0, path,
                            ": cannot be drawn: gnuplot cannot be started: ", std::generic_category().message(error));
  int status = 0;
  pid_t waited;
  do {
    waited = ::waitpid(child, &status, 0);
  } while (waited < 0 && errno == EINTR);
  if (waited < 0) status = 0;  // an application that ignores SIGCHLD never learns: look at the file alone

  // gnuplot does not notice a disk that fills up: what matters is that the picture ends as it should.
  struct stat info {};
  bool drawn = ::stat(file.working_path().c_str(), &info) == 0;
  if (drawn && S_ISREG(info.st_mode)) {
    const std::string picture = read_raw_file(file.working_path());
    const std::string_view end = suffix == ".png" ? "IEND" : "</svg>";
    drawn = picture.size() > 12 && picture.find(end, picture.size() - 12) != std::string::npos;
  }
  if (status != 0 || !drawn) {
    std::string said(4096, '\0');
    std::rewind(errors.get());
    said.resize(std::fread(said.data(), 1, said.size(), errors.get()));
    for (char& c : said) c = c == '\n' ? ' ' : c;
    throw FileError(text(path, ": gnuplot could not draw it: ", said.empty() ? "the picture is not complete" : said));
  }
  file.commit();
}

}  // namespace dgm
