// SPDX-License-Identifier: Apache-2.0
#include "tests/samples/program.hpp"
#include "tests/support/files.hpp"

#include <nlohmann/json.hpp>

#include <map>
#include <utility>

namespace dgm::test {
namespace {

class CompareEstimatorsProgram : public ::testing::Test {
 protected:
  using Lines = std::map<std::pair<std::string, int>, nlohmann::json>;
  Lines lines(const std::string& arguments) {
    const std::string path = dir_ / "table.json";
    outcome_ = run_sample("compare_estimators", "--device cpu " + arguments + " --json " + path);
    EXPECT_EQ(outcome_.status, 0) << arguments << "\n" << outcome_.output;
    Lines result;
    if (outcome_.status != 0) return result;
    const auto json = nlohmann::json::parse(get(path));
    for (nlohmann::json line : json["lines"]) {
      line.erase("seconds");
      result[{line["estimator"], line["samples"]}] = line;
    }
    return result;
  }
  // Bias in its standard errors.
  static double bias_of(const nlohmann::json& line) {
    return line["bias"].get<double>() / line["standard_error"].get<double>();
  }
  TempDir dir_;
  Outcome outcome_;
};

TEST_F(CompareEstimatorsProgram, BiasAndVarianceOfAContinuousModelAreThoseOfTheory) {
  const auto all = lines("--samples 1,2,32 --repetitions 1000");
  const auto number = [&](const char* name, int samples, const char* key) {
    return all.at({name, samples})[key].get<double>();
  };
  EXPECT_EQ(number("exact", 0, "bias"), 0);
  EXPECT_EQ(number("exact", 0, "variance"), 0);
  EXPECT_TRUE(all.at({"exact", 0})["pareto_k"].is_null());
  for (const char* const name : {"importance", "rws", "iwae", "dreg"}) {
    EXPECT_GT(bias_of(all.at({name, 2})), 6) << name;
    EXPECT_LT(number(name, 32, "bias"), number(name, 2, "bias") / 6) << name << " decays as 1/S";
    EXPECT_LT(number(name, 32, "variance"), number(name, 2, "variance") / 6) << name;
    EXPECT_GE(number(name, 32, "effective_sample_size"), 2) << name;
  }
  EXPECT_GT(number("elbo", 32, "bias"), 0.7 * number("elbo", 1, "bias")) << "the bound's gradient stays the bound's";
  for (const int samples : {1, 32}) EXPECT_LT(bias_of(all.at({"hmc", samples})), 3.5);
  EXPECT_GT(number("hmc", 1, "acceptance_rate"), 0.6);
  // Rainforth et al. 2018: the proposal's signal drowns for IWAE and rises for DReG.
  EXPECT_LT(number("iwae", 32, "proposal_signal_to_noise"), 0.6 * number("iwae", 2, "proposal_signal_to_noise"));
  EXPECT_GT(number("dreg", 32, "proposal_signal_to_noise"), 1.5 * number("dreg", 2, "proposal_signal_to_noise"));
  EXPECT_FALSE(all.contains({"vimco", 1})) << "needs two draws";
  EXPECT_TRUE(all.contains({"vimco", 2}));
  EXPECT_NE(outcome_.output.find("µs/step"), std::string::npos);
}

TEST_F(CompareEstimatorsProgram, BitsAreSummedOver) {
  const auto all = lines("--model bits --latent 3 --samples 4 --repetitions 4000 --parameters");
  EXPECT_LT(bias_of(all.at({"posterior", 4})), 3.5);
  EXPECT_GT(bias_of(all.at({"rws", 4})), 6);
  EXPECT_EQ(all.at({"exact", 0})["bias"].get<double>(), 0);
  EXPECT_EQ(all.size(), 8u);
  EXPECT_TRUE(all.at({"score", 4})["parameters"].contains("prior"));
  EXPECT_NE(outcome_.output.find("q logits"), std::string::npos) << "a line for each parameter";
}

TEST_F(CompareEstimatorsProgram, RunsRepeatAndSeedsDiffer) {
  const std::string few = "--estimators iwae,hmc --samples 3 --repetitions 5";
  const auto once = lines(few);
  EXPECT_EQ(lines(few), once);
  EXPECT_NE(lines(few + " --seed 2"), once);
}

TEST_F(CompareEstimatorsProgram, WarnsOfAProposalThatMissesThePosterior) {
  lines("--estimators rws --samples 50 --repetitions 50 --scale 0.2");
  EXPECT_NE(outcome_.output.find("k-hat above 0.7"), std::string::npos) << outcome_.output;
  lines("--estimators rws --samples 50 --repetitions 50");
  EXPECT_EQ(outcome_.output.find("k-hat above 0.7"), std::string::npos) << outcome_.output;
}

TEST_F(CompareEstimatorsProgram, DrawsBiasAndVariance) {
  lines("--estimators iwae,dreg,elbo --samples 1,8 --repetitions 20 --plot " + (dir_ / "plot.svg"));
  const std::string svg = get(dir_ / "plot.svg");
  EXPECT_NE(svg.find("<svg"), std::string::npos);
  EXPECT_NE(svg.find("iwae, dreg"), std::string::npos) << "one curve of the model's gradient";
}

TEST_F(CompareEstimatorsProgram, RefusesNonsense) {
  const auto refused = [](const std::string& arguments, const std::string& words) {
    expect_refusal("compare_estimators", "--device cpu " + arguments, words);
  };
  refused("--model bits --estimators iwae", "iwae does not work for --model bits, whose z is discrete");
  refused("--estimators posterior", "whose z is continuous");
  refused("--model bits --latent 13", "at most 12 bits");
  refused("--estimators best", "--estimators");
  refused("--samples 0", "--samples");
  refused("--repetitions 1", "--repetitions");
  refused("--plot plot.gif", ".png or .svg");
}

}  // namespace
}  // namespace dgm::test
