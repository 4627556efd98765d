// SPDX-License-Identifier: Apache-2.0
#include "tests/samples/program.hpp"
#include "tests/support/files.hpp"

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdlib>

namespace dgm::test {
namespace {

class LatentFactorsProgram : public ::testing::Test {
 protected:
  // A small and short training, but for what the arguments say themselves.
  std::string small(const std::string& arguments) {
    std::string result = "--device cpu " + arguments;
    for (const std::string option : {"--epochs 3", "--hidden 8", "--embedding 4", "--bits 3", "--evaluate 40"}) {
      if (result.find(option.substr(0, option.find(' ') + 1)) == std::string::npos) result.append(" ").append(option);
    }
    if (result.find("--data ") == std::string::npos) result += " --data " + words();
    return result;
  }
  nlohmann::json report(const std::string& arguments) {
    const Outcome outcome = run_sample("latent_factors", small(arguments) + " --json " + (dir_ / "report.json"));
    EXPECT_EQ(outcome.status, 0) << arguments << "\n" << outcome.output;
    if (outcome.status != 0) return nlohmann::json();
    nlohmann::json json = nlohmann::json::parse(get(dir_ / "report.json"));
    for (auto& result : json["results"]) result.erase("seconds");
    return json;
  }
  nlohmann::json result(const std::string& arguments) { return report(arguments)["results"][0]; }
  void refused(const std::string& arguments, const std::string& words) {
    expect_refusal("latent_factors", small(arguments), words);
  }
  // Four words, 30 times each; of the 12 that are held out every word is three.
  std::string words() {
    std::string text;
    const char* const four[] = {"ab\n", "ba\n", "ñandú\n", "baba\n"};
    for (int n = 0; n < 120; ++n) text += four[(n + n / 10) % 4];
    return put(dir_ / "words.txt", text);
  }
  TempDir dir_;
};

TEST_F(LatentFactorsProgram, FindsTheEntropyOfFourWordsWithAndWithoutACode) {
  for (const char* const how : {"--model lstm", "--estimator exact", "--estimator vimco", "--estimator reinforce"}) {
    const auto json = result("--epochs 60 --batch 20 --rate 0.02 --hidden 16 " + std::string(how));
    EXPECT_NEAR(json.at("nats").get<double>(), std::log(4.0), 0.08) << how;
  }
}

TEST_F(LatentFactorsProgram, TheSumThatTrainsIsTheSumThatScores) {
  const auto json = result("--estimator exact --evaluate 1000 --epochs 2");
  EXPECT_EQ(json.at("evaluated"), 12);
  EXPECT_EQ(json.at("standard_error"), 0.0);
  EXPECT_NEAR(json.at("nats").get<double>(), json.at("best_bound").get<double>(), 1e-4);
}

TEST_F(LatentFactorsProgram, TheBoundOfEveryEstimatorLiesAboveTheExactSum) {
  const auto json = report("--estimator reinforce,nvil,leave-one-out,vimco --bits 12 --evaluate 1000 --epochs 4");
  ASSERT_EQ(json.at("results").size(), 4u);
  for (const auto& one : json.at("results")) {
    EXPECT_GT(one.at("best_bound").get<double>(), one.at("nats").get<double>() - 0.02) << one.dump();
    EXPECT_LT(one.at("training")[3].get<double>(), one.at("training")[0].get<double>()) << one.dump();
  }
}

TEST_F(LatentFactorsProgram, ComparesTheGradientsOfFewBitsWithTheExactOne) {
  const Outcome outcome = run_sample("latent_factors", small("--compare --epochs 1"));
  EXPECT_EQ(outcome.status, 0) << outcome.output;
  for (const char* const name :
       {"VIMCO (S = 5)", "NVIL (S = 5)", "leave one out (S = 5)", "posterior sampling", "by the parameters of q"}) {
    EXPECT_NE(outcome.output.find(name), std::string::npos) << name << "\n" << outcome.output;
  }
}

TEST_F(LatentFactorsProgram, SavedModelGivesTheSameFigures) {
  const auto trained = result("--save " + (dir_ / "m"));
  const auto loaded = result("--load " + (dir_ / "m"));
  EXPECT_EQ(loaded.at("nats"), trained.at("nats"));
  refused("--load " + (dir_ / "m") + " --valid " + put(dir_ / "strange.txt", "ab\nabc\n"),
          "strange.txt: line 2 has the letter \"c\"");
}

TEST_F(LatentFactorsProgram, GoesOnFromACheckpointToTheSameEndWhereverItWasKilled) {
  const std::string arguments = "--epochs 40 --dropout 0.2";
  const auto whole = report(arguments);
  const std::string checkpoint = " --checkpoint " + (dir_ / "c");
  for (const char* const seconds : {"0.1", "0.2"}) {
    const std::string command = "timeout -s KILL " + std::string(seconds) +
                                " " DGM_SAMPLES_BINARIES "/latent_factors " + small(arguments + checkpoint) +
                                " >/dev/null 2>&1";
    [[maybe_unused]] const int status = std::system(command.c_str());
  }
  EXPECT_EQ(report(arguments + checkpoint), whole);
}

TEST_F(LatentFactorsProgram, ThreadsDrawTheSameNumbers) {
  const auto one = result("--threads 1 --letter-dropout 0.3 --dropout 0.1");
  const auto two = result("--threads 2 --letter-dropout 0.3 --dropout 0.1");
  EXPECT_NEAR(one.at("nats").get<double>(), two.at("nats").get<double>(), 1e-3);
  EXPECT_NEAR(one.at("training")[0].get<double>(), two.at("training")[0].get<double>(), 1e-4);
}

TEST_F(LatentFactorsProgram, GeneratesAndExplains) {
  const Outcome outcome = run_sample("latent_factors", small("--generate 7 --explain baba --epochs 1"));
  EXPECT_EQ(outcome.status, 0) << outcome.output;
  EXPECT_NE(outcome.output.find("words drawn from the model"), std::string::npos) << outcome.output;
  EXPECT_NE(outcome.output.find("baba: "), std::string::npos) << outcome.output;
}

TEST_F(LatentFactorsProgram, RefusesBadInputInWords) {
  refused("--data " + (dir_ / "none.txt"), "none.txt");
  refused("--data " + put(dir_ / "empty.txt", ""), "empty.txt: has no words");
  refused("--data " + put(dir_ / "gap.txt", "ab\n\nba\n"), "gap.txt: line 2 is empty");
  refused("--data " + put(dir_ / "latin1.txt", "ab\n\xF1\n"), "latin1.txt: line 2 is not UTF-8");
  refused("--data " + put(dir_ / "few.txt", "ab\nba\n"), "few.txt: has 2 words; at least 10");
  refused("--data " + put(dir_ / "long.txt", std::string(201, 'a') + "\n"), "long.txt: line 1 has 201 letters");
  refused("--data " + put(dir_ / "tab.txt", "a\tb\n"), "tab.txt: line 1 has a control character");
  refused("--valid " + put(dir_ / "other.txt", "ab\nzz\n"), "other.txt: line 2 has the letter \"z\"");
  refused("--explain xyz", "--explain: the word has the letter \"x\"");
  refused("--bits 0", "--bits");
  refused("--bits 21", "--bits");
  refused("--bits 16 --estimator exact", "--bits 10 or fewer");
  refused("--bits 16 --compare", "--bits 10 or fewer");
  refused("--samples 1", "--samples 1");
  refused("--estimator magic", "magic");
  refused("--model lstm --compare", "--model latent");
  refused("--estimator vimco,nvil --save " + (dir_ / "m"), "one --estimator");
  refused("--load " + put(dir_ / "bad", "no model"), (dir_ / "bad"));
}

}  // namespace
}  // namespace dgm::test
