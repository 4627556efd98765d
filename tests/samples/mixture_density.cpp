// SPDX-License-Identifier: Apache-2.0
#include "tests/samples/program.hpp"
#include "tests/support/files.hpp"

#include <nlohmann/json.hpp>

#include <cmath>
#include <random>

namespace dgm::test {
namespace {

class MixtureDensityProgram : public ::testing::Test {
 protected:
  // x is 1 + y or -1 - y, whichever a coin says, with noise of 0.1, times `unit`.
  std::string two_branches(const std::string& name, double unit) {
    std::mt19937_64 generator(3);
    std::normal_distribution<double> normal;
    std::string lines = "y,x\n";
    for (int n = 0; n < 600; ++n) {
      const double y = static_cast<double>(generator() % 1000) / 1000;
      const double side = generator() % 2 == 0 ? 1 : -1;
      lines += std::to_string(y) + "," + std::to_string(unit * (side * (1 + y) + 0.1 * normal(generator))) + "\n";
    }
    return put(dir_ / name, lines);
  }
  nlohmann::json report(const std::string& arguments) {
    const Outcome outcome = run_sample("mixture_density", "--device cpu --epochs 40 --hidden 16 --batch 32 " +
                                                              arguments + " --json " + (dir_ / "report.json"));
    EXPECT_EQ(outcome.status, 0) << outcome.output;
    return outcome.status == 0 ? nlohmann::json::parse(get(dir_ / "report.json")) : nlohmann::json();
  }
  TempDir dir_;
};

TEST_F(MixtureDensityProgram, FindsTwoBranchesWhereOneGaussianCannot) {
  const auto json = report("-k 2 --compare --data " + two_branches("two.csv", 1));
  ASSERT_EQ(json.size(), 2u);
  EXPECT_EQ(json[0].at("components"), 1);
  // A Gaussian over both branches has a deviation of 1 + y, two have 0.1 and half the weight each.
  const double single = -1.42 - 0.39;
  const double both = -1.42 - std::log(2.0) - std::log(0.1);
  EXPECT_NEAR(json[0].at("test").get<double>(), single, 0.15);
  EXPECT_NEAR(json[1].at("test").get<double>(), both, 0.25);
}

TEST_F(MixtureDensityProgram, LearnsWhichBranchIsLikelyWhere) {
  // Beside y = 0 nearly all is on one branch, beside y = 1 on the other.
  std::mt19937_64 generator(7);
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;
  std::string lines = "y,x\n";
  for (int n = 0; n < 1200; ++n) {
    const double y = uniform(generator);
    const double side = uniform(generator) < y * y * y * y ? 1 : -1;
    lines += std::to_string(y) + "," + std::to_string(side + 0.1 * normal(generator)) + "\n";
  }
  const auto json = report("-k 2 --data " + put(dir_ / "likely.csv", lines));
  // The entropy of the branch is the integral of h(y^4), 0.280; were it the same for all y, h(1/5) = 0.500.
  const double within = -1.42 - std::log(0.1);
  EXPECT_NEAR(json[0].at("train").get<double>(), within - 0.280, 0.08);
}

TEST_F(MixtureDensityProgram, ScoresInTheUnitsOfTheTarget) {
  const auto metres = report("-k 2 --data " + two_branches("m.csv", 1));
  const auto millimetres = report("-k 2 --data " + two_branches("mm.csv", 1000));
  for (const char* const part : {"train", "validation", "test"}) {
    EXPECT_NEAR(millimetres[0].at(part).get<double>(), metres[0].at(part).get<double>() - std::log(1000.0), 0.02)
        << part;
  }
}

TEST_F(MixtureDensityProgram, GoesOnFromACheckpointToTheSameEnd) {
  const std::string data = two_branches("two.csv", 1);
  const auto whole = report("-k 2 --data " + data);
  report("-k 2 --data " + data + " --checkpoint " + (dir_ / "c"));
  const auto again = report("-k 2 --data " + data + " --checkpoint " + (dir_ / "c"));
  EXPECT_EQ(again, whole) << "a finished training, gone on with, is as it was";
}

TEST_F(MixtureDensityProgram, RefusesBadInputInWords) {
  const std::string data = two_branches("two.csv", 1);
  expect_refusal("mixture_density", "--data " + data + " --target z", "two.csv: has no column \"z\"");
  expect_refusal("mixture_density", "--data " + put(dir_ / "one.csv", "x\n1\n2\n"), "one.csv: has 1 column");
  expect_refusal("mixture_density", "--data " + data + " --log x", "two.csv");
  expect_refusal("mixture_density", "--data " + put(dir_ / "ragged.csv", "y,x\n1,2\n3\n"), "ragged.csv: line 3");
}

}  // namespace
}  // namespace dgm::test
