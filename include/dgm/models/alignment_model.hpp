// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/core/device.hpp>
#include <dgm/data/bitext.hpp>
#include <dgm/data/safetensors.hpp>

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace dgm {

/// forward: p(target | source), each target word is generated from a source word or from NULL; reverse: the other way
/// round.
enum class AlignmentDirections { forward, reverse, both };

/// What `diagonal` is told (Dyer et al. 2013).
struct DiagonalOptions {
  /// Prior probability of NULL, 0 <= p0 < 1.
  float p0 = 0.08f;
  /// How fast the prior falls off the diagonal, 0.1 to 14; before the first iteration if it is optimised.
  float tension = 4.0f;
  /// From the second iteration on.
  bool optimise_tension = true;
  /// Of the Dirichlet prior of each word's translations; 0 is maximum likelihood.
  float alpha = 0.01f;
};

struct AlignmentOptions {
  /// One of alignment_models().
  std::string model = "hmm";
  AlignmentDirections directions = AlignmentDirections::both;
  /// Of the model's last stage; 0 is the model's default: 5, of neural 10, after 5 iterations of ibm1.
  int iterations = 0;
  std::uint64_t seed = 1;
  Device device = Device::cpu();
  /// Bytes of a GPU's memory that the text may take in training, besides the tables; 0: 8 GiB. A larger text is copied
  /// there in parts, in each iteration again: for an hmm to the same bits, for ibm1 and diagonal to the same bits for
  /// parts of any size. neural needs the whole text there.
  std::int64_t device_memory = 0;
  DiagonalOptions diagonal = {};
  /// ibm1, diagonal and neural: whether the text is kept as training compiled it, 2 bytes a cell and direction, so that
  /// posteriors of its own pairs need not compile them again. They are the same bits.
  bool keep_text = false;
};

/// What training tells after each iteration.
struct AlignmentIteration {
  std::string stage;  // the model that is trained: an HMM begins as an ibm1
  int iteration = 0;  // from 1, over all stages
  int of = 0;
  /// Forward and reverse: sum over the bitext, natural logarithms, under the parameters before the update; and the
  /// words generated. 0 words for a direction that is not trained.
  std::array<double, 2> log_likelihood = {};
  std::array<std::int64_t, 2> words = {};
  double seconds = 0;
};

/// Probabilities of the links of consecutive pairs, given both sentences.
struct AlignmentPosteriors {
  /// The cells of the k-th of the pairs are offsets[k] .. offsets[k + 1] - 1: (target words, source words) row-major.
  std::vector<std::int64_t> offsets = {0};
  /// p(target word i was generated from source word j); what is missing to 1 in a row is NULL's. Empty if the model
  /// has no such direction.
  std::vector<float> forward;
  /// p(source word j was generated from target word i), in the same order of cells; what is missing to 1 in a column is
  /// NULL's.
  std::vector<float> reverse;
};

/// A model of which word translates which: IBM 1, HMM, ...
class AlignmentModel {
 public:
  /// What stands for NULL where a word is asked for.
  static constexpr std::int32_t kNull = -1;

  virtual ~AlignmentModel() = default;

  /// As in AlignmentOptions::model.
  virtual std::string name() const = 0;
  virtual AlignmentDirections directions() const = 0;

  using Report = std::function<void(const AlignmentIteration&)>;
  /// Trains from the start on all pairs; those with an empty side are left out. The same bitext, options and device
  /// give the same bits, and on the CPU any number of threads does (of neural the same number: its matrix
  /// products are cut by threads).
  ///
  /// report    is called after each iteration, on the calling thread; may be empty.
  /// Throws    ArgumentError if no pair has words on both sides; what report throws.
  virtual void train(const Bitext& bitext, const Report& report) = 0;

  /// Posteriors of the pairs first .. last - 1; reuses the memory of out. They depend on the model and on the pair
  /// alone: any split into calls, and a model that was saved and loaded, give the same bits. Word numbers are those of
  /// the training text's vocabularies. What training did not see, a word or a pair of words, has the floor that the
  /// model documents. A pair with an empty side has no cells.
  ///
  /// May be called from several threads at once.
  ///
  /// Throws    ArgumentError for a range not in the bitext, or for words beyond the model's vocabulary.
  virtual void posteriors(const Bitext& bitext, std::int64_t first, std::int64_t last,
                          AlignmentPosteriors& out) const = 0;
  /// Where a call of posteriors() for pairs from this one on had better end.
  virtual std::int64_t batch_end(std::int64_t pair) const;

  struct Translation {
    std::int32_t word;
    float probability;
  };
  /// The most probable target words given a source word (or, in reverse, source words given a target word; kNull for
  /// NULL), at most that many, descending, of equals the lower number first. None in a direction that the model
  /// does not have.
  virtual std::vector<Translation> translations(bool reverse, std::int32_t word, std::int64_t most) const = 0;

  /// All that posteriors() and translations() need.
  virtual SafeTensors to_tensors() const = 0;
};

/// Names of the models there are.
std::vector<std::string> alignment_models();

/// A model to be trained. Throws ArgumentError naming the models there are, or for an option it cannot work with.
std::unique_ptr<AlignmentModel> make_alignment_model(const AlignmentOptions& options);

/// Writes the model with the vocabularies that its word numbers refer to, and notes of the caller, to one .safetensors
/// file. All or nothing, as write_file().
void save_alignment_model(const std::string& path, const AlignmentModel& model, const Vocabulary& source,
                          const Vocabulary& target, const std::map<std::string, std::string>& notes = {});

struct LoadedAlignmentModel {
  std::unique_ptr<AlignmentModel> model;
  std::shared_ptr<const Vocabulary> source, target;
  std::map<std::string, std::string> notes;
};

/// Throws    FileError: not an alignment model, or one that was damaged.
LoadedAlignmentModel load_alignment_model(const std::string& path, Device device = Device::cpu());

}  // namespace dgm
