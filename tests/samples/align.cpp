// SPDX-License-Identifier: Apache-2.0
#include <dgm/data/bitext.hpp>
#include <dgm/data/file.hpp>
#include <dgm/data/links.hpp>
#include <dgm/models/alignment_model.hpp>

#include "tests/samples/program.hpp"
#include "tests/support/files.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace dgm::test {
namespace {

class AlignProgram : public ::testing::Test {
 protected:
  AlignProgram() {
    put(dir_ / "s", "the house\nthe book\na book\na house\nthe red house\na red book\nthe cat\na cat\n");
    put(dir_ / "t", "das haus\ndas buch\nein buch\nein haus\ndas rote haus\nein rotes buch\ndie katze\neine katze\n");
  }

  Outcome run(const std::string& arguments) { return run_sample("align", "--device cpu " + arguments); }
  /// The same where it has to work; returns what it wrote to --links.
  std::string links(const std::string& arguments) {
    const std::string out = dir_ / "links";
    const Outcome outcome = run(arguments + " --links " + out);
    EXPECT_EQ(outcome.status, 0) << arguments << "\n" << outcome.output;
    return outcome.status == 0 ? get(out) : "";
  }
  void refused(const std::string& arguments, const std::string& words) {
    expect_refusal("align", "--device cpu " + arguments, words);
  }
  std::string text() const { return "--source " + (dir_ / "s") + " --target " + (dir_ / "t") + " "; }
  std::string texts(const std::string& source, const std::string& target) {
    return "--source " + put(dir_ / "s2", source) + " --target " + put(dir_ / "t2", target) + " ";
  }

  TempDir dir_;
};

TEST_F(AlignProgram, LinksWhatTranslatesWhat) {
  const std::string found = links(text() + "--model ibm1 --iterations 20");
  EXPECT_TRUE(found.starts_with("0-0 1-1\n0-0 1-1\n0-0 1-1\n0-0 1-1\n0-0 1-1 2-2\n0-0 1-1 2-2\n")) << found;
}

TEST_F(AlignProgram, GivesTheSameLinksFromJoinedTextOnStandardOutputAndForAnyThreads) {
  put(dir_ / "j", "");
  const Bitext bitext = read_bitext(dir_ / "s", dir_ / "t");
  std::string joined;
  for (std::int64_t p = 0; p < bitext.pairs(); ++p) {
    for (const std::int32_t word : bitext.source_sentence(p)) joined += std::string(bitext.source->word(word)) + " ";
    joined += "|||";
    for (const std::int32_t word : bitext.target_sentence(p)) joined += " " + std::string(bitext.target->word(word));
    joined += "\n";
  }
  for (const std::string& model : alignment_models()) {
    const std::string arguments = "--model " + model + " --iterations 3 ";
    const std::string wanted = links(text() + arguments);
    EXPECT_EQ(links("--input " + put(dir_ / "j", joined) + " " + arguments), wanted) << model;
    for (const char* threads : {"1", "2", "3"})
      EXPECT_EQ(links(text() + arguments + "--threads " + threads), wanted) << model;
    const Outcome outcome = run_sample("align", text() + arguments + ">" + (dir_ / "out") + " 2>/dev/null; true");
    EXPECT_EQ(outcome.output, "") << model;
    EXPECT_EQ(get(dir_ / "out"), wanted) << model;
  }
}

TEST_F(AlignProgram, AloneWithASavedModelGivesTheLinksThatTrainingGave) {
  const std::string model_file = dir_ / "m.safetensors";
  for (const std::string& model : alignment_models()) {
    for (const std::string more :
         {"", "--reverse", "--symmetrise grow-diag-final-and", "--symmetrise agreement --threshold 0.3"}) {
      const std::string trained =
          links(text() + "--lowercase --iterations 3 --model " + model + " " + more + " --save " + model_file);
      EXPECT_EQ(links(text() + "--align-only --load " + model_file), trained) << model << " " << more;
    }
  }
}

TEST_F(AlignProgram, SaysHowManyWordsALoadedModelDoesNotKnow) {
  const std::string model = dir_ / "m.safetensors";
  links(text() + "--model ibm1 --save " + model);
  const Outcome outcome =
      run(texts("the green house\nqua quo\n", "das haus\nein haus\n") + "--load " + model + " --links " + (dir_ / "l"));
  EXPECT_EQ(outcome.status, 0) << outcome.output;
  EXPECT_NE(outcome.output.find("3 of the 5 words of s2 were not in the training text (60.00 %)"), std::string::npos)
      << outcome.output;
  const std::string found = get(dir_ / "l");
  EXPECT_EQ(std::count(found.begin(), found.end(), '\n'), 2) << found;
  refused(texts("uno\n", "das\n") + "--load " + model, "knows none of the 1 words of s2");
  refused(text() + "--load " + (dir_ / "s"), "s: ");
  refused(text() + "--align-only", "--load");
}

TEST_F(AlignProgram, ScoresTheLastFileOrFromALineOn) {
  put(dir_ / "gold", "1 1 1 S\n1 2 2 S\n2 1 1 S\n2 2 2 P\n");
  const auto scores = [&](const std::string& arguments) {
    links(arguments + " --model ibm1 --iterations 20 --json " + (dir_ / "report.json"));
    return nlohmann::json::parse(get(dir_ / "report.json")).at("scores").at("forward");
  };
  const auto first = scores(text() + "--gold " + (dir_ / "gold"));
  EXPECT_EQ(first.at("aer"), 0.0);
  EXPECT_EQ(first.at("sure"), 3);
  EXPECT_EQ(first.at("links"), 4);
  // Three words a side from the fifth line on: one link more than gold knows.
  const auto later = scores(text() + "--gold-from 5 --gold " + (dir_ / "gold"));
  EXPECT_DOUBLE_EQ(later.at("precision"), 4.0 / 6);
  put(dir_ / "s3", "the cat\na cat\n");
  put(dir_ / "t3", "die katze\neine katze\n");
  put(dir_ / "gold", "1 1 2 S\n2 1 1 S\n");
  const auto last = scores("--source " + (dir_ / "s") + " " + (dir_ / "s3") + " --target " + (dir_ / "t") + " " +
                           (dir_ / "t3") + " --gold " + (dir_ / "gold"));
  EXPECT_EQ(last.at("links"), 4);
  EXPECT_DOUBLE_EQ(last.at("recall"), 0.5);
  refused(text() + "--gold-from 8 --gold " + (dir_ / "gold"), "there are only 1 pairs");
  refused(text() + "--gold " + put(dir_ / "bad", "1 3 1 S\n"),
          "links word 3 of the source of sentence 1, which has 2 words");
  refused(text() + "--gold " + put(dir_ / "bad", "0-0 1-1\n"), "line 1");
}

TEST_F(AlignProgram, TellsWhichSideIsGeneratedAndTheLikelihood) {
  const Outcome outcome =
      run(text() + "--model ibm1 --iterations 2 --symmetrise union --json " + (dir_ / "r") + " --links /dev/null");
  EXPECT_EQ(outcome.status, 0) << outcome.output;
  EXPECT_NE(outcome.output.find("forward: p(target | source), each word of t is generated from a word of s or NULL"),
            std::string::npos)
      << outcome.output;
  EXPECT_NE(outcome.output.find("reverse: p(source | target), each word of s is generated from a word of t or NULL"),
            std::string::npos)
      << outcome.output;
  const auto report = nlohmann::json::parse(get(dir_ / "r"));
  ASSERT_EQ(report.at("iterations").size(), 2u);
  // Uniform at first: p(x_i | y) = 1 / 10 kinds of target words, 1 / 6 kinds of source words.
  const auto& begin = report.at("iterations")[0];
  EXPECT_NEAR(begin.at("forward").at("perplexity"), report.at("target").at("vocabulary").get<double>(), 1e-3);
  EXPECT_NEAR(begin.at("reverse").at("perplexity"), report.at("source").at("vocabulary").get<double>(), 1e-3);
  EXPECT_LT(report.at("iterations")[1].at("forward").at("perplexity"), begin.at("forward").at("perplexity"));
}

TEST_F(AlignProgram, WritesTablesPosteriorsAndPictures) {
  links(text() + "--model ibm1 --iterations 20 --table " + (dir_ / "table") + " --table-most 1 --posteriors " +
        (dir_ / "p") + " --plot " + (dir_ / "x.svg") + " --plot-pair 5");
  const std::string table = get(dir_ / "table");
  EXPECT_EQ(table.substr(0, table.find('\n')), "direction\tgiven\tgenerated\tprobability");
  EXPECT_NE(table.find("\nforward\thouse\thaus\t0.9"), std::string::npos) << table;
  EXPECT_NE(table.find("\nforward\t<NULL>\t"), std::string::npos) << table;
  EXPECT_EQ(table.find("reverse"), std::string::npos) << table;
  const std::string posteriors = get(dir_ / "p");
  EXPECT_EQ(std::count(posteriors.begin(), posteriors.end(), '\n'), 8);
  EXPECT_NE(posteriors.find("1-1:0.9"), std::string::npos) << posteriors;
  EXPECT_NE(get(dir_ / "x.svg").find("rote"), std::string::npos);
  refused(text() + "--plot-pair 9 --plot " + (dir_ / "x.svg"), "there are 8 pairs");
  refused(text() + "--plot " + (dir_ / "x.jpg"), ".png or .svg");
}

TEST_F(AlignProgram, RefusesWhatCannotBeAlignedInWords) {
  refused("", "--input");
  refused("--source " + (dir_ / "s"), "--target");
  refused(text() + "--input " + (dir_ / "s"), "--input");
  refused("--source " + (dir_ / "s") + " --target " + (dir_ / "absent"), "absent: cannot be opened");
  refused("--source " + (dir_ / "s") + " " + (dir_ / "s") + " --target " + (dir_ / "t"), "as many files");
  refused(texts("a\nb\n", "x\n"), "s2 has 2 lines but ");
  refused(texts("a\n\n", "x\ny z\n"), "s2: line 2 is empty while line 2 of ");
  refused(texts("a\nb \xff\n", "x\ny\n"), "s2: line 2 is not UTF-8");
  std::string many;
  for (int i = 0; i < 10'000; ++i) many += "w ";
  refused(texts("a\n" + many, "x\ny\n"), "line 2 has 10,000 words; at most 1,000 words");
  refused(texts("a\n", "x\n") + "--symmetrise grow", "grow-diag-final-and");
  refused(texts("a\n", "x\n") + "--model guess", "guess");
  refused(text() + "--model ibm1 --direction forward --symmetrise union", "both directions");
  refused(text() + "--links " + (dir_ / "no/such/folder/links"), "there is no folder");
  refused(text() + "--save " + dir_.path(), "is a folder");
  // Where nobody may write, not even the superuser.
  const std::string cheap = text() + "--model ibm1 ";
  refused(cheap + "--links " + (dir_ / "s/links"), "there is no folder");
  for (const char* output : {"--links", "--save", "--posteriors", "--table", "--json"}) {
    refused(cheap + output + " /proc/nobody-writes-here", "/proc/nobody-writes-here: ");
  }
  refused(cheap + "--plot /proc/nobody-writes-here.svg", "/proc/nobody-writes-here.svg: ");
  refused(cheap + "--links /dev/full", "/dev/full: cannot be written: No space left on device");
  refused(text() + "--load " + dir_.path(), "is a directory");
}

TEST_F(AlignProgram, SkippedPairsHaveEmptyLinesInTheirPlace) {
  const std::string found =
      links(texts("the house\n\nthe book\na book\nw w w\n", "das haus\nx\ndas buch\n\nein buch\n") +
            "--model ibm1 --skip-bad-pairs --longest 2");
  EXPECT_EQ(std::count(found.begin(), found.end(), '\n'), 5) << found;
  EXPECT_NE(found.find("\n\n"), std::string::npos) << found;
  EXPECT_EQ(found.substr(found.size() - 2), "\n\n") << found;
}

TEST_F(AlignProgram, ReachesTheKnownErrorRateOfModel1OnTheTalesThatShip) {
  const std::string data = DGM_SAMPLES_DATA;
  links("--source " + data + "/novels.en.gz " + data + "/tales.en --target " + data + "/novels.fr.gz " + data +
        "/tales.fr --lowercase --model ibm1 --iterations 10 --symmetrise intersect --gold " + data +
        "/tales.wa --json " + (dir_ / "r"));
  const auto scores = nlohmann::json::parse(get(dir_ / "r")).at("scores");
  EXPECT_EQ(scores.at("forward").at("sentences"), 144);
  EXPECT_EQ(scores.at("forward").at("sure"), 2231);
  EXPECT_LT(scores.at("forward").at("aer"), 0.52);
  EXPECT_LT(scores.at("reverse").at("aer"), 0.50);
  EXPECT_LT(scores.at("intersect").at("aer"), 0.40);
}

}  // namespace
}  // namespace dgm::test
