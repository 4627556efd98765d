// SPDX-License-Identifier: Apache-2.0
#include <dgm/data/metrics.hpp>
#include <dgm/data/table.hpp>

#include "tests/samples/program.hpp"
#include "tests/support/files.hpp"

#include <nlohmann/json.hpp>

#include <cmath>

namespace dgm::test {
namespace {

class MixtureProgram : public ::testing::Test {
 protected:
  Outcome run(const std::string& arguments) { return run_sample("mixture", "--device cpu " + arguments); }
  nlohmann::json report(const std::string& arguments) {
    const Outcome outcome = run(arguments + " --json " + (dir_ / "report.json"));
    EXPECT_EQ(outcome.status, 0) << outcome.output;
    return outcome.status == 0 ? nlohmann::json::parse(get(dir_ / "report.json")) : nlohmann::json();
  }
  void refused(const std::string& arguments, const std::string& words) {
    expect_refusal("mixture", "--device cpu " + arguments, words);
  }

  const std::string penguins_ = DGM_SAMPLES_DATA "/penguins_bill.csv";
  TempDir dir_;
};

TEST_F(MixtureProgram, FindsThePenguinsSpecies) {
  // scikit-learn's best of 30 starts reaches -1634.35 with a floor of the same kind.
  const auto json = report("--data " + penguins_ + " -k 3 --assignments " + (dir_ / "a.txt"));
  EXPECT_GE(json.at("log_likelihood").get<double>(), -1634.36);
  EXPECT_TRUE(json.at("converged").get<bool>());
  const Table species = read_table(DGM_SAMPLES_DATA "/penguins_species.csv");
  const Table assigned = read_table(dir_ / "a.txt");
  ASSERT_EQ(assigned.rows, species.rows);
  EXPECT_GT(adjusted_rand_index(std::vector<int32_t>(assigned.values.begin(), assigned.values.end()),
                                std::vector<int32_t>(species.values.begin(), species.values.end())),
            0.89);
}

TEST_F(MixtureProgram, GradientAscentComesWithinAThousandthOfEm) {
  const double em = report("--data " + penguins_ + " -k 3").at("log_likelihood");
  const double sgd = report("--data " + penguins_ + " -k 3 --method sgd --restarts 3").at("log_likelihood");
  EXPECT_GT(sgd, em - 1e-3 * std::abs(em));
}

TEST_F(MixtureProgram, SavedModelGivesTheSameAnswers) {
  const auto fitted = report("--data " + penguins_ + " --covariance diag --save " + (dir_ / "m.safetensors"));
  const auto loaded = report("--data " + penguins_ + " --load " + (dir_ / "m.safetensors"));
  for (const char* const key : {"log_likelihood", "weights", "means", "covariances", "bic", "assigned_rows"}) {
    EXPECT_EQ(loaded.at(key), fitted.at(key)) << key;
  }
  const Outcome scored = run("--load " + (dir_ / "m.safetensors") + " --score " + penguins_);
  EXPECT_EQ(scored.status, 0) << scored.output;
  EXPECT_NE(scored.output.find("342 rows"), std::string::npos) << scored.output;
}

TEST_F(MixtureProgram, ScoresEachHeldOutRow) {
  // Of one Gaussian the density is known: mean and variance of 1, 2, 3, 6 with the floor added.
  const std::string train = put(dir_ / "train.csv", "1\n2\n3\n6\n");
  const std::string held_out = put(dir_ / "new.csv", "3\n-1\n10\n");
  const double variance = 3.5 * (1 + 1e-6);
  std::vector<double> wanted;
  for (const double x : {3.0, -1.0, 10.0}) {
    wanted.push_back(-0.5 * ((x - 3) * (x - 3) / variance + std::log(2 * std::acos(-1.0) * variance)));
  }
  for (const char* const name : {"scores.txt", "scores.npy"}) {
    const auto json = report("-k 1 --data " + train + " --score " + held_out + " --scores " + (dir_ / name));
    const Table scores = read_table(dir_ / name);
    ASSERT_EQ(scores.values.size(), wanted.size()) << name;
    double total = 0;
    for (std::size_t n = 0; n < wanted.size(); ++n) {
      EXPECT_NEAR(scores.values[n], wanted[n], 1e-5) << name << ", row " << n;
      total += scores.values[n];
    }
    EXPECT_EQ(json.at("rows"), 4) << "the report is of the data";
    EXPECT_EQ(json.at("held_out").at("rows"), 3);
    EXPECT_NEAR(json.at("held_out").at("log_likelihood").get<double>(), total, 1e-9);
    EXPECT_NEAR(json.at("held_out").at("log_likelihood_per_row").get<double>(), total / 3, 1e-9);
  }
}

TEST_F(MixtureProgram, AssignsTheDataOrWithoutThemTheHeldOutRows) {
  const std::string model = dir_ / "m.safetensors";
  const std::string low_high = put(dir_ / "train.csv", "0\n0.1\n0.2\n100\n100.1\n");
  const std::string high = put(dir_ / "new.csv", "99\n101\n1\n");
  EXPECT_EQ(run("-k 2 --data " + low_high + " --save " + model + " --score " + high + " --assignments " + (dir_ / "a"))
                .status,
            0);
  const std::vector<double> of_data = read_table(dir_ / "a").values;
  ASSERT_EQ(of_data.size(), 5u);
  const double first = of_data[0];
  const double last = of_data[4];
  EXPECT_NE(first, last);
  EXPECT_EQ(of_data, (std::vector<double>{first, first, first, last, last}));
  for (const char* const name : {"b", "b.npy"}) {
    report("--load " + model + " --score " + high + " --assignments " + (dir_ / name));
    EXPECT_EQ(read_table(dir_ / name).values, (std::vector<double>{last, last, first})) << name;
  }
}

TEST_F(MixtureProgram, ReadsAllFilesBeforeItFits) {
  // A fit that took place would write the model.
  const std::string command = "-k 2 --data " + penguins_ + " --save " + (dir_ / "m") + " --score ";
  refused(command + put(dir_ / "ragged.csv", "1,2\n3\n"), "ragged.csv: line 2");
  refused(command + put(dir_ / "wide.csv", "1,2,3\n"), "wide.csv: has 3 columns; 2 are needed for " + penguins_);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "m"));
}

TEST_F(MixtureProgram, ReportsWhatItWasAskedToFit) {
  const auto json = report("--data " + penguins_ + " -k 3 --assignments " + (dir_ / "a"));
  const double log_likelihood = json.at("log_likelihood");
  EXPECT_EQ(json.at("rows"), 342);
  EXPECT_EQ(json.at("degrees_of_freedom"), 17);  // 2 weights, 6 means, 9 covariances
  EXPECT_NEAR(json.at("bic").get<double>(), -2 * log_likelihood + 17 * std::log(342.0), 1e-6);
  EXPECT_NEAR(json.at("aic").get<double>(), -2 * log_likelihood + 34, 1e-6);
  EXPECT_NEAR(json.at("log_likelihood_per_row").get<double>(), log_likelihood / 342, 1e-9);
  EXPECT_EQ(json.at("restarts").size(), 10u);
  std::vector<int64_t> sizes(3);
  for (const double k : read_table(dir_ / "a").values) ++sizes.at(static_cast<std::size_t>(k));
  EXPECT_EQ(json.at("assigned_rows").get<std::vector<int64_t>>(), sizes);
  EXPECT_EQ(report("--data " + penguins_ + " -k 3 --covariance diag --restarts 4").at("degrees_of_freedom"), 14);
  const auto sgd = report("--data " + penguins_ + " -k 3 --restarts 2 --method sgd");
  EXPECT_EQ(sgd.at("restarts").size(), 2u);
  EXPECT_EQ(sgd.at("history").size(), 41u) << "one in the beginning and every 50 of 2000 steps";
}

TEST_F(MixtureProgram, OtherSeedsGiveOtherRuns) {
  EXPECT_NE(report("--data " + penguins_ + " -k 5 --seed 7").at("restarts"),
            report("--data " + penguins_ + " -k 5 --seed 8").at("restarts"));
}

TEST_F(MixtureProgram, EqualSeedsGiveEqualReports) {
  EXPECT_EQ(report("--data " + penguins_ + " --seed 7"), report("--data " + penguins_ + " --seed 7"));
}

TEST_F(MixtureProgram, ReadsEveryFormatFromItsBytes) {
  const auto wanted = report("--data " + penguins_).at("log_likelihood");
  Table table = read_table(penguins_);
  std::string blanks;
  for (std::size_t n = 0; n < table.rows; ++n) {
    blanks += std::to_string(table.at(n, 0)) + "  " + std::to_string(table.at(n, 1)) + "\n";
  }
  EXPECT_EQ(report("--data " + put(dir_ / "blanks", blanks)).at("log_likelihood"), wanted);
  ASSERT_EQ(std::system(("gzip -kc " + penguins_ + " > " + (dir_ / "p.gz")).c_str()), 0);
  EXPECT_EQ(report("--data " + (dir_ / "p.gz")).at("log_likelihood"), wanted);
}

TEST_F(MixtureProgram, ChoosesColumns) {
  const auto json = report("--data " DGM_SAMPLES_DATA "/penguins.csv --columns bill_length_mm,2");
  EXPECT_EQ(json.at("columns"), (std::vector<std::string>{"bill_length_mm", "bill_depth_mm"}));
  refused("--data " + penguins_ + " --columns wing", "wing");
}

TEST_F(MixtureProgram, WorksOnLittleAndOddData) {
  EXPECT_EQ(run("-k 1 --data " + put(dir_ / "one.csv", "1,2\n")).status, 0);
  EXPECT_EQ(run("-k 2 --data " + put(dir_ / "constant.csv", "1,7\n2,7\n3,7\n9,7\n")).status, 0);
  EXPECT_EQ(run("-k 3 --data " + put(dir_ / "same.csv", "5\n5\n5\n5\n")).status, 0);
  EXPECT_EQ(run("-k 2 --data " + put(dir_ / "far.csv", "0\n1\n2\n3\n1e12\n")).status, 0);
  // More components than there are different points: some have no rows, and all that is printed is a number.
  const auto json = report("-k 4 --data " + put(dir_ / "two.csv", "1\n1\n1\n1\n9\n9\n9\n9\n"));
  EXPECT_TRUE(std::isfinite(json.at("log_likelihood").get<double>()));
  EXPECT_NEAR(json.at("weights")[0].get<double>() + json.at("weights")[1].get<double>() +
                  json.at("weights")[2].get<double>() + json.at("weights")[3].get<double>(),
              1, 1e-6);
}

TEST_F(MixtureProgram, ScoresPointsSoFarAwayThatTheyHaveNoDensity) {
  report("-k 2 --data " + penguins_ + " --save " + (dir_ / "m"));
  report("--load " + (dir_ / "m") + " --score " + put(dir_ / "far.csv", "1e9,3\n1e300,3\n") + " --scores " +
         (dir_ / "s") + " --assignments " + (dir_ / "a"));
  const Table scores = read_table(dir_ / "s", {.allow_non_finite = true, .columns = {}});
  EXPECT_LT(scores.values.at(0), -1e15);
  EXPECT_TRUE(std::isfinite(scores.values[0]));
  EXPECT_EQ(scores.values.at(1), -INFINITY);
  EXPECT_EQ(read_table(dir_ / "a").values.at(1), -1) << "no component is more probable than another";
}

TEST_F(MixtureProgram, KeepsTheOldModelWhenTheDiskIsFull) {
  report("-k 2 --data " + penguins_ + " --save " + (dir_ / "m"));
  const std::string before = get(dir_ / "m");
  const std::string program = DGM_SAMPLES_BINARIES "/mixture --device cpu --restarts 1 -k 300 --data " + penguins_;
  const std::string command =
      "(ulimit -f 2; trap '' XFSZ; " + program + " --save " + (dir_ / "m") + ") >/dev/null 2>" + (dir_ / "words");
  EXPECT_NE(std::system(command.c_str()), 0);
  EXPECT_NE(get(dir_ / "words").find((dir_ / "m") + ": cannot be written"), std::string::npos) << get(dir_ / "words");
  EXPECT_EQ(get(dir_ / "m"), before);
}

TEST_F(MixtureProgram, RefusesBadInputInWords) {
  refused("--data " + put(dir_ / "ragged.csv", "1,2\n3,4\n5,6,7\n"), "ragged.csv: line 3 has 3 fields");
  refused("--data " + put(dir_ / "nan.csv", "1,2\n3,nan\n"), "nan.csv: line 2, column 2");
  refused("--data " + put(dir_ / "inf.csv", "1,2\ninf,2\n"), "inf.csv: line 2, column 1");
  refused("--data " + put(dir_ / "word.csv", "1,2\n3,x\n"), "'x' is not a number");
  refused("--data " + put(dir_ / "empty.csv", ""), "empty.csv: is empty");
  refused("--data " + (dir_ / "none.csv"), "none.csv");
  refused("--data " + dir_.path(), dir_.path());
  refused("-k 5 --data " + put(dir_ / "few.csv", "1\n2\n3\n"), "few.csv: has 3 rows for 5 components");
  refused("--data " + penguins_ + " -k 0", "--components");
  refused("--data " + penguins_ + " --covariance round", "--covariance");
  expect_refusal("mixture", "--device gpu --data " + penguins_, "cpu, cuda, cuda:N or auto");
  refused("--data " + penguins_ + " --plot " + (dir_ / "p.jpg"), "p.jpg");
  refused("--data " + penguins_ + " --save " + (dir_ / "no/such/folder/m"), "no/such/folder");
  refused("--load " + put(dir_ / "junk.safetensors", "junk") + " --data " + penguins_, "junk.safetensors");
  refused("--data " + penguins_ + " --wings 2", "--wings");
  refused("", "--data or --load");
  ASSERT_EQ(run("--data " + penguins_ + " --save " + (dir_ / "m")).status, 0);
  refused("--load " + (dir_ / "m") + " --score " + put(dir_ / "wide.csv", "1,2,3\n"),
          "wide.csv: has 3 columns; 2 are needed for " + (dir_ / "m"));
  refused("--load " + (dir_ / "m") + " --json " + (dir_ / "r"), "--data or --score");
  refused("--data " + penguins_ + " --scores " + (dir_ / "s"), "--score");
}

TEST_F(MixtureProgram, ExplainsItself) {
  const Outcome outcome = run("--help");
  EXPECT_EQ(outcome.status, 0);
  for (const char* const option :
       {"--data", "--components", "--covariance", "--method", "--restarts", "--seed", "--device", "--save", "--load",
        "--assignments", "--plot", "--score", "--scores", "--json"}) {
    EXPECT_NE(outcome.output.find(option), std::string::npos) << option;
  }
}

TEST_F(MixtureProgram, DrawsAPicture) {
  if (std::system("gnuplot --version >/dev/null 2>&1") != 0) GTEST_SKIP() << "gnuplot is not installed";
  for (const char* const name : {"p.png", "p.svg"}) {
    EXPECT_EQ(run("--data " + penguins_ + " --plot " + (dir_ / name)).status, 0);
    EXPECT_GT(get(dir_ / name).size(), 2000u) << name;
  }
}

}  // namespace
}  // namespace dgm::test
