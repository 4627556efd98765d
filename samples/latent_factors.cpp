// SPDX-License-Identifier: Apache-2.0
// Words from a few bits: a code z of D fair bits, and an LSTM that spells the word with the code before its eyes,
//
//   p(x) = sum_{z in {0,1}^D} 2^-D prod_i p(x_i | x_1 .. x_{i-1}, z).
//
// The sum has 65,536 terms for 16 bits: few enough to score a word exactly, too many to train on. So the model is
// trained on an estimate of its gradient (--estimator), with a second network for the proposal q(z | x); with few bits
// (--bits 6 --estimator exact) it can be trained on the sum itself, and --compare holds the estimates against it.
// --model lstm is the same speller without a code.
//
//   latent_factors --estimator reinforce,nvil,leave-one-out,vimco --generate 10
#include <dgm/autodiff/reshape.hpp>
#include <dgm/data/file.hpp>
#include <dgm/data/safetensors.hpp>
#include <dgm/data/text_table.hpp>
#include <dgm/data/vocabulary.hpp>
#include <dgm/inference/compare.hpp>
#include <dgm/inference/importance.hpp>
#include <dgm/inference/score_function.hpp>
#include <dgm/nn/mlp.hpp>
#include <dgm/nn/recurrent.hpp>
#include <dgm/ops/activations.hpp>
#include <dgm/ops/categorical_sample.hpp>
#include <dgm/ops/columns.hpp>
#include <dgm/ops/dropout.hpp>
#include <dgm/ops/elementwise.hpp>
#include <dgm/ops/log_softmax.hpp>
#include <dgm/ops/pick.hpp>
#include <dgm/ops/reductions.hpp>
#include <dgm/ops/vector_sample.hpp>
#include <dgm/train/trainer.hpp>

#include "samples/support/command.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <optional>
#include <random>

namespace {

using namespace dgm;

struct Options {
  std::string data = DGM_WORDS;
  std::string valid;
  std::string model = "latent";
  std::vector<std::string> estimators = {"vimco"};
  int64_t samples = 5;
  int64_t bits = 16;
  int64_t hidden = 64;
  int64_t embedding = 32;
  double dropout = 0.2;
  double letter_dropout = 0.1;
  int64_t epochs = 15;
  int64_t batch = 64;
  double rate = 5e-3;
  int64_t patience = 0;
  int64_t evaluate = 40;
  bool compare = false;
  int64_t generate = 0;
  std::string explain;
  uint64_t seed = 1;
  std::string device = "auto";
  int threads = 0;
  std::string save;
  std::string load;
  std::string checkpoint;
  std::string json;
};

// Sites of the draws.
constexpr int kDropoutSite = 1;
constexpr int kGenerateSite = 2;  // and 3
constexpr int kLetterSite = 4;

constexpr int64_t kLongest = 200;        // letters of a word
constexpr int64_t kMostSummedBits = 10;  // in training and --compare, where a gradient needs all codes at once
constexpr double kLn2 = 0.69314718055994531;

// ---- data ---------------------------------------------------------------------------------------

// Numbers of a word's letters. Number 0 is the end of a word, and what stands before its beginning.
using Word = std::vector<int32_t>;

// The letters of UTF-8 text; none if it is not UTF-8.
std::optional<std::vector<std::string>> letters_of(const std::string& line) {
  std::vector<std::string> letters;
  for (std::size_t i = 0; i < line.size();) {
    const auto byte = static_cast<unsigned char>(line[i]);
    const std::size_t size = byte < 0x80   ? 1
                             : byte < 0xC2 ? 0
                             : byte < 0xE0 ? 2
                             : byte < 0xF0 ? 3
                             : byte < 0xF5 ? 4
                                           : 0;
    if (size == 0 || i + size > line.size()) return std::nullopt;
    for (std::size_t j = 1; j < size; ++j) {
      if ((static_cast<unsigned char>(line[i + j]) & 0xC0) != 0x80) return std::nullopt;
    }
    letters.push_back(line.substr(i, size));
    i += size;
  }
  return letters;
}

std::string spelled(const Word& word, const Vocabulary& alphabet) {
  std::string text;
  for (const int32_t letter : word) text += alphabet.word(letter);
  return text;
}

Word word_of(const std::string& line, const std::string& where, Vocabulary& alphabet, bool grow) {
  const auto letters = letters_of(line);
  if (!letters) throw FileError(where + " is not UTF-8 text");
  if (letters->empty()) throw FileError(where + " is empty; a word a line is needed");
  if (static_cast<int64_t>(letters->size()) > kLongest) {
    throw FileError(where + " has " + std::to_string(letters->size()) + " letters; at most " +
                    std::to_string(kLongest) + " are allowed");
  }
  Word word;
  for (const std::string& letter : *letters) {
    if (letter.size() == 1 && static_cast<unsigned char>(letter[0]) < 0x20) {
      throw FileError(where + " has a control character (" + std::to_string(int{letter[0]}) + ")");
    }
    const int32_t number = grow ? alphabet.add(letter) : alphabet.find(letter);
    if (number == Vocabulary::kUnknown) {
      throw FileError(where + " has the letter \"" + letter + "\", which no word has that the model was trained on");
    }
    word.push_back(number);
  }
  return word;
}

std::vector<Word> read_words(const std::string& path, Vocabulary& alphabet, bool grow) {
  std::vector<Word> words;
  std::istringstream lines(read_file(path));
  std::string line;
  for (int64_t number = 1; std::getline(lines, line); ++number) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    words.push_back(word_of(line, path + ": line " + std::to_string(number), alphabet, grow));
  }
  if (words.empty()) throw FileError(path + ": has no words");
  return words;
}

struct Data {
  std::vector<Word> train;
  std::vector<Word> valid;
};

// Without --valid every tenth word is held out. A letter that only held-out words have is an error: it has no
// probability.
Data load_data(const Options& options, Vocabulary& alphabet, bool grow) {
  Data data;
  if (!options.valid.empty()) {
    data.train = read_words(options.data, alphabet, grow);
    data.valid = read_words(options.valid, alphabet, false);
    return data;
  }
  const std::vector<Word> all = read_words(options.data, alphabet, grow);
  for (std::size_t n = 0; n < all.size(); ++n) (n % 10 == 9 ? data.valid : data.train).push_back(all[n]);
  if (data.valid.empty()) {
    throw FileError(options.data + ": has " + std::to_string(all.size()) +
                    " words; at least 10 are needed, of which one is held out, or --valid");
  }
  return data;
}

// A batch of words for a recurrent layer: at each step the letter before, and the letter to come. Each word `repeat`
// times.
struct Text {
  SequenceLayout layout;
  Tensor<int32_t> before;
  Tensor<int32_t> next;
};

Text text_of(const std::vector<Word>& words, int64_t repeat, const Stream& stream,
             SequenceLayout::Direction direction = SequenceLayout::Direction::forward) {
  std::vector<int64_t> lengths;
  std::vector<int32_t> before;
  std::vector<int32_t> next;
  for (const Word& word : words) {
    for (int64_t s = 0; s < repeat; ++s) {
      lengths.push_back(static_cast<int64_t>(word.size()) + 1);
      before.push_back(0);
      before.insert(before.end(), word.begin(), word.end());
      next.insert(next.end(), word.begin(), word.end());
      next.push_back(0);
    }
  }
  const SequenceLayout layout(lengths, stream, direction);
  const auto packed = [&](const std::vector<int32_t>& values) {
    return pack(Tensor<int32_t>::from(values, {layout.total()}, stream), layout);
  };
  return {layout, packed(before), packed(next)};
}

// ---- the model ----------------------------------------------------------------------------------

// What a step of training drops: outputs of the LSTM, and letters that it would see. With fewer letters to go by it
// has to look at the code (Bowman et al. 2016).
struct Dropping {
  double outputs = 0;
  double letters = 0;
  Draws draws;
};

// The letters before, some of them hidden: a number that is no row of a table adds nothing.
Tensor<int32_t> some_hidden(const Tensor<int32_t>& before, double share, const Draws& draws) {
  const auto odds = static_cast<float>(std::log(share / (1 - share)));
  const std::vector<float> hidden =
      bernoulli_sample(Tensor<float>::full({before.size(), 1}, odds, before.stream()), draws).to_host();
  std::vector<int32_t> seen = before.to_host();
  for (std::size_t i = 0; i < seen.size(); ++i) seen[i] = hidden[i] != 0 ? -1 : seen[i];
  return Tensor<int32_t>::from(seen, before.shape(), before.stream());
}

struct Sizes {
  int64_t symbols;  // letters and the end
  int64_t bits;     // 0: no code
  int64_t hidden;
  int64_t embedding;
};

Variable use(Tape* tape, const std::optional<Linear>& layer, const Variable& x) {
  return tape != nullptr ? (*layer)(*tape, x) : (*layer)(x);
}

// p(x, z), and the proposal q(z | x) with a predictor of the learning signal for NVIL. Wherever a tape may be null, the
// parameters are then constants.
class WordModel {
 public:
  // The parameters of p, of q and of the predictor may be in one set.
  WordModel(const Sizes& sizes, Parameters& generative, Parameters& inference, Parameters& predictor, uint64_t seed,
            const Stream& stream)
      : sizes_(sizes), stream_(stream) {
    const RecurrentLayerOptions layer = {.seed = seed};
    const Shape table = {sizes.symbols, sizes.embedding};
    const auto symbols = [&](Parameters& parameters, const std::string& name) {
      return &parameters.add(name, Initialiser::normal(0.3f)(table, seed, parameters.size(), stream));
    };
    symbols_ = symbols(generative, "symbols");
    speller_.emplace(generative, "speller", sizes.embedding, sizes.hidden, stream, layer);
    if (sizes.bits > 0) {
      // Large enough that codes are told apart before the speller has learned to do without them.
      factors_.emplace(generative, "factors", sizes.bits, 4 * sizes.hidden, stream,
                       LinearOptions{.bias = false, .weight_values = Initialiser::normal(0.3f), .seed = seed});
    }
    output_.emplace(generative, "output", sizes.hidden, sizes.symbols, stream, LinearOptions{.seed = seed});
    if (sizes.bits == 0) return;
    const int64_t width = std::max<int64_t>(8, sizes.hidden / 2);
    read_symbols_ = symbols(inference, "inference.symbols");
    forward_.emplace(inference, "inference.forward", sizes.embedding, width, stream, layer);
    backward_.emplace(inference, "inference.backward", sizes.embedding, width, stream, layer);
    proposal_.emplace(inference, "inference.bits", 2 * width, sizes.bits, stream, LinearOptions{.seed = seed});
    signal_.emplace(predictor, "inference.signal", std::vector<int64_t>{2 * width, 32, 1}, stream,
                    MlpOptions{.activation = relu, .seed = seed});
  }

  const Sizes& sizes() const { return sizes_; }
  const Stream& stream() const { return stream_; }

  // log p(x | z) of each word of the text, (N); z (N, bits), none: the model without a code.
  Variable log_likelihood(Tape* tape, const Text& text, const std::optional<Variable>& z,
                          const Dropping* dropping = nullptr) const {
    const bool hides = dropping != nullptr && dropping->letters > 0;
    const Tensor<int32_t> before =
        hides ? some_hidden(text.before, dropping->letters, dropping->draws.at(kLetterSite)) : text.before;
    LstmOptions options;
    options.rows = &before;
    if (z) options.context = use(tape, factors_, *z);
    Variable h = speller_->steps(tape, text.layout, speller_->project(tape, of(tape, *symbols_)), options).h;
    if (dropping != nullptr && dropping->outputs > 0) {
      h = dropout(h, static_cast<float>(dropping->outputs), dropping->draws.at(kDropoutSite));
    }
    // So few symbols that their probabilities may be stored.
    const Variable log_p = log_softmax(use(tape, output_, h));
    return sequence_sum(reshape(pick(log_p, text.next.reshape({text.next.size(), 1})), {text.next.size()}),
                        text.layout);
  }

  struct Reading {
    Variable logits;  // of q(z | x), (N, bits)
    Variable signal;  // predicted, (N); no gradient flows to the reader
  };
  Reading read(Tape* tape, const std::vector<Word>& words) const {
    const Variable table = of(tape, *read_symbols_);
    const auto last = [&](const Lstm& layer, SequenceLayout::Direction direction) {
      const Text text = text_of(words, 1, stream_, direction);
      LstmOptions options;
      options.rows = &text.before;
      return sequence_last(layer.steps(tape, text.layout, layer.project(tape, table), options).h, text.layout);
    };
    const Variable both = concatenate(
        {last(*forward_, SequenceLayout::Direction::forward), last(*backward_, SequenceLayout::Direction::backward)});
    const Variable signal = tape != nullptr ? (*signal_)(*tape, both.detach()) : (*signal_)(both);
    return {use(tape, proposal_, both), reshape(signal, {static_cast<int64_t>(words.size())})};
  }

  // One step of spelling N words: scores of the next symbols, (N, symbols), and the state after it.
  struct State {
    Tensor<float> h;
    Tensor<float> c;
  };
  Tensor<float> spell(const Tensor<int32_t>& before, const std::optional<Tensor<float>>& z,
                      std::optional<State>& state) const {
    const int64_t count = before.size();
    LstmOptions options;
    options.rows = &before;
    if (z) options.context = use(nullptr, factors_, *z);
    if (state) options.h0 = state->h, options.c0 = state->c;
    const LstmStates states = speller_->steps(nullptr, SequenceLayout::uniform(count, 1, stream_),
                                              speller_->project(nullptr, symbols_->value), options);
    state = State{states.h.value(), states.c};
    return use(nullptr, output_, states.h).value();
  }

 private:
  static Variable of(Tape* tape, Parameter& parameter) {
    return tape != nullptr ? tape->watch(parameter) : Variable(parameter.value);
  }

  Sizes sizes_;
  Stream stream_;
  Parameter* symbols_ = nullptr;
  std::optional<Lstm> speller_;
  std::optional<Linear> factors_;
  std::optional<Linear> output_;
  Parameter* read_symbols_ = nullptr;
  std::optional<Lstm> forward_;
  std::optional<Lstm> backward_;
  std::optional<Linear> proposal_;
  std::optional<Mlp> signal_;
};

// Codes first..last-1 as bits, (last - first, bits).
Tensor<float> codes(int64_t first, int64_t last, int64_t bits, const Stream& stream) {
  std::vector<float> values;
  for (int64_t code = first; code < last; ++code) {
    for (int64_t d = 0; d < bits; ++d) values.push_back(static_cast<float>(code >> d & 1));
  }
  return Tensor<float>::from(values, {last - first, bits}, stream);
}

// Words as the estimators see them. An estimator keeps its baseline from step to step, so it is made once, for a joint
// whose words change.
class WordJoint : public LatentJoint {
 public:
  explicit WordJoint(const WordModel& model, bool trained = true) : model_(model), trained_(trained) {}

  void take(std::vector<Word> words, const Tensor<int64_t>* data = nullptr,
            std::optional<Dropping> dropping = std::nullopt) {
    words_ = std::move(words);
    data_.reset();
    if (data != nullptr) data_ = *data;
    dropping_ = std::move(dropping);
  }

  int64_t batch() const override { return static_cast<int64_t>(words_.size()); }
  const Stream& stream() const override { return model_.stream(); }
  const Tensor<int64_t>* data() const override { return data_ ? &*data_ : nullptr; }
  std::unique_ptr<VectorDistribution> prior(Tape&) const override {
    return std::make_unique<BernoulliVector>(Tensor<float>::zeros({batch(), model_.sizes().bits}, stream()));
  }
  Variable log_likelihood(Tape& tape, const Variable& z) const override {
    const int64_t samples = z.shape()[1];
    const Variable rows = reshape(z, {batch() * samples, model_.sizes().bits});
    const Variable each =
        model_.log_likelihood(of(tape), text_of(words_, samples, stream()), rows, dropping_ ? &*dropping_ : nullptr);
    return reshape(each, {batch(), samples});
  }
  Proposal proposal() const {
    return [this](Tape& tape) { return std::make_unique<BernoulliVector>(model_.read(of(tape), words_).logits); };
  }
  std::function<Variable(Tape&)> predictions() const {
    return [this](Tape& tape) { return model_.read(of(tape), words_).signal; };
  }
  // All codes for each word, (B, 2^bits, bits).
  Tensor<float> all_codes() const {
    const int64_t bits = model_.sizes().bits;
    const std::vector<float> one = codes(0, int64_t{1} << bits, bits, stream()).to_host();
    std::vector<float> all;
    for (int64_t b = 0; b < batch(); ++b) all.insert(all.end(), one.begin(), one.end());
    return Tensor<float>::from(all, {batch(), int64_t{1} << bits, bits}, stream());
  }
  // log p(x, z) for all codes, (B, 2^bits).
  Variable table(Tape& tape) const {
    return log_likelihood(tape, all_codes()) - static_cast<float>(static_cast<double>(model_.sizes().bits) * kLn2);
  }

 private:
  Tape* of(Tape& tape) const { return trained_ ? &tape : nullptr; }

  const WordModel& model_;
  bool trained_;
  std::vector<Word> words_;
  std::optional<Tensor<int64_t>> data_;
  std::optional<Dropping> dropping_;
};

// The ELBO by its sum over all codes, sum_z q(z | x) (log p(x, z) - log q(z | x)): what score-function estimates of its
// gradient by q are held against.
class ExactElbo : public Estimator {
 public:
  explicit ExactElbo(const WordJoint& joint) : joint_(joint) {}
  std::string name() const override { return "exact ELBO"; }
  Estimate operator()(Tape& tape, const Draws&) const override {
    const Variable log_q = joint_.proposal()(tape)->log_prob(joint_.all_codes());
    const Variable bound = sum(exp(log_q) * (joint_.table(tape) - log_q), -1);
    return {sum(bound), bound.value()};
  }

 private:
  const WordJoint& joint_;
};

// ---- training -----------------------------------------------------------------------------------

std::unique_ptr<Estimator> estimator_of(const std::string& name, const WordJoint& joint, int64_t samples) {
  ScoreFunctionOptions options = {.samples = samples};
  if (name == "reinforce") options.baseline = Baseline::running_mean;
  if (name == "leave-one-out") options.baseline = Baseline::leave_one_out;
  if (name == "vimco") options.baseline = Baseline::vimco;
  if (name == "nvil") {
    options.baseline = Baseline::learned;
    options.predictions = joint.predictions();
  }
  return std::make_unique<ScoreFunction>(joint, joint.proposal(), options);
}

std::vector<Word> some(const std::vector<Word>& words, std::size_t begin, std::size_t count) {
  const auto first = words.begin() + static_cast<std::ptrdiff_t>(begin);
  return {first, first + static_cast<std::ptrdiff_t>(std::min(count, words.size() - begin))};
}

double total(const Tensor<float>& values) {
  double sum = 0;
  for (const float value : values.to_host()) sum += value;
  return sum;
}

// Mean nats of the held-out words: exact without a code and where the sum over codes is what is trained, else by the
// bound of 16 draws from q. Always with the same draws.
double validation_nats(const WordModel& model, const std::vector<Word>& words, bool summed, uint64_t seed) {
  constexpr int64_t kDraws = 16;
  const int64_t bits = model.sizes().bits;
  const int64_t each = bits == 0 ? 1 : summed ? int64_t{1} << bits : kDraws;
  const auto part = static_cast<std::size_t>(std::max<int64_t>(1, 4096 / each));
  const Draws draws(seed, model.stream());
  WordJoint joint(model, false);
  double sum = 0;
  for (std::size_t begin = 0; begin < words.size(); begin += part) {
    const std::vector<Word> taken = some(words, begin, part);
    if (bits == 0) {
      sum += total(model.log_likelihood(nullptr, text_of(taken, 1, model.stream()), std::nullopt).value());
      continue;
    }
    std::vector<int64_t> numbers(taken.size());
    std::iota(numbers.begin(), numbers.end(), static_cast<int64_t>(begin));
    const auto data = Tensor<int64_t>::from(numbers, {static_cast<int64_t>(numbers.size())}, model.stream());
    joint.take(taken, &data);
    Tape tape;
    if (summed) {
      const TabulatedJoint finite([&](Tape& t) { return joint.table(t); }, joint.batch(), joint.stream());
      sum += total(Exact(finite)(tape, draws).log_marginal);
    } else {
      sum += total(ImportanceSampling(joint, joint.proposal(), kDraws)(tape, draws).log_marginal);
    }
  }
  return -sum / static_cast<double>(words.size());
}

History train(WordModel& model, Parameters& parameters, const std::string& estimator, const Data& data,
              const Options& options) {
  const auto count = static_cast<int64_t>(data.train.size());
  const int64_t size = std::min(options.batch, count);
  const int64_t steps_per_epoch = (count + size - 1) / size;
  Optimiser optimiser =
      adam(parameters, {.rate = Schedule::cosine(options.rate, options.epochs * steps_per_epoch), .clip_norm = 5});
  // No graph: the host lays each step's words out.
  Trainer trainer(optimiser, count,
                  {.epochs = options.epochs,
                   .batch = size,
                   .seed = options.seed,
                   .report_every = steps_per_epoch,
                   .graph = false,
                   .validate_every = steps_per_epoch,
                   .patience = options.patience,
                   .checkpoint = options.checkpoint,
                   .checkpoint_every = steps_per_epoch});
  WordJoint joint(model);
  const bool summed = estimator == "exact";
  const TabulatedJoint finite([&](Tape& tape) { return joint.table(tape); }, size, model.stream());
  std::unique_ptr<Estimator> estimate;
  if (model.sizes().bits > 0) {
    if (summed) {
      estimate = std::make_unique<Exact>(finite);
    } else {
      estimate = estimator_of(estimator, joint, options.samples);
    }
  }
  return trainer.train(
      [&](Tape& tape, const Minibatch& minibatch) -> Variable {
        std::vector<Word> words;
        for (const int64_t n : minibatch.indices.to_host()) words.push_back(data.train[static_cast<std::size_t>(n)]);
        const Dropping dropping = {options.dropout, options.letter_dropout, minibatch.draws};
        if (!estimate) {
          const Text text = text_of(words, 1, model.stream());
          return -mean(model.log_likelihood(&tape, text, std::nullopt, &dropping));
        }
        joint.take(std::move(words), &minibatch.indices, dropping);
        const Estimate made = (*estimate)(tape, minibatch.draws);
        // The value is the bound, whatever the objective's is; the gradient is the objective's.
        const Variable gradient = (made.objective.detach() - made.objective) / static_cast<float>(size);
        return gradient - mean(made.log_marginal);
      },
      [&] { return validation_nats(model, data.valid, summed, options.seed + 1); });
}

// ---- exact sums ---------------------------------------------------------------------------------

// log p(x, z) for every code: one batch of 2^bits spellings of the word, in parts that fit a cache.
std::vector<double> log_joints(const WordModel& model, const Word& word) {
  const int64_t bits = model.sizes().bits;
  const int64_t all = int64_t{1} << bits;
  const int64_t part = std::min<int64_t>(all, model.stream().device().is_cuda() ? 1 << 15 : 1 << 11);
  const Text text = text_of({word}, part, model.stream());
  std::vector<double> result;
  for (int64_t first = 0; first < all; first += part) {
    const Tensor<float> z = codes(first, first + part, bits, model.stream());
    for (const float value : model.log_likelihood(nullptr, text, Variable(z)).value().to_host()) {
      result.push_back(value - static_cast<double>(bits) * kLn2);
    }
  }
  return result;
}

struct Posterior {
  double log_marginal = 0;          // log p(x)
  double information = 0;           // KL(p(z | x) || p(z)), nats that the word tells about the code
  std::vector<double> bits;         // p(z_d = 1 | x)
  std::vector<double> probability;  // of each code
};

Posterior posterior_of(const WordModel& model, const Word& word) {
  const int64_t bits = model.sizes().bits;
  Posterior result;
  result.probability = log_joints(model, word);
  const double largest = *std::max_element(result.probability.begin(), result.probability.end());
  double sum = 0;
  for (const double l : result.probability) sum += std::exp(l - largest);
  result.log_marginal = largest + std::log(sum);
  result.bits.assign(static_cast<std::size_t>(bits), 0.0);
  for (std::size_t code = 0; code < result.probability.size(); ++code) {
    const double log_posterior = result.probability[code] - result.log_marginal;
    const double p = std::exp(log_posterior);
    result.probability[code] = p;
    if (p > 0) result.information += p * (log_posterior + static_cast<double>(bits) * kLn2);
    for (std::size_t d = 0; d < result.bits.size(); ++d) result.bits[d] += code >> d & 1 ? p : 0;
  }
  return result;
}

struct Score {
  std::vector<std::size_t> words;  // which of the held-out ones
  double nats = 0;                 // -log p(x), mean
  double standard_error = 0;       // of the mean, for words drawn from all of them; 0 if they are all
  double perplexity = 0;           // a letter, the end of a word counted as one
  double information = 0;
  std::vector<std::vector<double>> bits;
};

// Up to `count` held-out words, drawn at random.
Score score(const WordModel& model, const std::vector<Word>& words, int64_t count, uint64_t seed) {
  Score result;
  result.words.resize(words.size());
  std::iota(result.words.begin(), result.words.end(), std::size_t{0});
  std::mt19937_64 generator(seed);
  for (std::size_t n = words.size() - 1; n > 0; --n) std::swap(result.words[n], result.words[generator() % (n + 1)]);
  result.words.resize(std::min(words.size(), static_cast<std::size_t>(count)));
  std::vector<double> nats;
  double letters = 0;
  samples::ProgressLine progress;
  for (const std::size_t n : result.words) {
    if (model.sizes().bits > 0) {
      Posterior posterior = posterior_of(model, words[n]);
      nats.push_back(-posterior.log_marginal);
      result.information += posterior.information;
      result.bits.push_back(std::move(posterior.bits));
    } else {
      nats.push_back(
          -total(model.log_likelihood(nullptr, text_of({words[n]}, 1, model.stream()), std::nullopt).value()));
    }
    letters += static_cast<double>(words[n].size()) + 1;
    progress.show("evaluation: " + std::to_string(nats.size()) + "/" + std::to_string(result.words.size()) + " words");
  }
  progress.clear();
  const auto scored = static_cast<double>(nats.size());
  const double sum = std::accumulate(nats.begin(), nats.end(), 0.0);
  result.nats = sum / scored;
  result.information /= scored;
  result.perplexity = std::exp(sum / letters);
  double squares = 0;
  for (const double value : nats) squares += (value - result.nats) * (value - result.nats);
  // Words are drawn without replacement.
  const double left = 1 - scored / static_cast<double>(words.size());
  result.standard_error = std::sqrt(squares / std::max(1.0, scored - 1) / scored * left);
  return result;
}

// ---- what comes of it ---------------------------------------------------------------------------

// For the bits that differ most between words: which are surest to have it, and which surest not to.
std::string factor_table(const Score& scored, const std::vector<Word>& words, const Vocabulary& alphabet) {
  constexpr std::size_t kShown = 4;
  constexpr std::size_t kBits = 8;
  TextTable table({"bit", "p(1)", "words with it", "words without"});
  // Where a bit is much the same for all words, they say nothing about it.
  std::vector<double> means(scored.bits.front().size(), 0.0);
  std::vector<double> spreads(means.size(), 0.0);
  const auto count = static_cast<double>(scored.bits.size());
  for (std::size_t d = 0; d < means.size(); ++d) {
    for (const auto& bits : scored.bits) means[d] += bits[d] / count;
    for (const auto& bits : scored.bits) spreads[d] += (bits[d] - means[d]) * (bits[d] - means[d]) / count;
  }
  std::vector<std::size_t> telling(means.size());
  std::iota(telling.begin(), telling.end(), std::size_t{0});
  std::stable_sort(telling.begin(), telling.end(),
                   [&](std::size_t a, std::size_t b) { return spreads[a] > spreads[b]; });
  telling.resize(std::min(kBits, telling.size()));
  for (const std::size_t d : telling) {
    std::vector<std::size_t> order(scored.bits.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return scored.bits[a][d] > scored.bits[b][d]; });
    std::string with;
    std::string without;
    const auto name = [&](std::size_t i) {
      return spelled(words[scored.words[order[i]]], alphabet) + " " + fixed(scored.bits[order[i]][d], 2) + "  ";
    };
    for (std::size_t i = 0; i < std::min(kShown, order.size()); ++i) {
      with += name(i);
      without += name(order.size() - 1 - i);
    }
    table.row({std::to_string(d), fixed(means[d], 2), with, without});
  }
  return table.str();
}

void explain(const std::string& text, const WordModel& model, Vocabulary& alphabet) {
  constexpr std::size_t kShown = 8;
  const Posterior posterior = posterior_of(model, word_of(text, "--explain: the word", alphabet, false));
  std::vector<std::size_t> order(posterior.probability.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const std::size_t shown = std::min(kShown, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(shown), order.end(),
                    [&](std::size_t a, std::size_t b) { return posterior.probability[a] > posterior.probability[b]; });
  std::cout << text << ": " << fixed(-posterior.log_marginal, 3) << " nats, " << fixed(posterior.information, 3)
            << " of information about the code; its most probable codes (bit 0 first):\n";
  TextTable table({"code", "p(z | x)"});
  for (std::size_t i = 0; i < shown; ++i) {
    std::string bits;
    for (std::size_t d = 0; d < posterior.bits.size(); ++d) bits += order[i] >> d & 1 ? '1' : '0';
    table.row({bits, general(posterior.probability[order[i]], 3)});
  }
  std::cout << table.str();
}

void generate(int64_t count, const WordModel& model, const Vocabulary& alphabet, uint64_t seed) {
  const Stream& stream = model.stream();
  Draws draws(seed, stream);
  std::optional<Tensor<float>> z;
  const int64_t bits = model.sizes().bits;
  if (bits > 0) {
    z = bernoulli_sample(Tensor<float>::zeros({count, bits}, stream), draws.at(kGenerateSite)).reshape({count, bits});
  }
  std::vector<Word> words(static_cast<std::size_t>(count));
  std::vector<bool> ended(words.size(), false);
  auto before = Tensor<int32_t>::zeros({count}, stream);
  std::optional<WordModel::State> state;
  Draws letters = draws.at(kGenerateSite + 1);
  for (int64_t step = 0; step < kLongest && std::find(ended.begin(), ended.end(), false) != ended.end(); ++step) {
    letters.set_step(step);
    before = categorical_sample(model.spell(before, z, state), letters).reshape({count});
    const std::vector<int32_t> drawn = before.to_host();
    for (std::size_t n = 0; n < words.size(); ++n) {
      if (drawn[n] <= 0) ended[n] = true;
      if (!ended[n]) words[n].push_back(drawn[n]);
    }
  }
  const std::vector<float> codes_drawn = z ? z->to_host() : std::vector<float>();
  std::cout << "words drawn from the model:\n";
  for (std::size_t n = 0; n < words.size(); ++n) {
    std::cout << "  ";
    for (int64_t d = 0; d < bits; ++d)
      std::cout << codes_drawn[n * static_cast<std::size_t>(bits) + static_cast<std::size_t>(d)];
    std::cout << (bits > 0 ? "  " : "") << spelled(words[n], alphabet) << "\n";
  }
}

// Every estimator's gradient by the parameters of p against that of log p(x), which they differ from where the proposal
// is not the posterior; and by those of q against that of the ELBO, where the baselines show.
void compare_estimators(const WordModel& trained, Parameters& trained_parameters, const Data& data,
                        const Options& options) {
  constexpr std::size_t kWords = 16;
  Parameters generative;
  Parameters inference;
  Parameters predictor;
  const WordModel model(trained.sizes(), generative, inference, predictor, options.seed, trained.stream());
  for (Parameters* const set : {&generative, &inference, &predictor}) {
    for (Parameter& parameter : *set) parameter.value.copy_from(trained_parameters[parameter.name].value);
  }
  WordJoint joint(model);
  joint.take(some(data.valid, 0, kWords));
  const TabulatedJoint finite([&](Tape& tape) { return joint.table(tape); }, joint.batch(), joint.stream());
  const int64_t samples = std::max<int64_t>(2, options.samples);
  const auto reinforce = estimator_of("reinforce", joint, samples);
  const auto nvil = estimator_of("nvil", joint, samples);
  const auto leave_one_out = estimator_of("leave-one-out", joint, samples);
  const auto vimco = estimator_of("vimco", joint, samples);
  const ScoreFunction plain(joint, joint.proposal(), {.samples = samples, .baseline = Baseline::none});
  const PosteriorSampling posterior(finite, 1);
  const Draws draws(options.seed + 3, model.stream());
  const std::string words = std::to_string(joint.batch()) + " held-out words";
  std::cout << "gradients by the parameters of p for " << words << ", against that of log p(x), the sum over all "
            << (int64_t{1} << model.sizes().bits) << " codes:\n"
            << comparison_table(compare({leave_one_out.get(), vimco.get(), &posterior}, finite, generative, draws,
                                        {.repetitions = 200}))
            << "gradients by the parameters of q for " << words
            << ", against that of the ELBO, summed over all codes:\n"
            << comparison_table(compare({&plain, reinforce.get(), nvil.get(), leave_one_out.get()}, ExactElbo(joint),
                                        inference, draws, {.repetitions = 200}));
}

// ---- model files --------------------------------------------------------------------------------

constexpr const char* kFormat = "dgm.latent_factors.1";

void save(const std::string& path, const WordModel& model, const Parameters& parameters, const Vocabulary& alphabet) {
  std::map<std::string, StoredTensor> tensors;
  for (const Parameter& parameter : parameters) {
    tensors.emplace(parameter.name, StoredTensor::of(parameter.value.to_host(), parameter.value.shape().extents()));
  }
  nlohmann::json letters;
  for (int32_t i = 1; i < alphabet.size(); ++i) letters.push_back(std::string(alphabet.word(i)));
  const Sizes& sizes = model.sizes();
  write_safetensors(path, tensors,
                    {{"format", kFormat},
                     {"letters", letters.dump()},
                     {"sizes", nlohmann::json({sizes.bits, sizes.hidden, sizes.embedding}).dump()}});
}

struct ModelFile {
  Sizes sizes;
  std::map<std::string, StoredTensor> tensors;
};

ModelFile load_model(const std::string& path, Vocabulary& alphabet) {
  SafeTensors file = read_safetensors(path);
  if (file.metadata["format"] != kFormat) {
    throw FileError(path + ": is no model of words: its format is \"" + file.metadata["format"] + "\"; \"" + kFormat +
                    "\" is needed");
  }
  try {
    for (const auto& letter : nlohmann::json::parse(file.metadata["letters"])) alphabet.add(letter.get<std::string>());
    const auto sizes = nlohmann::json::parse(file.metadata["sizes"]).get<std::vector<int64_t>>();
    if (sizes.size() != 3 || sizes[0] < 0 || sizes[0] > 20 || sizes[1] < 1 || sizes[1] > 100'000 || sizes[2] < 1 ||
        sizes[2] > 100'000) {
      throw FileError(path + ": is no model of words: its sizes are " + file.metadata["sizes"]);
    }
    return {{alphabet.size(), sizes[0], sizes[1], sizes[2]}, std::move(file.tensors)};
  } catch (const nlohmann::json::exception&) {
    throw FileError(path + ": is no model of words: its letters or sizes are damaged");
  }
}

void check(const Options& options) {
  samples::check_outputs({options.save, options.checkpoint, options.json});
  const auto wants = [&](const char* name) {
    return std::find(options.estimators.begin(), options.estimators.end(), name) != options.estimators.end();
  };
  const std::string fewer = "; --bits " + std::to_string(kMostSummedBits) + " or fewer are needed";
  if (options.model == "lstm") {
    if (options.compare || !options.explain.empty()) {
      throw ArgumentError("--compare and --explain are about codes; --model latent is needed");
    }
  } else if (options.load.empty() && options.bits > kMostSummedBits) {
    if (wants("exact")) throw ArgumentError("--estimator exact keeps all codes of a batch in memory" + fewer);
    if (options.compare) throw ArgumentError("--compare keeps all codes of a batch in memory" + fewer);
  }
  if (options.samples < 2 && (wants("vimco") || wants("leave-one-out"))) {
    throw ArgumentError(
        "--samples 1: vimco and leave-one-out credit a draw with what it adds to the others; at least 2 "
        "are needed");
  }
  if (options.estimators.size() > 1 && !(options.save.empty() && options.checkpoint.empty())) {
    throw ArgumentError("--save and --checkpoint keep one model; one --estimator is needed");
  }
}

void work(const Options& options) {
  check(options);
  if (options.threads > 0) set_cpu_threads(options.threads);
  const Stream stream = Device::parse(options.device);

  Vocabulary alphabet;
  alphabet.add("");  // number 0
  std::optional<ModelFile> file;
  if (!options.load.empty()) file = load_model(options.load, alphabet);
  const Data data = load_data(options, alphabet, !file);
  const Sizes sizes =
      file ? file->sizes
           : Sizes{alphabet.size(), options.model == "latent" ? options.bits : 0, options.hidden, options.embedding};
  if (sizes.bits == 0 && (options.compare || !options.explain.empty())) {
    throw ArgumentError(options.load + ": is a model without a code; --compare and --explain are about codes");
  }
  if (options.compare && sizes.bits > kMostSummedBits) {
    throw ArgumentError(options.load + ": has " + std::to_string(sizes.bits) + " bits; --compare needs at most " +
                        std::to_string(kMostSummedBits));
  }
  std::cout << data.train.size() << " words to train, " << data.valid.size() << " held out, " << alphabet.size() - 1
            << " letters; " << (sizes.bits > 0 ? std::to_string(sizes.bits) + " bits, " : "") << "LSTM of "
            << sizes.hidden << " on " << stream.device().name() << "\n";

  nlohmann::json json = {{"train", data.train.size()},
                         {"valid", data.valid.size()},
                         {"bits", sizes.bits},
                         {"hidden", sizes.hidden},
                         {"device", stream.device().name()}};
  TextTable table({"trained by", "seconds", "epoch", "bound", "-log p(x)", "±", "a letter", "KL"});
  std::vector<std::string> ways = options.estimators;
  if (sizes.bits == 0) ways = {"likelihood"};
  if (file) ways = {"loaded"};
  std::optional<Score> last_score;
  std::optional<WordModel> model;
  std::optional<Parameters> parameters;
  for (const std::string& way : ways) {
    model.reset();
    parameters.emplace();
    model.emplace(sizes, *parameters, *parameters, *parameters, options.seed, stream);
    nlohmann::json result = {{"estimator", way}};
    std::vector<std::string> row = {way, "", "", ""};
    if (file) {
      std::map<std::string, Tensor<float>> values;
      for (const auto& [name, tensor] : file->tensors) {
        values.emplace(name, Tensor<float>::from(tensor.as<float>(), Shape(tensor.shape), stream));
      }
      try {
        parameters->load_values(values);
      } catch (const Error& error) {
        throw FileError(options.load + ": " + error.what());
      }
    } else {
      const auto start = std::chrono::steady_clock::now();
      const History history = train(*model, *parameters, way, data, options);
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      const int64_t steps_per_epoch = history.validation.front().step;
      row = {way, fixed(seconds, 1), std::to_string(history.best_step / steps_per_epoch), fixed(history.best_value, 3)};
      result["seconds"] = seconds;
      result["best_epoch"] = history.best_step / steps_per_epoch;
      result["best_bound"] = history.best_value;
      for (const auto& point : history.training) result["training"].push_back(point.loss);
      for (const auto& point : history.validation) result["validation"].push_back(point.value);
    }
    if (options.evaluate > 0) {
      last_score = score(*model, data.valid, options.evaluate, options.seed + 2);
      const Score& s = *last_score;
      row.insert(row.end(), {fixed(s.nats, 3), fixed(s.standard_error, 3), fixed(s.perplexity, 3),
                             sizes.bits > 0 ? fixed(s.information, 3) : ""});
      result["evaluated"] = s.words.size();
      result["nats"] = s.nats;
      result["standard_error"] = s.standard_error;
      result["perplexity"] = s.perplexity;
      if (sizes.bits > 0) result["information"] = s.information;
    } else {
      row.insert(row.end(), 4, "");
    }
    table.row(row);
    json["results"].push_back(result);
  }
  std::cout << table.str();
  if (last_score) {
    const auto count = static_cast<int64_t>(last_score->words.size());
    std::cout << "-log p(x): nats a word, "
              << (sizes.bits > 0 ? "by the sum over all " + grouped(int64_t{1} << sizes.bits) + " codes, " : "")
              << "of " << (count == static_cast<int64_t>(data.valid.size()) ? "all " : "") << count
              << " held-out words (±: standard error of drawing them); a letter: perplexity"
              << (sizes.bits > 0 ? "; KL: nats that a word tells about its code" : "") << "\n";
    if (sizes.bits > 0) std::cout << factor_table(*last_score, data.valid, alphabet);
  }
  if (!options.save.empty()) save(options.save, *model, *parameters, alphabet);
  if (options.compare) compare_estimators(*model, *parameters, data, options);
  if (!options.explain.empty()) explain(options.explain, *model, alphabet);
  if (options.generate > 0) generate(options.generate, *model, alphabet, options.seed);
  if (!options.json.empty()) write_file(options.json, json.dump(2) + "\n");
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Trains a model of how words are spelled, with a code of bits behind each word, and scores it exactly.",
               "latent_factors");
  app.add_option("--data", options.data, "Words, one a line, UTF-8, gzip or not (default: 4000 Spanish words)");
  app.add_option("--valid", options.valid, "Held-out words (default: every tenth of the data)");
  app.add_option("--model", options.model, "latent, or lstm: without a code")
      ->check(CLI::IsMember({"latent", "lstm"}))
      ->capture_default_str();
  app.add_option("--estimator", options.estimators,
                 "reinforce, nvil, leave-one-out, vimco or, of few bits, exact; several: trained one after the other")
      ->delimiter(',')
      ->check(CLI::IsMember({"reinforce", "nvil", "leave-one-out", "vimco", "exact"}))
      ->capture_default_str();
  app.add_option("--samples", options.samples, "Codes drawn for each word")
      ->check(CLI::Range(1, 10'000))
      ->capture_default_str();
  app.add_option("--bits", options.bits, "Of a code")->check(CLI::Range(1, 20))->capture_default_str();
  app.add_option("--hidden", options.hidden, "Units of the LSTM")->check(CLI::Range(1, 10'000))->capture_default_str();
  app.add_option("--embedding", options.embedding, "Dimensions of a letter")
      ->check(CLI::Range(1, 10'000))
      ->capture_default_str();
  app.add_option("--dropout", options.dropout, "Share of the LSTM's outputs that a step drops")
      ->check(CLI::Range(0.0, 0.95))
      ->capture_default_str();
  app.add_option("--letter-dropout", options.letter_dropout, "Share of the letters that a step hides from the LSTM")
      ->check(CLI::Range(0.0, 0.95))
      ->capture_default_str();
  app.add_option("--epochs", options.epochs, "Passes through the data at most")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  app.add_option("--batch", options.batch, "Words a step")->check(CLI::Range(1, 100'000))->capture_default_str();
  app.add_option("--rate", options.rate, "Adam's, falling along a cosine")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--patience", options.patience, "Stop after so many epochs without a better held-out bound; 0: never")
      ->check(CLI::Range(0, 1'000'000))
      ->capture_default_str();
  app.add_option("--evaluate", options.evaluate, "Held-out words whose -log p(x) is summed exactly; 0: none")
      ->check(CLI::Range(0, 1'000'000))
      ->capture_default_str();
  app.add_flag("--compare", options.compare, "Hold the estimators' gradients against the exact one (few bits)");
  app.add_option("--generate", options.generate, "Draw so many words")->check(CLI::Range(1, 100'000));
  app.add_option("--explain", options.explain, "Print the most probable codes of this word");
  samples::add_compute_options(app, options);
  app.add_option("--save", options.save, "Write the model here");
  app.add_option("--load", options.load, "Take this model instead of training one");
  app.add_option(
      "--checkpoint", options.checkpoint,
      "Keep the training here, and go on from it if it is there (the running mean of reinforce and nvil begins anew)");
  app.add_option("--json", options.json, "Write the figures here as JSON");
  return samples::run(app, argc, argv, [&] { work(options); });
}
