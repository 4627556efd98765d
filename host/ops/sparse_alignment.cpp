// SPDX-License-Identifier: Apache-2.0
#include <dgm/autodiff/reshape.hpp>
#include <dgm/ops/elementwise.hpp>
#include <dgm/ops/embedding.hpp>
#include <dgm/ops/sparse_alignment.hpp>

#include "host/core/dispatch.hpp"
#include "host/core/draw_args.hpp"
#include "host/ops/sparse_alignment_index.hpp"

#include <limits>
#include <mutex>
#include <optional>

namespace dgm {

namespace {

using kernels::kPadding;

template <class T>
Tensor<T> to_device(const std::vector<T>& values, const Stream& stream) {
  return Tensor<T>::from(values, {static_cast<int64_t>(values.size())}, stream);
}

// The prior's tensors, alive until the launches that read them are queued.
struct Prior {
  std::optional<Tensor<float>> parameters, log_factor, distance, place;
};

kernels::AlignmentText text_of(const AlignmentCells& cells) {
  kernels::AlignmentText text = {&cells.pattern(), {}, {}};
  if (cells.stream().device().is_cuda()) text.index = cells.index().pointers;
  return text;
}

// The launch argument of cells under a prior, whose tables it computes.
kernels::AlignmentText with_prior(const AlignmentCells& cells, kernels::AlignmentText text,
                                  const Tensor<float>* diagonal, Prior& prior) {
  if (diagonal == nullptr) return text;
  const Shape shape = {cells.pattern().positions() + kPadding};
  prior.parameters = *diagonal;
  prior.log_factor = Tensor<float>::empty(shape, cells.stream());
  prior.distance = Tensor<float>::empty(shape, cells.stream());
  prior.place = Tensor<float>::empty(shape, cells.stream());
  text.prior = {prior.parameters->data(), prior.log_factor->data(), prior.distance->data(), prior.place->data()};
  run(cells.stream(), kernels::SparseAlignmentPrior{text});
  return text;
}

void check_arguments(const char* function, const AlignmentCells& cells, const char* name, const Tensor<float>& table,
                     const Tensor<float>* diagonal) {
  check_shape(function, name, table, {cells.pattern().entries()}, "(entries)");
  check<DeviceError>(table.stream() == cells.stream(), function, ": ", name, " is on ", table.device().name(),
                     ", cells on ", cells.stream().device().name(), "; all arguments must be on one stream");
  if (diagonal == nullptr) return;
  check_shape(function, "diagonal", *diagonal, {2}, "(p0, tension)");
  check_same_stream(function, name, table, "diagonal", *diagonal);
}

Variable log_marginal(const char* function, const AlignmentCells& cells, const Variable& log_table,
                      const Variable* diagonal, bool of_pairs) {
  check_arguments(function, cells, "log_table", log_table.value(), diagonal != nullptr ? &diagonal->value() : nullptr);
  const Cooccurrence& pattern = cells.pattern();
  const Stream& stream = cells.stream();
  auto words = Tensor<float>::empty({pattern.target_tokens()}, stream);
  auto pairs = Tensor<float>::empty({of_pairs ? pattern.pairs() : 0}, stream);
  Prior prior;
  const auto text = with_prior(cells, text_of(cells), diagonal != nullptr ? &diagonal->value() : nullptr, prior);
  run(stream,
      kernels::SparseAlignmentForward{text, log_table.value().data(), words.data(), of_pairs ? pairs.data() : nullptr});
  // A constant log table in the place of a prior that is not there.
  const Variable parameters = diagonal != nullptr ? *diagonal : Variable(log_table.value());
  return Tape::record(
      of_pairs ? pairs : words, {log_table, parameters},
      [cells, table = log_table.value(), words, prior, text, of_pairs](const Tensor<float>& g, Gradients& inputs) {
        const bool by_prior = text.prior.parameters != nullptr && inputs.wanted(1);
        auto d_table = Tensor<float>::empty({inputs.wanted(0) ? table.size() : 0}, g.stream());
        auto d_prior = Tensor<float>::empty({by_prior ? 2 : 0}, g.stream());
        run(g.stream(), kernels::SparseAlignmentBackward{text, table.data(), words.data(), g.data(), of_pairs,
                                                         inputs.wanted(0) ? d_table.data() : nullptr,
                                                         by_prior ? d_prior.data() : nullptr});
        if (inputs.wanted(0)) inputs.add(0, d_table);
        if (by_prior) inputs.add(1, d_prior);
      });
}

}  // namespace

// ---- index ---------------------------------------------------------------------------------------------------

struct AlignmentCells::Lazy {
  std::once_flag once;
  std::optional<Index> index;
};

AlignmentCells::AlignmentCells(std::shared_ptr<const Cooccurrence> pattern, const Stream& stream)
    : pattern_(std::move(pattern)), stream_(stream), lazy_(std::make_shared<Lazy>()) {
  check<ArgumentError>(pattern_ != nullptr, "AlignmentCells: pattern is null");
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  check<ArgumentError>(pattern_->entries() < kMost && pattern_->target_tokens() < kMost && pattern_->pairs() < kMost,
                       "AlignmentCells: the pattern has ", pattern_->entries(), " entries, ", pattern_->target_tokens(),
                       " target words and ", pattern_->pairs(), " pairs; fewer than 2^31 of each are needed");
  if (stream.device().is_cuda()) index();
}

namespace {

// The index on the host.
struct HostIndex {
  std::vector<int32_t> token_pair, cell_entry, cell_token, cell_source, position_lengths, long_entry;
  std::vector<int64_t> target_begin = {0}, source_begin = {0}, cell_begin = {0}, entry_begin, pair_position;
  std::vector<int64_t> part_begin, long_part = {0};
  int64_t longest = 0;

  explicit HostIndex(const Cooccurrence& pattern) {
    for (const auto& block : pattern.blocks()) {
      for (std::size_t p = 0; p < static_cast<std::size_t>(block.pairs()); ++p) {
        const int64_t source = block.source_length(p);
        const int64_t target = block.target_length(p);
        longest = std::max(longest, source);
        token_pair.insert(token_pair.end(), static_cast<std::size_t>(target),
                          static_cast<int32_t>(target_begin.size() - 1));
        target_begin.push_back(target_begin.back() + target);
        source_begin.push_back(source_begin.back() + source);
        cell_begin.push_back(cell_begin.back() + (1 + source) * target);
        pair_position.push_back(
            pattern.lengths()[pattern.pair_lengths()[block.first_pair + static_cast<int64_t>(p)]].first_position);
      }
    }
    for (const auto& lengths : pattern.lengths()) {
      for (int32_t i = 1; i <= lengths.target; ++i) {
        position_lengths.insert(position_lengths.end(), {i, lengths.target, lengths.source});
      }
    }
    cell_entry.resize(static_cast<std::size_t>(cell_begin.back()));
    for (const auto& block : pattern.blocks()) {
      for (std::size_t p = 0; p < static_cast<std::size_t>(block.pairs()); ++p) {
        std::copy(block.target_words.begin() + block.target_begin[p],
                  block.target_words.begin() + block.target_begin[p + 1],
                  cell_entry.begin() + cell_begin[block.first_pair + static_cast<int64_t>(p)]);
      }
      for (std::size_t r = 0; r < block.rows.size(); ++r) {
        const int64_t first_entry = pattern.row_offsets()[block.rows[r]];
        pattern.for_each_occurrence(block, r, [&](const Cooccurrence::Occurrence& o, const auto* entries) {
          const int64_t target = block.target_length(o.pair);
          int32_t* const to =
              cell_entry.data() + cell_begin[block.first_pair + o.pair] + (o.position + int64_t{1}) * target;
          for (int64_t i = 0; i < target; ++i) to[i] = static_cast<int32_t>(first_entry + entries[i]);
        });
      }
    }
    // The same cells by entry, within an entry in the order of the text.
    entry_begin.assign(static_cast<std::size_t>(pattern.entries()) + 1, 0);
    for (const int32_t entry : cell_entry) ++entry_begin[entry + 1];
    for (std::size_t e = 0; e + 1 < entry_begin.size(); ++e) entry_begin[e + 1] += entry_begin[e];
    std::vector<int64_t> next(entry_begin.begin(), entry_begin.end() - 1);
    cell_token.resize(cell_entry.size());
    cell_source.resize(cell_entry.size());
    for (std::size_t pair = 0; pair + 1 < cell_begin.size(); ++pair) {
      const int64_t target = target_begin[pair + 1] - target_begin[pair];
      for (int64_t cell = cell_begin[pair]; cell < cell_begin[pair + 1]; ++cell) {
        const int64_t at = next[cell_entry[cell]]++;
        cell_token[at] = static_cast<int32_t>(target_begin[pair] + (cell - cell_begin[pair]) % target);
        cell_source[at] = static_cast<int32_t>((cell - cell_begin[pair]) / target);
      }
    }
    for (int64_t e = 0; e < pattern.entries(); ++e) {
      if (entry_begin[e + 1] - entry_begin[e] <= kernels::kLongEntry) continue;
      long_entry.push_back(static_cast<int32_t>(e));
      for (int64_t begin = entry_begin[e]; begin < entry_begin[e + 1]; begin += kernels::kPartCells) {
        part_begin.insert(part_begin.end(), {begin, std::min(begin + kernels::kPartCells, entry_begin[e + 1])});
      }
      long_part.push_back(static_cast<int64_t>(part_begin.size() / 2));
    }
  }
};

}  // namespace

const AlignmentCells::Index& AlignmentCells::index() const {
  std::call_once(lazy_->once, [&] {
    const HostIndex host(*pattern_);
    Index& index = lazy_->index.emplace(Index{to_device(host.token_pair, stream_),
                                              to_device(host.target_begin, stream_),
                                              to_device(host.source_begin, stream_),
                                              to_device(host.cell_begin, stream_),
                                              to_device(host.cell_entry, stream_),
                                              to_device(host.entry_begin, stream_),
                                              to_device(host.cell_token, stream_),
                                              to_device(host.cell_source, stream_),
                                              to_device(host.pair_position, stream_),
                                              to_device(host.position_lengths, stream_),
                                              to_device(host.part_begin, stream_),
                                              to_device(host.long_entry, stream_),
                                              to_device(host.long_part, stream_),
                                              to_device(pattern_->row_offsets(), stream_),
                                              {}});
    kernels::AlignmentIndex& pointers = index.pointers;
    pointers.pairs = pattern_->pairs();
    pointers.tokens = pattern_->target_tokens();
    pointers.entries = pattern_->entries();
    pointers.longest = host.longest;
    pointers.positions = pattern_->positions();
    pointers.token_pair = index.token_pair.data();
    pointers.target_begin = index.target_begin.data();
    pointers.source_begin = index.source_begin.data();
    pointers.cell_begin = index.cell_begin.data();
    pointers.cell_entry = index.cell_entry.data();
    pointers.entry_begin = index.entry_begin.data();
    pointers.cell_token = index.cell_token.data();
    pointers.cell_source = index.cell_source.data();
    pointers.pair_position = index.pair_position.data();
    pointers.position_lengths = index.position_lengths.data();
    pointers.parts = static_cast<int64_t>(host.part_begin.size() / 2);
    pointers.long_entries = static_cast<int64_t>(host.long_entry.size());
    pointers.part_begin = index.part_begin.data();
    pointers.long_entry = index.long_entry.data();
    pointers.long_part = index.long_part.data();
  });
  return *lazy_->index;
}

namespace {

// On the cells' device.
const int64_t* row_offsets(const AlignmentCells& cells) {
  return cells.stream().device().is_cuda() ? cells.index().row_offsets.data() : cells.pattern().row_offsets().data();
}

}  // namespace

// ---- ops -----------------------------------------------------------------------------------------------------

Variable sparse_alignment_log_marginal(const AlignmentCells& cells, const Variable& log_table,
                                       const Variable* diagonal) {
  return log_marginal("sparse_alignment_log_marginal", cells, log_table, diagonal, true);
}

Variable sparse_alignment_word_log_marginal(const AlignmentCells& cells, const Variable& log_table,
                                            const Variable* diagonal) {
  return log_marginal("sparse_alignment_word_log_marginal", cells, log_table, diagonal, false);
}

Variable sparse_alignment_log_table(const AlignmentCells& cells, const Variable& logits) {
  check_arguments("sparse_alignment_log_table", cells, "logits", logits.value(), nullptr);
  auto y = Tensor<float>::empty(logits.shape(), cells.stream());
  const int64_t rows = cells.pattern().rows();
  run(cells.stream(), kernels::LogSoftmaxRows{row_offsets(cells), rows, logits.value().data(), y.data()});
  return Tape::record(y, {logits}, [cells, rows, y](const Tensor<float>& g, Gradients& inputs) {
    auto dx = Tensor<float>::empty(y.shape(), g.stream());
    run(g.stream(), kernels::LogSoftmaxRowsGradient{row_offsets(cells), rows, y.data(), g.data(), dx.data()});
    inputs.add(0, dx);
  });
}

AlignmentCounts sparse_alignment_counts(const AlignmentCells& cells, const Tensor<float>& table,
                                        const Tensor<float>* diagonal) {
  const Stream& stream = cells.stream();
  AlignmentCounts counts = {Tensor<float>::zeros({cells.pattern().entries()}, stream),
                            Tensor<float>::empty({cells.pattern().pairs()}, stream),
                            Tensor<double>::zeros({3}, stream)};
  sparse_alignment_add_counts(cells, table, diagonal, counts);
  return counts;
}

void sparse_alignment_add_counts(const AlignmentCells& cells, const Tensor<float>& table, const Tensor<float>* diagonal,
                                 AlignmentCounts& to) {
  const char* const function = "sparse_alignment_counts";
  check_arguments(function, cells, "table", table, diagonal);
  check_shape(function, "counts", to.counts, table.shape(), "(entries)");
  check_shape(function, "log_marginal", to.log_marginal, {cells.pattern().pairs()}, "(pairs)");
  check_shape(function, "totals", to.totals, {3}, "(3)");
  const Stream& stream = cells.stream();
  Prior prior;
  const auto text = with_prior(cells, text_of(cells), diagonal, prior);
  auto weights = Tensor<float>::empty({cells.pattern().target_tokens() + kPadding}, stream);
  run(stream, kernels::SparseAlignmentCounts{text, table.data(), weights.data(), to.counts.data(),
                                             to.log_marginal.data(), to.totals.data()});
}

void sparse_alignment_normalise(const AlignmentCells& cells, const Tensor<float>& counts, float alpha,
                                Tensor<float>& table) {
  const char* const function = "sparse_alignment_normalise";
  check_arguments(function, cells, "counts", counts, nullptr);
  check_arguments(function, cells, "table", table, nullptr);
  check<ArgumentError>(alpha >= 0, function, ": alpha is ", alpha, "; at least 0 is needed");
  run(cells.stream(),
      kernels::NormaliseRows{row_offsets(cells), cells.pattern().rows(), counts.data(), alpha, table.data()});
}

namespace {

// Arguments of the pairs first .. last - 1, and how many cells those have.
kernels::SparseAlignmentPosteriors posteriors_of(const Cooccurrence& pattern, int64_t first, int64_t last,
                                                 int64_t& cells) {
  kernels::SparseAlignmentPosteriors args = {};
  args.first_pair = first;
  args.last_pair = last;
  cells = 0;
  for (const auto& block : pattern.blocks()) {
    const int64_t begin = std::max(first, block.first_pair) - block.first_pair;
    const int64_t end = std::min(last, block.last_pair) - block.first_pair;
    if (begin >= end) continue;
    if (first >= block.first_pair) args.first_token = block.first_target + block.target_begin[begin];
    args.last_token = block.first_target + block.target_begin[end];
    for (int64_t p = begin; p < end; ++p) cells += int64_t{block.source_length(p)} * block.target_length(p);
  }
  return args;
}

}  // namespace

Tensor<float> sparse_alignment_posteriors(const AlignmentCells& cells, const Tensor<float>& table,
                                          const Tensor<float>* diagonal) {
  check_arguments("sparse_alignment_posteriors", cells, "table", table, diagonal);
  const Stream& stream = cells.stream();
  Prior prior;
  int64_t size = 0;
  auto args = posteriors_of(cells.pattern(), 0, cells.pattern().pairs(), size);
  args.text = with_prior(cells, text_of(cells), diagonal, prior);
  args.table = table.data();
  auto posteriors = Tensor<float>::empty({size}, stream);
  args.posteriors = posteriors.data();
  run(stream, args);
  return posteriors;
}

void sparse_alignment_posteriors(const AlignmentCells& cells, const Tensor<float>& table, const Tensor<float>* diagonal,
                                 int64_t first, int64_t last, std::vector<float>& out) {
  const char* const function = "sparse_alignment_posteriors";
  check_arguments(function, cells, "table", table, diagonal);
  check<ArgumentError>(0 <= first && first <= last && last <= cells.pattern().pairs(), function, ": pairs ", first,
                       " to ", last, " of ", cells.pattern().pairs());
  const Stream& stream = cells.stream();
  Prior prior;
  int64_t size = 0;
  auto args = posteriors_of(cells.pattern(), first, last, size);
  args.text = with_prior(cells, text_of(cells), diagonal, prior);
  args.table = table.data();
  out.resize(static_cast<std::size_t>(size));
  if (!stream.device().is_cuda()) {
    args.posteriors = out.data();
    run(stream, args);
    return;
  }
  auto posteriors = Tensor<float>::empty({size}, stream);
  args.posteriors = posteriors.data();
  run(stream, args);
  detail::copy_to_host(out.data(), posteriors.data(), stream, out.size() * sizeof(float));
}

Tensor<int32_t> sparse_alignment_sample(const AlignmentCells& cells, const Tensor<float>& log_table, const Draws& draws,
                                        int64_t samples, const Tensor<float>* diagonal) {
  const char* const function = "sparse_alignment_sample";
  check_arguments(function, cells, "log_table", log_table, diagonal);
  check<ArgumentError>(samples >= 1, function, ": samples is ", samples, "; at least 1 is needed");
  check_same_stream(function, "log_table", log_table, "draws", draws.step());
  Prior prior;
  auto text = with_prior(cells, text_of(cells), diagonal, prior);
  text.index = cells.index().pointers;
  auto z = Tensor<int32_t>::empty({cells.pattern().target_tokens(), samples}, cells.stream());
  run(cells.stream(), kernels::SparseAlignmentSample{text, log_table.data(), draw_args(draws), samples, z.data()});
  return z;
}

Variable sparse_alignment_log_joint(const AlignmentCells& cells, const Tensor<int32_t>& z, const Variable& log_table,
                                    const Tensor<float>* diagonal) {
  const char* const function = "sparse_alignment_log_joint";
  check_arguments(function, cells, "log_table", log_table.value(), diagonal);
  check<ShapeError>(z.shape().rank() == 2 && z.shape()[0] == cells.pattern().target_tokens(), function,
                    ": z has shape ", z.shape().str(), "; (target words, S) is needed, with ",
                    cells.pattern().target_tokens(), " target words");
  check_same_stream(function, "log_table", log_table.value(), "z", z);
  Prior prior;
  auto text = with_prior(cells, text_of(cells), diagonal, prior);
  text.index = cells.index().pointers;
  auto entries = Tensor<int32_t>::empty(z.shape(), cells.stream());
  auto log_prior = Tensor<float>::empty(z.shape(), cells.stream());
  run(cells.stream(), kernels::SparseAlignmentPick{text, z.data(), z.shape()[1], entries.data(), log_prior.data()});
  const Variable values = embedding(reshape(log_table, {log_table.value().size(), 1}), entries);
  return reshape(values, z.shape()) + Variable(log_prior);
}

}  // namespace dgm
