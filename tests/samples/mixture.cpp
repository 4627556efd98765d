// SPDX-License-Identifier: Apache-2.0
#include <dgm/data/metrics.hpp>
#include <dgm/data/table.hpp>

#include "tests/samples/program.hpp"
#include "tests/support/files.hpp"

#include <nlohmann/json.hpp>

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
}

TEST_F(MixtureProgram, RefusesBadInputInWords) {
  refused("--data " + put(dir_ / "ragged.csv", "1,2\n3,4\n5,6,7\n"), "ragged.csv: line 3 has 3 fields");
  refused("--data " + put(dir_ / "nan.csv", "1,2\n3,nan\n"), "nan.csv: line 2, column 2");
  refused("--data " + put(dir_ / "inf.csv", "1,2\ninf,2\n"), "inf.csv: line 2, column 1");
  refused("--data " + put(dir_ / "word.csv", "1,2\n3,x\n"), "'x' is not a number");
  refused("--data " + put(dir_ / "empty.csv", ""), "empty.csv: is empty");
  refused("--data " + (dir_ / "none.csv"), "none.csv");
  refused("--data " + dir_.path(), dir_.path());
  refused("-k 5 --data " + put(dir_ / "few.csv", "1\n2\n3\n"), "3 rows for 5 components");
  refused("--data " + penguins_ + " -k 0", "--components");
  refused("--data " + penguins_ + " --covariance round", "--covariance");
  expect_refusal("mixture", "--device gpu --data " + penguins_, "cpu, cuda, cuda:N or auto");
  refused("--data " + penguins_ + " --plot " + (dir_ / "p.jpg"), "p.jpg");
  refused("--data " + penguins_ + " --save " + (dir_ / "no/such/folder/m"), "no/such/folder");
  refused("--load " + put(dir_ / "junk.safetensors", "junk") + " --data " + penguins_, "junk.safetensors");
  refused("--data " + penguins_ + " --wings 2", "--wings");
  refused("", "--data or --load");
  ASSERT_EQ(run("--data " + penguins_ + " --save " + (dir_ / "m")).status, 0);
  refused("--load " + (dir_ / "m") + " --score " + put(dir_ / "wide.csv", "1,2,3\n"), "3 columns; 2 are needed");
}

TEST_F(MixtureProgram, ExplainsItself) {
  const Outcome outcome = run("--help");
  EXPECT_EQ(outcome.status, 0);
  for (const char* const option : {"--data", "--components", "--covariance", "--method", "--restarts", "--seed",
                                   "--device", "--save", "--load", "--assignments", "--plot", "--score", "--json"}) {
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
