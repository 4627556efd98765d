// SPDX-License-Identifier: Apache-2.0
#include <dgm/autodiff/reshape.hpp>
#include <dgm/inference/compare.hpp>
#include <dgm/models/alignment_joint.hpp>
#include <dgm/models/alignment_model.hpp>
#include <dgm/models/translation_table.hpp>
#include <dgm/ops/embedding.hpp>
#include <dgm/ops/reductions.hpp>
#include <dgm/train/optimiser.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/files.hpp"
#include "tests/support/reference.hpp"

#include <cstring>
#include <map>
#include <random>

namespace dgm::test {
namespace {

// Pairs whose target words are mostly translations of source words, in about their order.
Bitext made_up(int64_t pairs, int32_t words, int64_t longest, uint64_t seed) {
  std::mt19937_64 generator(seed);
  auto source = std::make_shared<Vocabulary>();
  auto target = std::make_shared<Vocabulary>();
  for (int32_t word = 0; word < words; ++word) {
    source->add("s" + std::to_string(word));
    target->add("t" + std::to_string(word));
  }
  Bitext bitext;
  for (int64_t p = 0; p < pairs; ++p) {
    const auto length = static_cast<int64_t>(generator() % static_cast<uint64_t>(longest)) + 1;
    for (int64_t j = 0; j < length; ++j) {
      const double u = std::uniform_real_distribution<double>()(generator);
      const auto word = static_cast<int32_t>(u * u * words);
      bitext.source_words.push_back(word);
      if (generator() % 8 != 0) {
        bitext.target_words.push_back(generator() % 10 == 0 ? static_cast<int32_t>(generator() % words) : word);
      }
    }
    if (bitext.target_words.size() == static_cast<std::size_t>(bitext.target_offsets.back())) {
      bitext.target_words.push_back(0);
    }
    bitext.source_offsets.push_back(static_cast<int64_t>(bitext.source_words.size()));
    bitext.target_offsets.push_back(static_cast<int64_t>(bitext.target_words.size()));
  }
  bitext.source = source;
  bitext.target = target;
  return bitext;
}

// EM of model 1 by the book: log likelihoods before each iteration.
Reals reference_model1(const Bitext& bitext, int iterations) {
  std::map<std::pair<int32_t, int32_t>, Real> table;
  const Real uniform = Real{1} / bitext.target->size();
  const auto t = [&](int32_t e, int32_t f) {
    const auto it = table.find({e, f});
    return it == table.end() ? uniform : it->second;
  };
  Reals result;
  for (int iteration = 0; iteration < iterations; ++iteration) {
    std::map<std::pair<int32_t, int32_t>, Real> counts;
    std::map<int32_t, Real> totals;
    Real log_likelihood = 0;
    for (int64_t p = 0; p < bitext.pairs(); ++p) {
      std::vector<int32_t> source = {-1};
      for (const int32_t e : bitext.source_sentence(p)) source.push_back(e);
      for (const int32_t f : bitext.target_sentence(p)) {
        Real sum = 0;
        for (const int32_t e : source) sum += t(e, f);
        log_likelihood += std::log(sum / static_cast<Real>(source.size()));
        for (const int32_t e : source) {
          counts[{e, f}] += t(e, f) / sum;
          totals[e] += t(e, f) / sum;
        }
      }
    }
    for (const auto& [words, count] : counts) table[words] = count / totals[words.first];
    result.push_back(log_likelihood);
  }
  return result;
}

Real reference_digamma(Real x) {
  Real below = 0;
  for (; x < 30; ++x) below += 1 / x;
  const Real y = 1 / (x * x);
  return std::log(x) - 1 / (2 * x) - y * (Real{1} / 12 - y * (Real{1} / 120 - y / 252)) - below;
}

struct DiagonalReference {
  Reals log_likelihoods;
  Real tension;
};

// Variational Bayes of the diagonal model with a step of its tension in each iteration but the first.
DiagonalReference reference_diagonal(const Bitext& bitext, int iterations) {
  constexpr Real kP0 = 0.08L;
  constexpr Real kAlpha = 0.01L;
  std::map<std::pair<int32_t, int32_t>, Real> table;
  const Real uniform = Real{1} / bitext.target->size();
  DiagonalReference result = {{}, 4};
  for (int iteration = 0; iteration < iterations; ++iteration) {
    std::map<std::pair<int32_t, int32_t>, Real> counts;
    // NULL has an entry for every word, and one for unknown words.
    for (int32_t f = 0; f <= bitext.target->size(); ++f) counts[{-1, f}] = 0;
    Real log_likelihood = 0, posterior_distance = 0, prior_distance = 0, aligned = 0, words = 0;
    for (int64_t p = 0; p < bitext.pairs(); ++p) {
      const auto y = bitext.source_sentence(p);
      const auto x = bitext.target_sentence(p);
      for (std::size_t i = 0; i < x.size(); ++i) {
        const auto t = [&](int32_t e) { return table.empty() ? uniform : table.at({e, x[i]}); };
        Reals h, away;
        Real z = 0;
        for (std::size_t j = 0; j < y.size(); ++j) {
          away.push_back(std::abs(static_cast<Real>(i + 1) / static_cast<Real>(x.size()) -
                                  static_cast<Real>(j + 1) / static_cast<Real>(y.size())));
          h.push_back(std::exp(-result.tension * away.back()));
          z += h.back();
        }
        Real sum = kP0 * t(-1);
        for (std::size_t j = 0; j < y.size(); ++j) sum += (1 - kP0) * h[j] / z * t(y[j]);
        log_likelihood += std::log(sum);
        counts[{-1, x[i]}] += kP0 * t(-1) / sum;
        words += 1;
        for (std::size_t j = 0; j < y.size(); ++j) {
          const Real q = (1 - kP0) * h[j] / z * t(y[j]) / sum;
          counts[{y[j], x[i]}] += q;
          aligned += q;
          posterior_distance += q * away[j];
          prior_distance += h[j] / z * away[j];
        }
      }
    }
    std::map<int32_t, Real> totals;
    for (const auto& [key, count] : counts) totals[key.first] += count + kAlpha;
    for (const auto& [key, count] : counts) {
      table[key] = std::exp(reference_digamma(count + kAlpha) - reference_digamma(totals[key.first]));
    }
    if (iteration > 0) {
      const Real step = prior_distance / words - posterior_distance / aligned;
      result.tension = std::clamp(result.tension + 5 * step, Real{0.1L}, Real{14});
    }
    result.log_likelihoods.push_back(log_likelihood);
  }
  return result;
}

class LexicalAlignment : public OnEveryDevice {
 protected:
  AlignmentOptions options(const std::string& model, int iterations) const {
    AlignmentOptions made;
    made.model = model;
    made.iterations = iterations;
    made.device = device();
    return made;
  }
  static Bitext swapped(Bitext bitext) {
    std::swap(bitext.source, bitext.target);
    std::swap(bitext.source_offsets, bitext.target_offsets);
    std::swap(bitext.source_words, bitext.target_words);
    return bitext;
  }
  int64_t some_pairs() const { return on_simulated_device() ? 25 : 300; }
};

TEST_P(LexicalAlignment, Model1HasTheLogLikelihoodsOfLongDoubleEmInBothDirections) {
  const Bitext bitext = made_up(some_pairs(), 30, 8, 1);
  std::vector<AlignmentIteration> seen;
  make_alignment_model(options("ibm1", 6))->train(bitext, [&](const AlignmentIteration& i) { seen.push_back(i); });
  const Reals forward = reference_model1(bitext, 6);
  const Reals reverse = reference_model1(swapped(bitext), 6);
  ASSERT_EQ(seen.size(), 6u);
  for (std::size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(seen[i].stage, "ibm1");
    EXPECT_EQ(seen[i].iteration, static_cast<int>(i) + 1);
    EXPECT_EQ(seen[i].of, 6);
    EXPECT_EQ(seen[i].words[0], static_cast<int64_t>(bitext.target_words.size()));
    EXPECT_EQ(seen[i].words[1], static_cast<int64_t>(bitext.source_words.size()));
    EXPECT_NEAR(seen[i].log_likelihood[0] / static_cast<double>(forward[i]), 1, 2e-6) << "forward, iteration " << i;
    EXPECT_NEAR(seen[i].log_likelihood[1] / static_cast<double>(reverse[i]), 1, 2e-6) << "reverse, iteration " << i;
  }
}

TEST_P(LexicalAlignment, DiagonalHasTheLikelihoodsAndTheTensionOfLongDoubleVariationalBayes) {
  const Bitext bitext = made_up(some_pairs(), 30, 8, 14);
  std::vector<AlignmentIteration> seen;
  const auto model = make_alignment_model(options("diagonal", 4));
  model->train(bitext, [&](const AlignmentIteration& i) { seen.push_back(i); });
  for (const int side : {0, 1}) {
    const DiagonalReference wanted = reference_diagonal(side == 0 ? bitext : swapped(bitext), 4);
    for (std::size_t i = 0; i < 4; ++i) {
      EXPECT_NEAR(seen[i].log_likelihood[side] / static_cast<double>(wanted.log_likelihoods[i]), 1, 1e-5)
          << "side " << side << ", iteration " << i + 1;
    }
    const auto prior = model->to_tensors().at(side == 0 ? "forward.prior" : "reverse.prior").as<float>();
    EXPECT_NEAR(prior[1], static_cast<double>(wanted.tension), 1e-3) << "side " << side;
  }
}

TEST_P(LexicalAlignment, MinibatchGradientAscentReachesTheLikelihoodOfEm) {
  const Bitext bitext = made_up(on_simulated_device() ? 8 : 40, 8, 5, 2);
  const Reals em = reference_model1(bitext, 60);
  const auto whole = std::make_shared<const Cooccurrence>(BitextView::of(bitext));
  const AlignmentCells cells(whole, device());
  Parameters parameters;
  parameters.add("logits", Tensor<float>::zeros({whole->entries()}, device()));
  const auto log_table = [&](Tape& tape) {
    return sparse_alignment_log_table(cells, tape.watch(parameters["logits"]));
  };
  // Two halves in turn, whose entries are found in the whole text's table.
  std::vector<AlignmentJoint> halves;
  const int64_t half = bitext.pairs() / 2;
  for (const auto& [first, last] : {std::pair(int64_t{0}, half), std::pair(half, bitext.pairs())}) {
    const auto part = std::make_shared<const Cooccurrence>(BitextView::of(bitext).part(first, last));
    const auto found = find_entries(*part, whole->row_offsets(), whole->entry_targets(), whole->target_vocabulary());
    // The unknown word's entry of NULL's row is in both; all others of the part are in the whole.
    const auto ids = Tensor<int32_t>::from(found, {part->entries()}, device());
    halves.emplace_back(AlignmentCells(part, device()), [&, ids](Tape& tape) {
      return reshape(embedding(reshape(log_table(tape), {whole->entries(), 1}), ids), {ids.size()});
    });
  }
  const int steps = on_simulated_device() ? 400 : 600;
  AdamOptions settings;
  settings.rate = Schedule::cosine(0.1, steps);
  settings.goal = Goal::maximise;
  Optimiser optimiser = adam(parameters, settings);
  for (int step = 0; step < steps; ++step) {
    parameters.zero_grad();
    Tape tape;
    tape.backward(Exact(halves[step % 2])(tape, Draws(1, device())).objective);
    optimiser.step();
  }
  Tape unused;
  double reached = 0;
  for (const float value : sparse_alignment_log_marginal(cells, log_table(unused)).value().to_host()) {
    reached += static_cast<double>(value);
  }
  const auto wanted = static_cast<double>(em.back());
  EXPECT_GT(reached, wanted - 0.005 * std::abs(wanted))
      << "EM: " << wanted << ", started from " << static_cast<double>(em.front());
}

TEST_P(LexicalAlignment, PosteriorSamplingHasTheExactGradientInTheMean) {
  const Bitext bitext = made_up(3, 4, 3, 3);
  const AlignmentCells cells(std::make_shared<const Cooccurrence>(BitextView::of(bitext)), device());
  Parameters parameters;
  parameters.add("logits", Tensor<float>::from(random_normals(cells.pattern().entries(), 4),
                                               {cells.pattern().entries()}, device()));
  const AlignmentJoint joint(
      cells, [&](Tape& tape) { return sparse_alignment_log_table(cells, tape.watch(parameters["logits"])); });
  const Exact exact(joint);
  const PosteriorSampling sampling(joint, 4);
  const auto reports = compare({&exact, &sampling}, joint, parameters, Draws(9, device()).at(1),
                               {.repetitions = on_simulated_device() ? 40 : 2000});
  EXPECT_EQ(reports.at(0).bias, 0);
  EXPECT_LT(reports.at(1).bias, 3 * reports.at(1).bias_standard_error);
  EXPECT_LT(reports.at(1).largest_z_score, 4.5);
  EXPECT_GT(reports.at(1).variance, 0);
}

TEST_P(LexicalAlignment, MaximumLikelihoodUnderTheDiagonalPriorNeverFalls) {
  AlignmentOptions made = options("diagonal", 8);
  made.diagonal.alpha = 0;
  made.diagonal.optimise_tension = false;
  std::vector<AlignmentIteration> seen;
  const auto model = make_alignment_model(made);
  model->train(made_up(some_pairs(), 30, 8, 4), [&](const AlignmentIteration& i) { seen.push_back(i); });
  for (std::size_t i = 1; i < seen.size(); ++i) {
    for (const int side : {0, 1}) EXPECT_GT(seen[i].log_likelihood[side], seen[i - 1].log_likelihood[side]);
  }
}

TEST_P(LexicalAlignment, TensionGrowsOnATextInItsOwnOrder) {
  const auto model = make_alignment_model(options("diagonal", 5));
  model->train(made_up(some_pairs(), 30, 8, 5), {});
  for (const char* name : {"forward.prior", "reverse.prior"}) {
    const auto prior = model->to_tensors().at(name).as<float>();
    EXPECT_EQ(prior[0], 0.08f);
    EXPECT_GT(prior[1], 4.0f);
    EXPECT_LE(prior[1], 14.0f);
  }
}

TEST_P(LexicalAlignment, ALoadedModelAndAnySplitGiveTheSameBits) {
  const Bitext bitext = made_up(some_pairs(), 30, 8, 6);
  TempDir dir;
  for (const std::string name : {"ibm1", "diagonal", "neural"}) {
    if (name == "neural" && on_simulated_device()) continue;  // a network takes the executor minutes
    const auto model = make_alignment_model(options(name, 3));
    model->train(bitext, {});
    AlignmentPosteriors all;
    model->posteriors(bitext, 0, bitext.pairs(), all);
    save_alignment_model(dir / name, *model, *bitext.source, *bitext.target);
    const LoadedAlignmentModel loaded = load_alignment_model(dir / name, device());
    EXPECT_EQ(loaded.model->name(), name);
    EXPECT_EQ(loaded.model->directions(), AlignmentDirections::both);
    EXPECT_TRUE(*loaded.source == *bitext.source) << "the same words under the same numbers";
    EXPECT_TRUE(*loaded.target == *bitext.target);
    AlignmentPosteriors again;
    loaded.model->posteriors(bitext, 0, bitext.pairs(), again);
    EXPECT_EQ(all.offsets, again.offsets);
    EXPECT_EQ(all.forward, again.forward);
    EXPECT_EQ(all.reverse, again.reverse);
    std::vector<float> forward, reverse;
    for (int64_t first = 0; first < bitext.pairs(); first += 7) {
      model->posteriors(bitext, first, std::min(first + 7, bitext.pairs()), again);
      forward.insert(forward.end(), again.forward.begin(), again.forward.end());
      reverse.insert(reverse.end(), again.reverse.begin(), again.reverse.end());
    }
    EXPECT_EQ(all.forward, forward) << name;
    EXPECT_EQ(all.reverse, reverse) << name;
  }
}

TEST_P(LexicalAlignment, ATextThatIsKeptGivesTheSameBits) {
  Bitext bitext = made_up(some_pairs(), 30, 8, 6);
  // Unknown words in training have entries of their own.
  bitext.source_words[3] = Vocabulary::kUnknown;
  bitext.target_words[5] = Vocabulary::kUnknown;
  Bitext other = bitext;
  other.source_words[40] = (other.source_words[40] + 1) % 30;
  other.target_words[60] = (other.target_words[60] + 1) % 30;
  for (const std::string name : {"ibm1", "diagonal"}) {
    AlignmentOptions how = options(name, 3);
    const auto plain = make_alignment_model(how);
    plain->train(bitext, {});
    EXPECT_GE(plain->batch_end(0), bitext.pairs()) << "nothing to share";
    how.keep_text = true;
    const auto keeping = make_alignment_model(how);
    keeping->train(bitext, {});
    EXPECT_EQ(plain->to_tensors().tensors, keeping->to_tensors().tensors);
    EXPECT_GT(keeping->batch_end(0), 0);
    AlignmentPosteriors wanted, got;
    for (const Bitext* text : {&bitext, &other}) {
      for (int64_t first = 0; first < bitext.pairs(); first += 11) {
        const int64_t last = std::min(first + 11, bitext.pairs());
        plain->posteriors(*text, first, last, wanted);
        keeping->posteriors(*text, first, last, got);
        ASSERT_EQ(wanted.offsets, got.offsets);
        ASSERT_EQ(wanted.forward, got.forward) << name << " from pair " << first;
        ASSERT_EQ(wanted.reverse, got.reverse) << name << " from pair " << first;
      }
    }
  }
}

TEST_P(LexicalAlignment, ATextThatIsCopiedInPartsGivesTheSameModel) {
  Bitext bitext = made_up(some_pairs(), 30, 8, 16);
  bitext.source_words[3] = bitext.target_words[5] = Vocabulary::kUnknown;
  for (const std::string name : {"ibm1", "diagonal"}) {
    const auto train = [&](int64_t memory, std::vector<AlignmentIteration>& told) {
      AlignmentOptions how = options(name, 3);
      how.device_memory = memory;
      how.keep_text = true;
      auto model = make_alignment_model(how);
      model->train(bitext, [&](const AlignmentIteration& iteration) { told.push_back(iteration); });
      return model;
    };
    std::vector<AlignmentIteration> whole_told, parts_told, others_told;
    const auto whole = train(0, whole_told);
    const auto parts = train(1, parts_told);
    EXPECT_EQ(train(4000, others_told)->to_tensors().tensors, parts->to_tensors().tensors) << name;
    for (std::size_t i = 0; i < whole_told.size(); ++i) {
      for (const std::size_t d : {0, 1}) {
        const double wanted = whole_told[i].log_likelihood[d];
        EXPECT_NEAR(parts_told[i].log_likelihood[d], wanted, 1e-5 * std::abs(wanted))
            << name << ", iteration " << i + 1;
        EXPECT_EQ(parts_told[i].words[d], whole_told[i].words[d]);
      }
    }
    AlignmentPosteriors a, b;
    whole->posteriors(bitext, 0, bitext.pairs(), a);
    parts->posteriors(bitext, 0, bitext.pairs(), b);
    ASSERT_EQ(a.forward.size(), b.forward.size());
    for (std::size_t i = 0; i < a.forward.size(); ++i) ASSERT_NEAR(a.forward[i], b.forward[i], 1e-4) << name << i;
    for (std::size_t i = 0; i < a.reverse.size(); ++i) ASSERT_NEAR(a.reverse[i], b.reverse[i], 1e-4) << name << i;
  }
}

TEST_P(LexicalAlignment, TrainsOneDirectionAlone) {
  const Bitext bitext = made_up(20, 10, 6, 7);
  for (const auto directions : {AlignmentDirections::forward, AlignmentDirections::reverse}) {
    AlignmentOptions made = options("ibm1", 2);
    made.directions = directions;
    const auto model = make_alignment_model(made);
    model->train(bitext, [&](const AlignmentIteration& i) {
      EXPECT_EQ(i.words[0] > 0, directions == AlignmentDirections::forward);
      EXPECT_EQ(i.words[1] > 0, directions == AlignmentDirections::reverse);
    });
    AlignmentPosteriors out;
    model->posteriors(bitext, 0, 20, out);
    EXPECT_EQ(out.forward.empty(), directions == AlignmentDirections::reverse);
    EXPECT_EQ(out.reverse.empty(), directions == AlignmentDirections::forward);
    EXPECT_EQ(model->translations(directions == AlignmentDirections::forward, 0, 3).size(), 0u);
    TempDir dir;
    save_alignment_model(dir / "m", *model, *bitext.source, *bitext.target);
    EXPECT_EQ(load_alignment_model(dir / "m", device()).model->directions(), directions);
  }
}

TEST_P(LexicalAlignment, TranslationsAreTheMostProbableFirst) {
  const Bitext bitext = made_up(some_pairs() * 4, 12, 6, 8);
  const auto model = make_alignment_model(options("ibm1", on_simulated_device() ? 3 : 8));
  model->train(bitext, {});
  for (const bool reverse : {false, true}) {
    const auto best = model->translations(reverse, 1, 3);
    ASSERT_EQ(best.size(), 3u);
    EXPECT_EQ(best[0].word, 1) << "s1 is t1";
    EXPECT_GE(best[0].probability, best[1].probability);
    EXPECT_GE(best[1].probability, best[2].probability);
    double total = 0;
    for (const auto& translation : model->translations(reverse, AlignmentModel::kNull, 1000)) {
      total += static_cast<double>(translation.probability);
    }
    EXPECT_NEAR(total, 1, 1e-5) << "NULL's row is a distribution";
  }
}

TEST_P(LexicalAlignment, WordsThatTrainingDidNotSeeHaveTheFloor) {
  const Bitext bitext = made_up(50, 10, 6, 9);
  const auto model = make_alignment_model(options("ibm1", 3));
  model->train(bitext, {});
  Bitext fresh = bitext;
  fresh.source_offsets = {0, 2, 3};
  fresh.target_offsets = {0, 1, 3};
  fresh.source_words = {1, Vocabulary::kUnknown, Vocabulary::kUnknown};
  fresh.target_words = {Vocabulary::kUnknown, 1, Vocabulary::kUnknown};
  AlignmentPosteriors out;
  model->posteriors(fresh, 0, 2, out);
  ASSERT_EQ(out.forward.size(), 4u);
  EXPECT_FLOAT_EQ(out.forward[0], 1.0f / 3) << "an unknown word comes from any place alike";
  EXPECT_FLOAT_EQ(out.forward[1], 1.0f / 3);
  EXPECT_LT(out.forward[2], 1e-6f) << "a known word rather from NULL than from an unknown word";
  EXPECT_FLOAT_EQ(out.forward[3], 0.5f);
}

TEST_P(LexicalAlignment, NeuralModelBeginsAsModel1AndThenClimbs) {
  if (on_simulated_device()) GTEST_SKIP() << "a network takes the executor minutes";
  const Bitext bitext = made_up(some_pairs(), 30, 8, 11);
  const auto model = make_alignment_model(options("neural", 8));
  std::vector<std::string> stages;
  std::vector<double> log_likelihoods[2];
  model->train(bitext, [&](const AlignmentIteration& iteration) {
    stages.push_back(iteration.stage);
    for (int side = 0; side < 2; ++side) log_likelihoods[side].push_back(iteration.log_likelihood[side]);
    EXPECT_EQ(iteration.of, 13);
  });
  ASSERT_EQ(stages.size(), 13);
  EXPECT_EQ(stages[4], "ibm1");
  EXPECT_EQ(stages[5], "neural");
  const Reals model1 = reference_model1(bitext, 6);
  for (std::size_t i = 0; i < 6; ++i) {
    EXPECT_NEAR(log_likelihoods[0][i] / static_cast<double>(model1[i]), 1, 1e-5) << "iteration " << i + 1;
  }
  for (const auto& side : log_likelihoods) {
    EXPECT_GT(side.back(), side[6]) << "from the first epochs to the last";
    EXPECT_GT(side.back(), side[0]) << "better than the uniform table";
  }
  // What the network says of a word that is mostly translated by its own number.
  const auto best = model->translations(false, 1, 1);
  ASSERT_EQ(best.size(), 1);
  EXPECT_EQ(best[0].word, 1);
}

TEST_P(LexicalAlignment, BitsDoNotDependOnThreads) {
  const Bitext bitext = made_up(some_pairs(), 30, 8, 10);
  for (const std::string name : {"ibm1", "diagonal"}) {
    const auto train = [&] {
      const auto model = make_alignment_model(options(name, 3));
      model->train(bitext, {});
      return model->to_tensors().tensors;
    };
    const int before = cpu_threads();
    set_cpu_threads(1);
    const auto one = train();
    set_cpu_threads(3);
    const auto three = train();
    set_cpu_threads(before);
    EXPECT_EQ(one, three) << name;
  }
}

TEST_P(LexicalAlignment, PairsWithAnEmptySideAreLeftOutOfTrainingAndHaveNoCells) {
  Bitext bitext = made_up(20, 10, 6, 11);
  std::vector<AlignmentIteration> without, with;
  make_alignment_model(options("ibm1", 2))->train(bitext, [&](const AlignmentIteration& i) { without.push_back(i); });
  bitext.source_words.push_back(3);
  bitext.source_offsets.push_back(static_cast<int64_t>(bitext.source_words.size()));
  bitext.target_offsets.push_back(bitext.target_offsets.back());
  const auto model = make_alignment_model(options("ibm1", 2));
  model->train(bitext, [&](const AlignmentIteration& i) { with.push_back(i); });
  EXPECT_EQ(with[1].log_likelihood, without[1].log_likelihood);
  AlignmentPosteriors out;
  model->posteriors(bitext, 20, 21, out);
  EXPECT_EQ(out.offsets, (std::vector<int64_t>{0, 0}));
}

TEST_P(LexicalAlignment, RefusesBadArguments) {
  AlignmentOptions bad = options("diagonal", 1);
  bad.diagonal.p0 = 1;
  EXPECT_THROW(make_alignment_model(bad), ArgumentError);
  bad = options("diagonal", 1);
  bad.diagonal.tension = 20;
  EXPECT_THROW(make_alignment_model(bad), ArgumentError);
  EXPECT_THROW(make_alignment_model(options("ibm1", -1)), ArgumentError);
  EXPECT_NE(message_of<ArgumentError>([&] { make_alignment_model(options("ibm9", 1)); }).find("ibm1, diagonal"),
            std::string::npos);
  const Bitext bitext = made_up(5, 10, 6, 12);
  const auto model = make_alignment_model(options("ibm1", 1));
  Bitext empty = bitext;
  empty.source_words.clear();
  empty.source_offsets.assign(6, 0);
  EXPECT_THROW(model->train(empty, {}), ArgumentError);
  model->train(bitext, {});
  AlignmentPosteriors out;
  EXPECT_THROW(model->posteriors(bitext, 0, 6, out), ArgumentError);
  Bitext other = bitext;
  other.source_words[0] = 10;
  EXPECT_THROW(model->posteriors(other, 0, 1, out), ArgumentError);
  EXPECT_THROW(model->translations(false, 10, 1), ArgumentError);
}

TEST_P(LexicalAlignment, DamagedTensorsAreRefused) {
  const Bitext bitext = made_up(5, 10, 6, 13);
  const auto model = make_alignment_model(options("diagonal", 1));
  model->train(bitext, {});
  TempDir dir;
  save_alignment_model(dir / "good", *model, *bitext.source, *bitext.target);
  const SafeTensors good = read_safetensors(dir / "good");
  for (const char* name :
       {"forward.table.words", "forward.table.values", "reverse.table.row_offsets", "forward.prior"}) {
    SafeTensors bad = good;
    StoredTensor& tensor = bad.tensors.at(name);
    std::fill(tensor.bytes.begin(), tensor.bytes.end(), std::byte{0x7f});
    if (std::string(name) == "forward.table.values") bad.tensors.erase(name);
    write_safetensors(dir / "bad", bad.tensors, bad.metadata);
    if (std::string(name) == "forward.table.values") {
      EXPECT_EQ(load_alignment_model(dir / "bad", device()).model->directions(), AlignmentDirections::reverse);
    } else {
      EXPECT_THROW(load_alignment_model(dir / "bad", device()), FileError) << name;
    }
  }
}

DGM_ON_EVERY_DEVICE(LexicalAlignment);

}  // namespace
}  // namespace dgm::test
