// SPDX-License-Identifier: Apache-2.0
// Word alignment: which word of a sentence translates which word of its translation. In a pipeline:
//
//   align --source train.en --target train.fr >links.txt
//
// The model generates each target word from a source word, or from NULL, and sums over which it was:
//
//   p(x given y) = prod_i sum_j p(a_i = j) p(x_i given y_j).
//
// By default a hidden Markov model of the alignments in each direction, both trained to agree. A links line holds
// source-target pairs of positions from 0 for the pair of that line (the Pharaoh format).
#include <dgm/data/file.hpp>
#include <dgm/data/plot.hpp>
#include <dgm/data/text_table.hpp>
#include <dgm/decide/align.hpp>

#include "samples/support/command.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <optional>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace {

using namespace dgm;

// The most accurate of the models there are.
std::string preferred_model() {
  const std::vector<std::string> names = alignment_models();
  for (const char* const name : {"hmm", "diagonal"}) {
    if (std::find(names.begin(), names.end(), name) != names.end()) return name;
  }
  return names.empty() ? "" : names.front();
}

struct Options {
  std::vector<std::string> source, target, input;
  bool lowercase = false;
  int64_t longest = 1000;
  bool skip_bad_pairs = false;
  std::string model = preferred_model();
  std::string direction;
  bool reverse = false;
  int iterations = 0;
  std::string symmetrise;
  std::optional<float> threshold;
  std::string links = "-";
  std::string posteriors;
  std::string gold;
  bool gold_swapped = false;
  int64_t gold_from = 0;
  std::string save;
  std::string load;
  bool align_only = false;
  std::string table;
  int64_t table_most = 5;
  uint64_t seed = 1;
  std::string device = "auto";
  double device_memory = 8;
  int threads = 0;
  std::string plot;
  int64_t plot_pair = 0;
  std::string json;
};

constexpr const char* kAgreement = "agreement";
constexpr float kLeastPosterior = 0.01f;  // what --posteriors writes

std::string short_names(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names)
    out += (out.empty() ? "" : "+") + std::filesystem::path(name).filename().string();
  return out;
}

// What both sides are called in everything that is told.
struct Sides {
  std::string source, target;
};

Sides sides(const Options& options) {
  if (options.input.empty()) return {short_names(options.source), short_names(options.target)};
  return {"left of " + short_names(options.input), "right of " + short_names(options.input)};
}

// ---- the model, trained or loaded ---------------------------------------------------------------

AlignmentDirections parse_directions(const Options& options) {
  const std::string name = options.reverse ? "reverse" : options.direction;
  if (name == "forward") return AlignmentDirections::forward;
  if (name == "reverse") return AlignmentDirections::reverse;
  // A heuristic needs both; without one, the simple models do one direction, as fast_align does.
  const bool simple = options.model == "ibm1" || options.model == "diagonal" || options.model == "neural";
  return name.empty() && simple && options.symmetrise.empty() ? AlignmentDirections::forward
                                                              : AlignmentDirections::both;
}

struct Aligner {
  std::unique_ptr<AlignmentModel> model;
  Bitext text;
  Linking linking;
  std::vector<AlignmentIteration> history;
};

BitextOptions reading(const Options& options) {
  return {.lowercase = options.lowercase, .longest = options.longest, .skip_bad_pairs = options.skip_bad_pairs};
}

Bitext read(const Options& options, const BitextOptions& how) {
  return options.input.empty() ? read_bitext(options.source, options.target, how)
                               : read_joined_bitext(options.input, how);
}

void say_text(const Bitext& text, const Sides& names) {
  std::cerr << grouped(text.pairs()) << " pairs; source " << names.source << ": "
            << grouped(static_cast<long long>(text.source_words.size())) << " words, " << grouped(text.source->size())
            << " of them different; target " << names.target << ": "
            << grouped(static_cast<long long>(text.target_words.size())) << " words, " << grouped(text.target->size())
            << " different\n";
  if (text.skipped > 0) std::cerr << grouped(text.skipped) << " pairs were skipped and have no links\n";
}

double per_word(const AlignmentIteration& iteration, int direction) {
  return iteration.log_likelihood[direction] / static_cast<double>(iteration.words[direction]);
}

std::string brief(const AlignmentIteration& iteration) {
  constexpr int kWidth = 30;
  const int filled = kWidth * iteration.iteration / std::max(1, iteration.of);
  std::string line = "[" + std::string(static_cast<std::size_t>(filled), '=') +
                     std::string(static_cast<std::size_t>(kWidth - filled), ' ') + "] " +
                     samples::text(iteration.stage, " ", iteration.iteration, "/", iteration.of);
  const char* const names[] = {"forward", "reverse"};
  for (const int d : {0, 1}) {
    if (iteration.words[d] > 0) line += samples::text("  ", names[d], " ", fixed(per_word(iteration, d), 4), " a word");
  }
  return line;
}

Aligner train(const Options& options, const Sides& names) {
  Aligner aligner;
  aligner.text = read(options, reading(options));
  say_text(aligner.text, names);
  aligner.model = make_alignment_model({.model = options.model,
                                        .directions = parse_directions(options),
                                        .iterations = options.iterations,
                                        .seed = options.seed,
                                        .device = Device::parse(options.device),
                                        .device_memory = static_cast<int64_t>(options.device_memory * 0x1p30),
                                        .keep_text = true});
  samples::ProgressLine progress;
  aligner.model->train(aligner.text, [&](const AlignmentIteration& iteration) {
    progress.show(brief(iteration));
    aligner.history.push_back(iteration);
  });
  progress.clear();
  return aligner;
}

// How many words of the text the model knows.
int64_t known(const std::vector<int32_t>& words) {
  return static_cast<int64_t>(words.size()) - std::count(words.begin(), words.end(), Vocabulary::kUnknown);
}

Aligner load(Options& options, const Sides& names) {
  LoadedAlignmentModel loaded = load_alignment_model(options.load, Device::parse(options.device));
  const auto note = [&](const char* name) { return loaded.notes.count(name) ? loaded.notes.at(name) : std::string(); };
  // Words must look as they did in training, and links be chosen as then unless something else is asked for.
  options.lowercase = note("lowercase") == "yes";
  if (options.symmetrise.empty() && !options.reverse && options.direction.empty())
    options.symmetrise = note("symmetrise");
  if (!options.threshold) {
    const std::string bytes = note("threshold");
    float value = 0;
    if (std::from_chars(bytes.data(), bytes.data() + bytes.size(), value).ec == std::errc()) options.threshold = value;
  }
  BitextOptions how = reading(options);
  how.source = loaded.source;
  how.target = loaded.target;
  Aligner aligner;
  aligner.text = read(options, how);
  aligner.model = std::move(loaded.model);
  options.model = aligner.model->name();
  say_text(aligner.text, names);
  const auto check_side = [&](const std::string& name, const std::vector<int32_t>& words) {
    const auto total = static_cast<int64_t>(words.size());
    const int64_t there = known(words);
    if (there == 0 && total > 0) {
      throw FileError(samples::text(options.load, ": knows none of the ", grouped(total), " words of ", name,
                                    "; is it a model of other languages, or are source and target exchanged?"));
    }
    if (there < total) {
      std::cerr << grouped(total - there) << " of the " << grouped(total) << " words of " << name
                << " were not in the training text ("
                << fixed(100 * static_cast<double>(total - there) / static_cast<double>(total), 2) << " %)\n";
    }
  };
  check_side(names.source, aligner.text.source_words);
  check_side(names.target, aligner.text.target_words);
  return aligner;
}

// What the options ask of this model.
Linking linking(const Options& options, AlignmentDirections has) {
  Linking rule;
  rule.threshold = options.threshold.value_or(0.5f);
  rule.directions = !options.gold.empty();
  const std::string direction = options.reverse ? "reverse" : options.direction;
  if (has == AlignmentDirections::both) {
    const std::string name =
        options.symmetrise.empty() && direction != "both" && !direction.empty() ? direction : options.symmetrise;
    if (!name.empty() && name != kAgreement) rule.symmetrisation = parse_symmetrisation(name);
    return rule;
  }
  const std::string there = has == AlignmentDirections::forward ? "forward" : "reverse";
  if (!direction.empty() && direction != there) {
    throw ArgumentError("the model has the direction " + there + " only; " + direction + " was asked for");
  }
  if (!options.symmetrise.empty() && options.symmetrise != there) {
    throw ArgumentError("--symmetrise " + options.symmetrise + " needs both directions; the model has " + there +
                        " only");
  }
  return rule;
}

std::string rule_name(const Linking& rule, AlignmentDirections has) {
  if (has == AlignmentDirections::forward) return "forward";
  if (has == AlignmentDirections::reverse) return "reverse";
  return rule.symmetrisation ? std::string(name_of(*rule.symmetrisation)) : std::string(kAgreement);
}

// ---- gold links ---------------------------------------------------------------------------------

struct Gold {
  GoldLinks links;
  int64_t first = 0;  // pair of gold sentence 1
  int64_t last() const { return first + static_cast<int64_t>(links.possible.size()); }
};

Gold read_gold(const Options& options, const Bitext& text) {
  Gold gold = {read_gold_links(options.gold, options.gold_swapped),
               options.gold_from > 0 ? options.gold_from - 1 : text.files.back()};
  if (gold.last() > text.pairs()) {
    throw FileError(samples::text(options.gold, ": has links in sentence ", gold.links.possible.size(),
                                  ", but from line ", gold.first + 1, " on there are only ",
                                  std::max<int64_t>(0, text.pairs() - gold.first),
                                  " pairs (--gold-from says where its sentence 1 is)"));
  }
  for (std::size_t s = 0; s < gold.links.possible.size(); ++s) {
    const auto pair = gold.first + static_cast<int64_t>(s);
    const std::size_t m = text.source_sentence(pair).size();
    const std::size_t n = text.target_sentence(pair).size();
    if (m == 0) continue;  // skipped
    for (const Link& link : gold.links.possible[s]) {
      const bool source_fits = static_cast<std::size_t>(link.source) < m;
      if (source_fits && static_cast<std::size_t>(link.target) < n) continue;
      throw FileError(samples::text(options.gold, ": links word ", (source_fits ? link.target : link.source) + 1,
                                    " of the ", source_fits ? "target" : "source", " of sentence ", s + 1,
                                    ", which has ", source_fits ? n : m,
                                    " words (--gold-swapped if its columns are the other way round; "
                                    "--gold-from says where its sentence 1 is)"));
    }
  }
  return gold;
}

struct Score {
  std::string name;
  AlignmentScore score;
};

// ---- output -------------------------------------------------------------------------------------

// Standard output, or a file that appears when it is complete.
class Output {
 public:
  explicit Output(const std::string& path) {
    if (path != "-") file_.emplace(path);
  }
  void write(std::string_view bytes) {
    if (file_) {
      file_->write(bytes);
    } else if (std::fwrite(bytes.data(), 1, bytes.size(), stdout) != bytes.size()) {
      throw FileError("standard output: cannot be written");
    }
  }
  void finish() {
    if (file_) {
      file_->commit();
    } else if (std::fflush(stdout) != 0) {
      throw FileError("standard output: cannot be written");
    }
  }

 private:
  std::optional<AtomicFile> file_;
};

float agreed(const AlignmentPosteriors& posteriors, std::size_t cell) {
  if (posteriors.reverse.empty()) return posteriors.forward[cell];
  if (posteriors.forward.empty()) return posteriors.reverse[cell];
  return std::sqrt(posteriors.forward[cell] * posteriors.reverse[cell]);
}

// Lines like those of links, a probability behind each: "0-0:0.9913 1-2:0.4502".
std::string posterior_lines(const LinkedPairs& pairs, const Bitext& text) {
  std::string out;
  for (std::size_t k = 0; k < pairs.links.size(); ++k) {
    const std::size_t m = text.source_sentence(pairs.first + static_cast<int64_t>(k)).size();
    const auto begin = static_cast<std::size_t>(pairs.posteriors.offsets[k]);
    const auto cells = static_cast<std::size_t>(pairs.posteriors.offsets[k + 1]) - begin;
    bool first = true;
    for (std::size_t j = 0; j < m; ++j) {
      for (std::size_t i = 0; i * m < cells; ++i) {
        const float p = agreed(pairs.posteriors, begin + i * m + j);
        if (!(p >= kLeastPosterior)) continue;
        char item[64];
        out.append(item, static_cast<std::size_t>(std::snprintf(item, sizeof item, "%s%zu-%zu:%.4f", first ? "" : " ",
                                                                j, i, static_cast<double>(p))));
        first = false;
      }
    }
    out += "\n";
  }
  return out;
}

std::vector<std::string> words_of(std::span<const int32_t> sentence, const Vocabulary& vocabulary) {
  std::vector<std::string> words;
  for (const int32_t id : sentence) {
    words.push_back(id == Vocabulary::kUnknown ? "(unknown)" : std::string(vocabulary.word(id)));
  }
  return words;
}

void plot(const std::string& path, const Aligner& aligner, int64_t pair, const std::string& rule, const Sides& names,
          const std::optional<Gold>& gold) {
  const Bitext& text = aligner.text;
  AlignmentPosteriors posteriors;
  aligner.model->posteriors(text, pair, pair + 1, posteriors);
  const std::vector<std::string> source = words_of(text.source_sentence(pair), *text.source);
  const std::vector<std::string> target = words_of(text.target_sentence(pair), *text.target);
  const auto cells = static_cast<std::size_t>(posteriors.offsets[1]);
  if (cells == 0)
    throw FileError(samples::text(path, ": pair ", pair + 1, " has an empty side: there is nothing to draw"));
  std::vector<float> both(cells);
  for (std::size_t c = 0; c < cells; ++c) both[c] = agreed(posteriors, c);
  Plot picture(samples::text("pair ", pair + 1, ", ", aligner.model->name()));
  const auto size = [](std::size_t words) { return static_cast<int>(180 + 24 * std::min<std::size_t>(words, 60)); };
  picture.panel_size(size(source.size()) + 200, size(target.size()));  // with room for the legend
  const auto add = [&](const std::string& title, const std::vector<float>& values) {
    Panel& panel = picture.panel(title, "source, " + names.source, "target, " + names.target);
    panel.matrix(values, target.size(), source.size(), target, source);
    if (!gold || pair < gold->first || pair >= gold->last()) return;
    std::vector<double> sure_x, sure_y, possible_x, possible_y;
    const auto s = static_cast<std::size_t>(pair - gold->first);
    for (const Link& link : gold->links.possible[s]) {
      const bool sure = std::binary_search(gold->links.sure[s].begin(), gold->links.sure[s].end(), link);
      (sure ? sure_x : possible_x).push_back(link.source + .5);
      (sure ? sure_y : possible_y).push_back(link.target + .5);
    }
    panel.points(sure_x, sure_y, "gold, sure", {.color = 1})
        .points(possible_x, possible_y, "gold, possible", {.color = 2});
  };
  if (!posteriors.forward.empty()) add("forward: target generated from source", posteriors.forward);
  if (!posteriors.reverse.empty()) add("reverse: source generated from target", posteriors.reverse);
  if (!posteriors.forward.empty() && !posteriors.reverse.empty()) {
    add(rule == kAgreement ? "geometric mean of both: the links' weight" : "geometric mean of both", both);
  }
  picture.save(path);
}

void write_table(const std::string& path, const Aligner& aligner, int64_t most) {
  AtomicFile file(path);
  file.write("direction\tgiven\tgenerated\tprobability\n");
  for (const bool reverse : {false, true}) {
    const Vocabulary& given = reverse ? *aligner.text.target : *aligner.text.source;
    const Vocabulary& generated = reverse ? *aligner.text.source : *aligner.text.target;
    std::string lines;
    for (int32_t word = AlignmentModel::kNull; word < given.size(); ++word) {
      for (const auto& [id, probability] : aligner.model->translations(reverse, word, most)) {
        lines += reverse ? "reverse\t" : "forward\t";
        lines += word == AlignmentModel::kNull ? std::string_view("<NULL>") : given.word(word);
        lines += '\t';
        lines += generated.word(id);
        lines += '\t';
        lines += general(probability, 4);
        lines += '\n';
      }
    }
    file.write(lines);
  }
  file.commit();
}

// ---- what is told -------------------------------------------------------------------------------

void say_directions(AlignmentDirections has, const std::string& model, const std::string& rule, const Sides& names) {
  std::cerr << "model " << model << ", links by " << rule << "\n";
  if (has != AlignmentDirections::reverse) {
    std::cerr << "  forward: p(target | source), each word of " << names.target << " is generated from a word of "
              << names.source << " or NULL\n";
  }
  if (has != AlignmentDirections::forward) {
    std::cerr << "  reverse: p(source | target), each word of " << names.source << " is generated from a word of "
              << names.target << " or NULL\n";
  }
}

void say_history(const std::vector<AlignmentIteration>& history) {
  if (history.empty()) return;
  std::vector<std::string> header = {"iteration", "model"};
  const char* const names[] = {"forward", "reverse"};
  for (const int d : {0, 1}) {
    if (history.front().words[d] == 0) continue;
    header.push_back(samples::text(names[d], " log-lik"));
    header.push_back("a word");
    header.push_back("perplexity");
  }
  header.push_back("seconds");
  TextTable table(header);
  for (const AlignmentIteration& iteration : history) {
    std::vector<std::string> cells = {std::to_string(iteration.iteration), iteration.stage};
    for (const int d : {0, 1}) {
      if (history.front().words[d] == 0) continue;
      cells.push_back(fixed(iteration.log_likelihood[d], 3));
      cells.push_back(fixed(per_word(iteration, d), 5));
      cells.push_back(general(std::exp(-per_word(iteration, d)), 7));
    }
    cells.push_back(fixed(iteration.seconds, 3));
    table.row(cells);
  }
  std::cerr << table.str() << "(each under the parameters before its update)\n";
}

void say_scores(const std::vector<Score>& scores, const Gold& gold) {
  TextTable table({"links", "AER", "precision", "recall", "number"});
  for (const auto& [name, score] : scores) {
    table.row({name, fixed(score.aer, 4), fixed(score.precision, 4), fixed(score.recall, 4), grouped(score.links)});
  }
  std::cerr << "against " << grouped(scores[0].score.sure) << " sure and " << grouped(scores[0].score.possible)
            << " possible (sure included) gold links in " << grouped(scores[0].score.sentences) << " pairs from line "
            << gold.first + 1 << " on\n"
            << table.str();
}

nlohmann::json to_json(const Aligner& aligner, const Options& options, const std::string& rule, const Sides& names,
                       const std::vector<Score>& scores, const std::array<double, 3>& seconds) {
  const Bitext& text = aligner.text;
  const auto side = [](const std::string& name, const std::vector<int32_t>& words, const Vocabulary& vocabulary) {
    return nlohmann::json{{"name", name},
                          {"words", words.size()},
                          {"vocabulary", vocabulary.size()},
                          {"unknown_words", static_cast<int64_t>(words.size()) - known(words)}};
  };
  nlohmann::json json = {{"model", aligner.model->name()},
                         {"links", rule},
                         {"lowercase", options.lowercase},
                         {"pairs", text.pairs()},
                         {"skipped_pairs", text.skipped},
                         {"source", side(names.source, text.source_words, *text.source)},
                         {"target", side(names.target, text.target_words, *text.target)},
                         {"iterations", nlohmann::json::array()},
                         {"scores", nlohmann::json::object()},
                         {"seconds", {{"read_and_train", seconds[0]}, {"align", seconds[1]}, {"total", seconds[2]}}}};
  const char* const directions[] = {"forward", "reverse"};
  for (const AlignmentIteration& iteration : aligner.history) {
    nlohmann::json entry = {
        {"stage", iteration.stage}, {"iteration", iteration.iteration}, {"seconds", iteration.seconds}};
    for (const int d : {0, 1}) {
      if (iteration.words[d] == 0) continue;
      entry[directions[d]] = {{"log_likelihood", iteration.log_likelihood[d]},
                              {"words", iteration.words[d]},
                              {"log_likelihood_per_word", per_word(iteration, d)},
                              {"perplexity", std::exp(-per_word(iteration, d))}};
    }
    json["iterations"].push_back(entry);
  }
  for (const auto& [name, score] : scores) {
    json["scores"][name] = {
        {"aer", score.aer},   {"precision", score.precision}, {"recall", score.recall},      {"links", score.links},
        {"sure", score.sure}, {"possible", score.possible},   {"sentences", score.sentences}};
  }
  return json;
}

// ---- all of it ----------------------------------------------------------------------------------

void work(Options options) {
  if (options.input.empty() == options.source.empty() || options.source.size() != options.target.size()) {
    throw ArgumentError("either --input, or --source and --target with as many files, is needed");
  }
  if (options.align_only && options.load.empty()) throw ArgumentError("--align-only needs --load MODEL");
  if (!options.symmetrise.empty() && options.symmetrise != kAgreement) (void)parse_symmetrisation(options.symmetrise);
  samples::check_outputs(
      {options.links == "-" ? "" : options.links, options.posteriors, options.save, options.table, options.json});
  samples::check_picture(options.plot);
  if (options.threads > 0) set_cpu_threads(options.threads);

  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  const auto since = [](Clock::time_point from) { return std::chrono::duration<double>(Clock::now() - from).count(); };
  const Sides names = sides(options);
  Aligner aligner = options.load.empty() ? train(options, names) : load(options, names);
  const Bitext& text = aligner.text;
  const AlignmentDirections has = aligner.model->directions();
  aligner.linking = linking(options, has);
  if (Device::parse(options.device).is_cuda()) aligner.linking.cells *= 4;
  const std::string rule = rule_name(aligner.linking, has);
  const double trained = since(start);
  say_directions(has, aligner.model->name(), rule, names);
  say_history(aligner.history);

  std::optional<Gold> gold;
  if (!options.gold.empty()) gold = read_gold(options, text);
  const int64_t plotted = options.plot_pair > 0 ? options.plot_pair - 1 : gold ? gold->first : 0;
  if (!options.plot.empty() && plotted >= text.pairs()) {
    throw ArgumentError(samples::text("--plot-pair ", plotted + 1, ": there are ", text.pairs(), " pairs"));
  }

  const auto aligning = Clock::now();
  Output links(options.links);
  std::optional<AtomicFile> posteriors;
  if (!options.posteriors.empty()) posteriors.emplace(options.posteriors);
  std::vector<Links> forward, reverse, chosen;  // of the pairs with gold links
  samples::ProgressLine progress;
  link_pairs(*aligner.model, text, 0, text.pairs(), aligner.linking, [&](const LinkedPairs& pairs) {
    links.write(pairs.pharaoh);
    if (posteriors) posteriors->write(posterior_lines(pairs, text));
    for (std::size_t k = 0; gold && k < pairs.links.size(); ++k) {
      const int64_t pair = pairs.first + static_cast<int64_t>(k);
      if (pair < gold->first || pair >= gold->last()) continue;
      chosen.push_back(pairs.links[k]);
      if (!pairs.forward.empty()) forward.push_back(pairs.forward[k]);
      if (!pairs.reverse.empty()) reverse.push_back(pairs.reverse[k]);
    }
    progress.show(samples::text("aligned ", grouped(pairs.first), " of ", grouped(text.pairs()), " pairs"));
  });
  progress.clear();
  links.finish();
  if (posteriors) posteriors->commit();
  const double aligned = since(aligning);

  std::vector<Score> scores;
  if (gold) {
    if (has != AlignmentDirections::reverse) scores.push_back({"forward", alignment_score(forward, gold->links)});
    if (has != AlignmentDirections::forward) scores.push_back({"reverse", alignment_score(reverse, gold->links)});
    if (rule != "forward" && rule != "reverse") scores.push_back({rule, alignment_score(chosen, gold->links)});
    say_scores(scores, *gold);
  }
  if (!options.save.empty()) {
    char threshold[32];
    const auto end = std::to_chars(threshold, threshold + sizeof threshold, aligner.linking.threshold).ptr;
    const bool choice = has == AlignmentDirections::both;
    save_alignment_model(options.save, *aligner.model, *text.source, *text.target,
                         {{"lowercase", options.lowercase ? "yes" : "no"},
                          {"symmetrise", choice ? rule : ""},
                          {"threshold", std::string(threshold, end)}});
  }
  if (!options.table.empty()) write_table(options.table, aligner, options.table_most);
  if (!options.plot.empty()) plot(options.plot, aligner, plotted, rule, names, gold);
  std::cerr << "read and " << (options.load.empty() ? "trained" : "loaded") << " in " << fixed(trained, 3)
            << " s, aligned and wrote links in " << fixed(aligned, 3) << " s\n";
  if (!options.json.empty()) {
    write_file(options.json,
               to_json(aligner, options, rule, names, scores, {trained, aligned, since(start)}).dump(2) + "\n");
  }
}

}  // namespace

int main(int argc, char** argv) {
#ifdef __GLIBC__
  // What is freed is soon asked for again: pages that went back to the system would have to be zeroed anew.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  mallopt(M_TOP_PAD, 1 << 25);
#endif
  Options options;
  CLI::App app(
      "Aligns the words of sentences with those of their translations. Links go to standard output, a line a pair, "
      "`source-target` from 0; all else to standard error.",
      "align");
  auto* const source = app.add_option("--source", options.source,
                                      "Text, a sentence a line, words between blanks; UTF-8, gzip "
                                      "or not; several files are one text");
  auto* const target = app.add_option("--target", options.target, "Its translation, line by line");
  auto* const input = app.add_option("--input", options.input, "Instead of both: lines `source ||| target`");
  input->excludes(source)->excludes(target);
  source->needs(target);
  target->needs(source);
  app.add_flag("--lowercase", options.lowercase, "Do not tell Latin, Greek and Cyrillic capitals from small letters");
  app.add_option("--longest", options.longest, "Most words a side; work grows with the product of both sides")
      ->check(CLI::Range(1, 65'535))
      ->capture_default_str();
  app.add_flag("--skip-bad-pairs", options.skip_bad_pairs,
               "Give pairs with an empty or too long side an empty line of links "
               "instead of refusing the text");
  app.add_option("--model", options.model, samples::text("One of: ", CLI::detail::join(alignment_models(), ", ")))
      ->check(CLI::IsMember(alignment_models()))
      ->capture_default_str();
  auto* const direction = app.add_option("--direction", options.direction,
                                         "forward: p(target | source); reverse: p(source | target); both "
                                         "(default: both for hmm and where --symmetrise is given, else forward)")
                              ->check(CLI::IsMember({"forward", "reverse", "both"}));
  app.add_flag("--reverse", options.reverse, "The same as --direction reverse")->excludes(direction);
  app.add_option("--iterations", options.iterations, "Of training (default: the model's own)")
      ->check(CLI::Range(1, 100'000));
  app.add_option("--symmetrise", options.symmetrise,
                 "How both directions become one set of links: agreement (of the posteriors; "
                 "the default), intersect, union, grow-diag, grow-diag-final, grow-diag-final-and, forward, reverse");
  app.add_option("--threshold", options.threshold,
                 "What the geometric mean of both posteriors of a link must pass in agreement "
                 "(default: 0.5)")
      ->check(CLI::Range(0.f, 1.f));
  app.add_option("--links", options.links, "Links go here; - is standard output")->capture_default_str();
  app.add_option("--posteriors", options.posteriors, "Write `source-target:probability` of all links above 0.01 here");
  app.add_option("--gold", options.gold, "Score the links: lines `sentence source target S|P`, all from 1");
  app.add_flag("--gold-swapped", options.gold_swapped, "The columns of --gold are `sentence target source`");
  app.add_option("--gold-from", options.gold_from,
                 "Line of the text that is sentence 1 of --gold (default: the first line of the "
                 "last file)")
      ->check(CLI::PositiveNumber);
  app.add_option("--save", options.save, "Write the model here (.safetensors)");
  app.add_option("--load", options.load, "Align with this model instead of training one");
  app.add_flag("--align-only", options.align_only, "Insist on --load: nothing is trained");
  app.add_option("--table", options.table, "Write the best translations of each word here, tab-separated");
  app.add_option("--table-most", options.table_most, "Translations a word in --table")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--seed", options.seed, "Seed of everything random")->capture_default_str();
  app.add_option("--device", options.device, "auto, cpu, cuda or cuda:N")->capture_default_str();
  app.add_option(
         "--device-memory", options.device_memory,
         "GiB of a GPU that the text may take in training, besides the tables; a larger text is copied there in "
         "parts, in each iteration")
      ->check(CLI::Range(0.001, 1e6))
      ->capture_default_str();
  app.add_option("--threads", options.threads, "CPU threads (default: all cores)")->check(CLI::Range(1, 4096));
  app.add_option("--plot", options.plot, "Draw the alignment matrix of a pair here (.png or .svg)");
  app.add_option("--plot-pair", options.plot_pair, "Line of that pair (default: the first of --gold, or 1)")
      ->check(CLI::PositiveNumber);
  app.add_option("--json", options.json, "Write all figures here");
  app.footer(
      "Switching from fast_align: --input takes its files; -I is --iterations, -r --reverse, -dov --model diagonal; "
      "links come in "
      "the same format. Lines that it refuses are refused here too, or kept with --skip-bad-pairs as empty lines.\n"
      "Memory of ibm1 and diagonal on the CPU: 8 bytes a word of text; in training also, for each direction, 2 bytes a "
      "word pair (source words x target words, summed over sentence pairs), 4 a word, and 8 for each different pair of "
      "words that occurs together; of hmm, which needs the pairs of both directions once, 16 for each different pair. "
      "10 "
      "million sentence pairs of 25 x 25 words with a billion different pairs, computed: 4 GB and, a direction, 14.5 "
      "and "
      "8 GB; hmm 34 GB. Measured, 227,000 pairs of 11 x 12 words: 263 MB (ibm1, diagonal), 245 MB (hmm).\n"
      "Of a GPU: 20 bytes for each different pair of words (of ibm1 and diagonal, a direction), and --device-memory "
      "for the text, which is copied in parts if it is larger. Text and links are streamed.");
  return samples::run(app, argc, argv, [&] { work(options); });
}
