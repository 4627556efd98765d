// SPDX-License-Identifier: Apache-2.0
#include "tests/samples/program.hpp"
#include "tests/support/files.hpp"

#include <nlohmann/json.hpp>

#include <cmath>
#include <map>

namespace dgm::test {
namespace {

class VaeProgram : public ::testing::Test {
 protected:
  // A small and short training, but for what the arguments say themselves.
  static std::string small(const std::string& arguments) {
    std::string result = "--device cpu " + arguments;
    for (const std::string option : {"--epochs 4", "--hidden 24", "--latent 2", "--evaluate 50"}) {
      if (result.find(option.substr(0, option.find(' ') + 1)) == std::string::npos) result.append(" ").append(option);
    }
    return result;
  }

  nlohmann::json report(const std::string& arguments) {
    const Outcome outcome = run_sample("vae", small(arguments) + " --json " + (dir_ / "report.json"));
    EXPECT_EQ(outcome.status, 0) << arguments << "\n" << outcome.output;
    if (outcome.status != 0) return nlohmann::json();
    nlohmann::json json = nlohmann::json::parse(get(dir_ / "report.json"));
    json.erase("seconds");
    return json;
  }
  void refused(const std::string& arguments, const std::string& words) {
    expect_refusal("vae", small(arguments), words);
  }
  // Two kinds of images of 2 x 2: the left column white, or the right one.
  std::string stripes(const std::string& name, int count) {
    std::string lines;
    for (int n = 0; n < count; ++n) lines += n * 7 % 3 == 0 ? "1,0,1,0\n" : "0,1,0,1\n";
    return put(dir_ / name, lines);
  }
  // Width and height that a PNG states; 0 if it is none.
  static std::pair<int, int> png_size(const std::string& path) {
    const std::string bytes = get(path);
    if (bytes.size() < 24 || bytes.compare(1, 3, "PNG") != 0) return {0, 0};
    const auto number = [&](std::size_t at) {
      int value = 0;
      for (std::size_t i = at; i < at + 4; ++i) value = 256 * value + static_cast<unsigned char>(bytes[i]);
      return value;
    };
    return {number(16), number(20)};
  }
  TempDir dir_;
};

TEST_F(VaeProgram, FindsTheEntropyOfTwoKindsOfImages) {
  const std::string data = stripes("stripes.csv", 300);
  for (const char* const estimator : {"elbo", "iwae --samples 5", "dreg --samples 5",
                                      "reweighted-wake-sleep --samples 20", "wake-sleep", "hmc --samples 4"}) {
    const auto json =
        report("--data " + data + " --epochs 150 --rate 0.01 --batch 30 --evaluate 500 --estimator " + estimator);
    // A third of them is of the first kind.
    // A Gaussian q is no posterior of two classes.
    const std::map<std::string, double> loose = {{"elbo", 0.25}, {"wake-sleep", 0.35}};
    const double bound = loose.contains(estimator) ? loose.at(estimator) : 0.07;
    EXPECT_NEAR(json.at("nats").get<double>(), std::log(3.0) - 2.0 / 3 * std::log(2.0), bound) << estimator;
  }
}

TEST_F(VaeProgram, LearnsTheDigitsThatShipWithIt) {
  const auto json = report("--epochs 10 --latent 8");
  EXPECT_EQ(json.at("pixels"), 64);
  const auto& training = json.at("training");
  ASSERT_EQ(training.size(), 10u);
  EXPECT_GT(training[9].get<double>(), training[0].get<double>() + 2);
  EXPECT_GT(-json.at("nats").get<double>(), json.at("best_bound").get<double>()) << "the bound is below the evidence";
}

TEST_F(VaeProgram, SavedModelGivesTheSameFigures) {
  const auto trained = report("--save " + (dir_ / "m"));
  const auto loaded = report("--load " + (dir_ / "m"));
  EXPECT_EQ(loaded.at("nats"), trained.at("nats"));
  EXPECT_EQ(loaded.at("latent"), 2);
}

TEST_F(VaeProgram, GoesOnFromACheckpointToTheSameEndWhereverItWasKilled) {
  const std::string arguments = "--kl-warmup 3 --free-bits 0.1 --epochs 30";
  const auto whole = report(arguments);
  const std::string checkpoint = " --checkpoint " + (dir_ / "c");
  for (const char* const seconds : {"0.15", "0.3", "0.5"}) {
    const std::string command = "timeout -s KILL " + std::string(seconds) + " " DGM_SAMPLES_BINARIES "/vae " +
                                small(arguments + checkpoint) + " >/dev/null 2>&1";
    [[maybe_unused]] const int status = std::system(command.c_str());
  }
  EXPECT_EQ(report(arguments + checkpoint), whole);
  EXPECT_EQ(report(arguments + checkpoint), whole) << "a finished training, gone on with, is as it was";
}

TEST_F(VaeProgram, ThreadsDrawTheSameNumbers) {
  const auto one = report("--threads 1 --estimator iwae --samples 5");
  const auto two = report("--threads 2 --estimator iwae --samples 5");
  EXPECT_NEAR(one.at("nats").get<double>(), two.at("nats").get<double>(), 1e-2);
  EXPECT_NEAR(one.at("training")[0].get<double>(), two.at("training")[0].get<double>(), 1e-3);
}

TEST_F(VaeProgram, DrawsPictures) {
  report("--generate " + (dir_ / "g.png") + " --reconstruct " + (dir_ / "r.png") + " --latent-plot " +
         (dir_ / "l.svg") + " --labels " DGM_SAMPLES_DATA "/digits_class.csv");
  EXPECT_GT(png_size(dir_ / "g.png").first, 10 * 8 * 8);
  EXPECT_EQ(png_size(dir_ / "g.png").first, png_size(dir_ / "g.png").second);
  EXPECT_EQ(png_size(dir_ / "r.png"), png_size(dir_ / "g.png")) << "5 rows of images and 5 of reconstructions";
  EXPECT_NE(get(dir_ / "l.svg").find("posterior means"), std::string::npos);
}

TEST_F(VaeProgram, BinarisesAsItIsAskedTo) {
  std::string lines;
  for (int n = 0; n < 200; ++n) lines += "2,2,0,2\n";
  lines += "4,4,4,4\n";
  const std::string train = put(dir_ / "grey.csv", lines);
  const std::string valid = put(dir_ / "valid.csv", "2,2,0,2\n");
  const auto nats = [&](const std::string& how) {
    return report("--epochs 60 --rate 0.01 --batch 20 --evaluate 500 --data " + train + " --valid " + valid +
                  " --binarise " + how)
        .at("nats")
        .get<double>();
  };
  // Three fair coins, whether they are tossed or expected.
  for (const char* const how : {"none", "dynamic", "static"}) EXPECT_NEAR(nats(how), 3 * std::log(2.0), 0.4) << how;
}

TEST_F(VaeProgram, GreyLevelsCanHaveProbabilitiesOfTheirOwn) {
  // Three values of a pixel with known shares, which no two-valued pixel could have.
  std::string lines;
  for (int n = 0; n < 300; ++n) lines += n % 3 == 0 ? "0,2\n" : n % 3 == 1 ? "1,2\n" : "2,0\n";
  const std::string data = put(dir_ / "grey.csv", lines);
  const auto json = report(
      "--epochs 150 --rate 0.01 --batch 30 --evaluate 500 --pixels categorical --estimator iwae "
      "--samples 10 --data " +
      data);
  EXPECT_EQ(json.at("levels"), 3);
  EXPECT_NEAR(json.at("nats").get<double>(), std::log(3.0), 0.1);
  const auto digits = report("--pixels categorical --generate " + (dir_ / "g.png") + " --save " + (dir_ / "m"));
  EXPECT_EQ(digits.at("levels"), 17) << "the digits' own";
  EXPECT_GT(png_size(dir_ / "g.png").first, 10 * 8 * 8);
  EXPECT_EQ(report("--load " + (dir_ / "m")).at("nats"), digits.at("nats"));
  EXPECT_EQ(report("--pixels categorical --levels 4").at("levels"), 4);
  refused("--levels 4", "--levels is about --pixels categorical");
  refused("--pixels categorical --binarise static", "--binarise is about --pixels binary");
}

TEST_F(VaeProgram, ReadsImagesInIdxFormatPlainOrGzipped) {
  // 40 images of 2 x 3 bytes, as MNIST stores them.
  std::string idx("\0\0\x08\x03\0\0\0\x28\0\0\0\x02\0\0\0\x03", 16);
  for (int n = 0; n < 40; ++n) {
    for (int d = 0; d < 6; ++d) idx += static_cast<char>((n + d) % 2 == 0 ? 255 : 0);
  }
  const std::string plain = put(dir_ / "images-idx3-ubyte", idx);
  const auto json = report("--binarise none --generate " + (dir_ / "g.png") + " --width 3 --data " + plain);
  EXPECT_EQ(json.at("pixels"), 6);
  ASSERT_EQ(std::system(("gzip -k " + plain).c_str()), 0);
  EXPECT_EQ(report("--binarise none --data " + plain + ".gz").at("nats"), json.at("nats"));
  refused("--data " + put(dir_ / "cut-idx3-ubyte", idx.substr(0, 100)), "cut-idx3-ubyte");
}

TEST_F(VaeProgram, ALossThatIsNotANumberNamesTheStepAndKeepsTheCheckpoint) {
  const std::string checkpoint = dir_ / "c";
  report("--checkpoint " + checkpoint);
  const std::string before = get(checkpoint);
  // Going on with a rate that no model survives: the checkpoint allows another rate.
  refused("--epochs 40 --rate 1e30 --checkpoint " + checkpoint, "of step ");
  EXPECT_EQ(get(checkpoint), before);
}

TEST_F(VaeProgram, RefusesBadInputInWords) {
  const std::string data = stripes("stripes.csv", 30);
  refused("--data " + (dir_ / "none.csv"), "none.csv");
  refused("--data " + put(dir_ / "ragged.csv", "1,0\n1\n"), "ragged.csv: line 2");
  refused("--data " + put(dir_ / "nan.csv", "1,0\nnan,1\n"), "nan.csv: line 2, column 1");
  refused("--data " + put(dir_ / "negative.csv", "1,0\n-1,1\n1,1\n1,1\n1,1\n1,1\n1,1\n1,1\n1,1\n1,1\n"),
          "negative.csv: row 2, column 1 is -1");
  refused("--data " + put(dir_ / "few.csv", "1,0\n0,1\n"), "few.csv: has 2 rows; at least 10");
  refused("--data " + data + " --valid " + put(dir_ / "narrow.csv", "1,0\n"), "narrow.csv: has 2 columns");
  refused("--data " + data + " --valid " + put(dir_ / "bright.csv", "1,0,0,9\n"), "bright.csv: row 1, column 4 is 9");
  refused("--data " + data + " --latent 3 --latent-plot " + (dir_ / "l.png"), "--latent 2 is needed");
  refused("--data " + data + " --estimator magic", "magic");
  refused("--data " + data + " --estimator iwae --free-bits 1", "--free-bits");
  refused("--data " + data + " --width 3", "stripes.csv: its rows of 4 pixels are no images");
  refused("--data " + data + " --generate " + (dir_ / "g.jpg"), "g.jpg: images are written as .png");
  refused("--data " + data + " --labels " + put(dir_ / "labels.csv", "1\n2\n"), "labels.csv: has 2 rows");
  refused("--data " + data + " --load " + put(dir_ / "m", "no model"), (dir_ / "m"));
  report("--save " + (dir_ / "digits"));
  refused("--data " + data + " --load " + (dir_ / "digits"), "64 are needed");
}

}  // namespace
}  // namespace dgm::test
