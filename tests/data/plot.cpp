// SPDX-License-Identifier: Apache-2.0
#include <dgm/core/error.hpp>
#include <dgm/data/plot.hpp>

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>

#include "tests/support/files.hpp"

namespace dgm {
namespace {

using test::get;
using test::message_of;
using test::put;
using ::testing::ExitedWithCode;

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

/// Draws to a file, through gnuplot.
class DrawnPlot : public ::testing::Test {
 protected:
  void SetUp() override {
    if (std::system("gnuplot --version >/dev/null 2>&1") != 0) GTEST_SKIP() << "gnuplot is not installed";
  }
  /// The picture as SVG text.
  std::string draw(const Plot& plot) {
    plot.save(dir_ / "p.svg");
    return get(dir_ / "p.svg");
  }
  test::TempDir dir_;
};

TEST_F(DrawnPlot, IsAPngOfTheSizeAskedFor) {
  Plot plot;
  plot.panel_size(300, 200).panel().curve(std::vector<float>{1, 2, 3});
  plot.panel().curve(std::vector<int>{3, 2, 1});
  plot.save(dir_ / "p.PNG");
  const std::string png = get(dir_ / "p.PNG");
  ASSERT_GT(png.size(), 1000u);
  EXPECT_EQ(png.substr(0, 8), "\x89PNG\r\n\x1a\n");
  const auto word = [&](std::size_t at) {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(png[at + i]);
    return value;
  };
  EXPECT_EQ(word(16), 900u);  // two panels of 300 points, 1.5 pixels each
  EXPECT_EQ(word(20), 300u);
  EXPECT_EQ(dir_.names(), std::vector<std::string>{"p.PNG"});
}

TEST_F(DrawnPlot, ShowsTitlesLabelsAndLegendsAsTheyAre) {
  Plot plot("a_b^2 'quoted' {x}");
  plot.panel("größe @y &z", "back\\slash `date`", "$d0 \"%d\"").curve({1, 2}, "name_1").curve({2, 1}, "it's");
  const std::string svg = draw(plot);
  for (const char* part :
       {"a_b^2 'quoted' {x}", "größe @y &amp;z", "back\\slash `date`", "$d0 \"%d\"", "name_1", "it's"}) {
    EXPECT_NE(svg.find(part), std::string::npos) << part;
  }
}

TEST_F(DrawnPlot, CannotBeMadeToRunCommandsByItsText) {
  const std::string victim = dir_ / "victim";
  for (const std::string& attack : {"'; system('touch " + victim + "'); print '", "x\n!touch " + victim + "\n",
                                    "`touch " + victim + "`", "\"; system(\"touch " + victim + "\"); print \""}) {
    Plot plot(attack);
    plot.panel(attack, attack, attack).curve({1, 2}, attack).matrix({1, 2}, 1, 2, {attack}, {attack, attack});
    draw(plot);
    plot.save(dir_ / "it's `here`.svg");
    EXPECT_FALSE(std::filesystem::exists(victim)) << attack;
  }
}

TEST_F(DrawnPlot, DrawsEveryKindOfSeriesTogether) {
  Plot plot("all");
  plot.panel("left")
      .points({1, 2, 3}, {1, 4, 9}, "points")
      .points_by_class({1, 2, 3}, {3, 2, 1}, std::vector<std::int32_t>{0, 2, 0}, {"zero", "one", "two"})
      .ellipse({2, 2}, {1, .5, .5, 1})
      .line({1, 2, 3}, {2, 3, 4}, "line", {.dashed = true})
      .error_bars({1, 2}, {1, 2}, {.1, .2}, "bars")
      .band({1, 2, 3}, {0, 1, 2}, {1, 2, 3}, "band");
  plot.panel("right").density({1, 2, 3, 4, 5, 6}, 2, 3, {0, 3}, {0, 2}).points({1}, {1});
  plot.panel("below").matrix({1, 0, 0, NAN}, 2, 2, {"das", "Haus"}, {"the", "50 % %d"});
  plot.panel("log").log_x().log_y().curve({1, 10, 100}).x_range(1, 4);
  const std::string svg = draw(plot);
  for (const char* name : {"points", "zero", "two", "line", "bars", "band", "left", "das", "50 % %d"}) {
    EXPECT_NE(svg.find(">" + std::string(name) + "<"), std::string::npos) << name;
  }
  EXPECT_EQ(svg.find(">one<"), std::string::npos) << "a class without points is not in the legend";
}

TEST_F(DrawnPlot, SurvivesEmptySinglePointConstantAndNonFiniteSeries) {
  Plot plot;
  plot.panel("no series");
  plot.panel("no points").curve(std::vector<float>{}).points({}, {});
  plot.panel("NaN").curve({NAN, INFINITY, -INFINITY});
  plot.panel("one").curve({7}).points({1}, {1});
  plot.panel("constant").curve({5, 5, 5, 5});
  plot.panel("gap").curve({1, 2, NAN, 4, 5});
  plot.panel("log of none").log_y().curve({0, -1});
  plot.panel("log of some").log_x().log_y().curve({0, 1, -1, 1e-30, 1e30}).error_bars({1}, {1}, {2});
  plot.panel("flat ellipse").ellipse({1, 1}, {1, 1, 1, 1}).ellipse({0, 0}, {0, 0, 0, 0});
  plot.panel("one cell").matrix({3}, 1, 1);
  plot.panel("one row").density({3, 3, 3}, 1, 3, {0, 1}, {0, 1});
  plot.panel("all NaN").matrix({NAN, NAN}, 1, 2);
  plot.panel("huge").curve({1e300, -1e300});
  EXPECT_NE(draw(plot).find(">flat ellipse<"), std::string::npos);
  EXPECT_GT(draw(Plot("nothing at all")).size(), 100u);
}

TEST_F(DrawnPlot, LeavesTheOldPictureWhenItCannotBeWritten) {
  const std::string path = put(dir_ / "p.svg", "old");
  const auto with_little_room = [&] {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1 << 13, 1 << 13};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) ::_exit(1);
    Plot plot;
    plot.panel().curve(std::vector<int>(20000, 1));
    message_of<FileError>([&] { plot.save(path); });
    ::_exit(::testing::Test::HasFailure() ? 1 : 7);
  };
  EXPECT_EXIT(with_little_room(), ExitedWithCode(7), "");
  EXPECT_EQ(get(path), "old");
  EXPECT_EQ(dir_.names(), std::vector<std::string>{"p.svg"});
}

TEST(Plot, NamesAnUnknownSuffixAndAFolderThatIsNotThere) {
  const test::TempDir dir;
  EXPECT_EQ(message_of<FileError>([&] { Plot().save(dir / "p.pdf"); }),
            dir / "p.pdf" + ": a picture is .png or .svg, not .pdf");
  EXPECT_EQ(message_of<FileError>([&] { Plot().save("/x.png/p"); }),
            "/x.png/p: a picture is .png or .svg, not without suffix");
  EXPECT_EQ(message_of<FileError>([&] { Plot().save(dir / "no/p.png"); }),
            dir / "no/p.png" + ": cannot be created: No such file or directory");
  EXPECT_TRUE(dir.names().empty());
}

TEST(Plot, SaysWhatToInstallWhereGnuplotIsMissing) {
  const test::TempDir dir;
  const auto without_gnuplot = [&] {
    ::setenv("PATH", dir.path().c_str(), 1);
    const std::string message = message_of<BackendUnavailable>([&] { Plot().save(dir / "p.png"); });
    const std::string wanted = ": cannot be drawn: gnuplot was not found; install it (Debian, Ubuntu: gnuplot-nox)";
    ::_exit(message == dir / "p.png" + wanted && dir.names().empty() ? 7 : 1);
  };
  EXPECT_EXIT(without_gnuplot(), ExitedWithCode(7), "");
}

TEST(Plot, RepeatsWhatGnuplotSaysWhenItFailsAndNoticesHalfAPicture) {
  const test::TempDir dir;
  put(dir / "p.svg", "old");
  const auto with_gnuplot = [&](const std::string& does, const std::string& wanted) {
    const std::string fake = put(dir / "gnuplot", "#!/bin/sh\n" + does + "\n");
    std::filesystem::permissions(fake, std::filesystem::perms(0755));
    ::setenv("PATH", (dir.path() + ":/usr/bin:/bin").c_str(), 1);
    const std::string message = message_of<FileError>([&] { Plot().save(dir / "p.svg"); });
    ::_exit(message == dir / "p.svg" + ": gnuplot could not draw it: " + wanted ? 7 : 1);
  };
  EXPECT_EXIT(with_gnuplot("echo no such terminal >&2; exit 3", "no such terminal "), ExitedWithCode(7), "");
  EXPECT_EXIT(with_gnuplot("printf '<svg xmlns=' > $(sed -n 's/^set output \"\\(.*\\)\"$/\\1/p')",
                           "the picture is not complete"),
              ExitedWithCode(7), "");
  EXPECT_EQ(get(dir / "p.svg"), "old");
  EXPECT_EQ(dir.names().size(), 2u);
}

TEST(Plot, PutsTheOneAndTwoSigmaContoursWhereTheCovarianceSays) {
  // Every corner z of the contour at s standard deviations has (z - m)' C^-1 (z - m) = s^2.
  Plot plot;
  const double xx = 2.5, xy = -1.2, yy = .9, det = xx * yy - xy * xy;
  plot.panel().ellipse({3, -4}, {xx, xy, xy, yy}, {}, {1, 2.5});
  const std::string script = plot.script("p.svg");
  for (const auto& [block, sigma] : {std::pair{"$d0 << EOD\n", 1.}, {"$d1 << EOD\n", 2.5}}) {
    std::istringstream in(script.substr(script.find(block) + 11));
    double x = 0, y = 0;
    int corners = 0;
    for (; in >> x >> y; ++corners) {
      x -= 3;
      y += 4;
      EXPECT_NEAR((yy * x * x - 2 * xy * x * y + xx * y * y) / det, sigma * sigma, 1e-9);
    }
    EXPECT_EQ(corners, 97);
  }
}

TEST(Plot, ThinsOutLargeScatters) {
  Plot plot;
  const std::size_t n = 3 * Panel::kMostPoints + 1;
  std::vector<double> x(n);
  for (std::size_t i = 0; i < n; ++i) x[i] = static_cast<double>(i);
  plot.panel().points(x, x).points_by_class(x, x, std::vector<std::int32_t>(n, 0));
  const std::string script = plot.script("p.png");
  EXPECT_LE(count(script, "\n"), 2 * Panel::kMostPoints + 200);
  EXPECT_GE(count(script, "\n"), Panel::kMostPoints);
}

TEST(Plot, RefusesLengthsAndRangesThatDoNotFit) {
  Plot plot;
  Panel& panel = plot.panel();
  EXPECT_THROW(panel.points({1}, {1, 2}), ShapeError);
  EXPECT_THROW(panel.line({1}, {1, 2}), ShapeError);
  EXPECT_THROW(panel.points_by_class({1}, {1}, std::vector<std::int32_t>{}), ShapeError);
  EXPECT_THROW(panel.points_by_class({1}, {1}, std::vector<std::int32_t>{-1}), ArgumentError);
  EXPECT_THROW(panel.error_bars({1}, {1}, {}), ShapeError);
  EXPECT_THROW(panel.band({1}, {1}, {}), ShapeError);
  EXPECT_THROW(panel.matrix({1, 2}, 2, 2), ShapeError);
  EXPECT_THROW(panel.matrix({}, 0, 0), ShapeError);
  EXPECT_THROW(panel.matrix({1}, 1, 1, {"a", "b"}), ShapeError);
  EXPECT_THROW(panel.density({1}, 1, 1, {1, 1}, {0, 1}), ArgumentError);
  EXPECT_THROW(panel.ellipse({NAN, 0}, {1, 0, 0, 1}), ArgumentError);
  EXPECT_THROW(panel.x_range(1, 1), ArgumentError);
  EXPECT_THROW(plot.columns(0), ArgumentError);
  EXPECT_THROW(plot.panel_size(1, 1), ArgumentError);
}

}  // namespace
}  // namespace dgm
