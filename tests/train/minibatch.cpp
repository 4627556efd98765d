// SPDX-License-Identifier: Apache-2.0
#include <dgm/train/minibatch.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/files.hpp"
#include "tests/support/reference.hpp"

#include <algorithm>
#include <map>
#include <numeric>

namespace dgm::test {
namespace {

using Indices = std::vector<int64_t>;

constexpr MinibatchOptions kReplacement = {Sampling::with_replacement, LastBatch::wrap};
constexpr MinibatchOptions kWrap = {Sampling::epochs, LastBatch::wrap};
constexpr MinibatchOptions kDrop = {Sampling::epochs, LastBatch::drop};
constexpr MinibatchOptions kPad = {Sampling::epochs, LastBatch::pad};

struct Drawn {
  Indices indices;
  std::vector<float> weights;
};

std::vector<Drawn> draw_steps(Device device, int64_t data, int64_t batch, const MinibatchOptions& options,
                              int64_t steps, uint64_t seed = 7) {
  Draws draws(seed, device);
  const MinibatchSampler sampler(data, batch, draws, options);
  std::vector<Drawn> result;
  for (int64_t step = 0; step < steps; ++step) {
    draws.set_step(step);
    const Minibatch minibatch = sampler.draw();
    result.push_back({minibatch.indices.to_host(), minibatch.weights.to_host()});
  }
  return result;
}

Indices all_of(int64_t data) {
  Indices all(static_cast<std::size_t>(data));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

Indices sorted(Indices values) {
  std::sort(values.begin(), values.end());
  return values;
}

class Minibatches : public OnEveryDevice {};

TEST_P(Minibatches, VisitEveryDatumExactlyOnceAnEpoch) {
  struct Case {
    int64_t data;
    int64_t batch;
  };
  for (const Case& c :
       {Case{1, 1}, Case{1, 3}, Case{2, 1}, Case{7, 3}, Case{10, 5}, Case{100, 7}, Case{101, 200}, Case{5000, 617}}) {
    const std::string what = "N = " + std::to_string(c.data) + ", M = " + std::to_string(c.batch);
    constexpr int64_t kEpochs = 3;
    // wrap: the epochs in one row, whatever the batches.
    Indices row;
    for (const Drawn& d : draw_steps(device(), c.data, c.batch, kWrap, (kEpochs * c.data + c.batch - 1) / c.batch)) {
      row.insert(row.end(), d.indices.begin(), d.indices.end());
    }
    std::vector<Indices> epochs;
    for (int64_t e = 0; e < kEpochs; ++e) {
      epochs.emplace_back(row.begin() + e * c.data, row.begin() + (e + 1) * c.data);
      EXPECT_EQ(sorted(epochs.back()), all_of(c.data)) << what << ", epoch " << e << " of wrap";
    }
    if (c.data > 20) {
      EXPECT_NE(epochs[0], epochs[1]) << what;
      EXPECT_NE(epochs[0], all_of(c.data)) << what;
    }
    // pad: those with a weight.
    const int64_t batches = (c.data + c.batch - 1) / c.batch;
    const auto steps = draw_steps(device(), c.data, c.batch, kPad, kEpochs * batches);
    for (int64_t e = 0; e < kEpochs; ++e) {
      Indices seen;
      for (int64_t b = 0; b < batches; ++b) {
        const Drawn& d = steps[static_cast<std::size_t>(e * batches + b)];
        double total = 0;
        for (std::size_t i = 0; i < d.indices.size(); ++i) {
          ASSERT_GE(d.indices[i], 0);
          ASSERT_LT(d.indices[i], c.data);
          if (d.weights[i] != 0) seen.push_back(d.indices[i]);
          total += d.weights[i];
        }
        EXPECT_NEAR(total, static_cast<double>(c.data), 1e-5 * static_cast<double>(c.data)) << what;
      }
      EXPECT_EQ(sorted(seen), all_of(c.data)) << what << ", epoch " << e << " of pad";
    }
  }
}

TEST_P(Minibatches, DropLeavesOutOthersInEachEpoch) {
  const auto steps = draw_steps(device(), 10, 4, kDrop, 2 * 50);
  std::map<int64_t, int> seen;
  for (std::size_t e = 0; e < 50; ++e) {
    Indices epoch = steps[2 * e].indices;
    epoch.insert(epoch.end(), steps[2 * e + 1].indices.begin(), steps[2 * e + 1].indices.end());
    epoch = sorted(epoch);
    EXPECT_EQ(std::unique(epoch.begin(), epoch.end()), epoch.end()) << "no datum twice in epoch " << e;
    for (const int64_t index : epoch) ++seen[index];
  }
  for (int64_t n = 0; n < 10; ++n) EXPECT_NEAR(seen[n], 40, 5 * std::sqrt(50 * 0.8 * 0.2)) << "datum " << n;
}

TEST_P(Minibatches, OrdersOfFourDataAreAllEquallyLikely) {
  constexpr int kEpochs = 4800;
  Draws draws(11, device());
  const MinibatchSampler sampler(4, 4 * kEpochs, draws, kWrap);
  const Indices row = sampler.draw().indices.to_host();
  std::map<Indices, int> counts;
  for (int e = 0; e < kEpochs; ++e) ++counts[Indices(row.begin() + 4 * e, row.begin() + 4 * (e + 1))];
  ASSERT_EQ(counts.size(), 24u);
  double chi2 = 0;
  for (const auto& [order, count] : counts) chi2 += (count - 200.0) * (count - 200.0) / 200.0;
  EXPECT_LT(chi2, 23 + 5 * std::sqrt(46.0)) << "5 standard deviations of chi squared with 23 degrees";
}

TEST_P(Minibatches, PlacesOfManyDataAreUniformAndPairsIndependent) {
  // Where two neighbours of the data land in an order of 5000, in a 5 x 5 table of fifths.
  constexpr int64_t kData = 5000;
  double table[5][5] = {};
  Draws draws(5, device());
  const MinibatchSampler sampler(kData, kData, draws, kWrap);
  int64_t pairs = 0;
  for (int64_t epoch = 0; epoch < 4; ++epoch) {
    draws.set_step(epoch);
    const Indices order = sampler.draw().indices.to_host();
    std::vector<int64_t> place(kData);
    for (int64_t i = 0; i < kData; ++i) place[static_cast<std::size_t>(order[static_cast<std::size_t>(i)])] = i;
    for (std::size_t n = 0; n + 1 < kData; n += 2, ++pairs) table[place[n] * 5 / kData][place[n + 1] * 5 / kData] += 1;
  }
  double chi2 = 0;
  const double expected = static_cast<double>(pairs) / 25;
  for (const auto& row : table) {
    for (const double count : row) chi2 += (count - expected) * (count - expected) / expected;
  }
  EXPECT_LT(chi2, 24 + 5 * std::sqrt(48.0));
}

TEST_P(Minibatches, WithReplacementAreUniform) {
  std::map<int64_t, int> counts;
  for (const Drawn& d : draw_steps(device(), 9, 900, kReplacement, 10)) {
    for (const int64_t index : d.indices) ++counts[index];
    for (const float weight : d.weights) ASSERT_EQ(weight, 0.01f);
  }
  ASSERT_EQ(counts.size(), 9u);
  for (const auto& [index, count] : counts) EXPECT_NEAR(count, 1000, 5 * std::sqrt(1000 * 8.0 / 9)) << index;
}

TEST_P(Minibatches, WeightedSumsAreUnbiasedForTheSumOverAllData) {
  constexpr int64_t kData = 23;
  const std::vector<float> f = random_normals(kData, 1, 2.0, 1.0);
  double wanted = 0;
  for (const float value : f) wanted += value;
  for (const auto& [options, name] : {std::pair{kReplacement, "replacement"}, std::pair{kWrap, "wrap"},
                                      std::pair{kDrop, "drop"}, std::pair{kPad, "pad"}}) {
    constexpr int64_t kSteps = 3 * 5 * 100;
    double sum = 0;
    double squares = 0;
    for (const Drawn& d : draw_steps(device(), kData, 5, options, kSteps, 3)) {
      double estimate = 0;
      for (std::size_t i = 0; i < d.indices.size(); ++i) {
        estimate += static_cast<double>(d.weights[i]) * static_cast<double>(f[static_cast<std::size_t>(d.indices[i])]);
      }
      sum += estimate;
      squares += estimate * estimate;
    }
    const double mean = sum / kSteps;
    const double error = std::sqrt((squares / kSteps - mean * mean) / kSteps);
    EXPECT_NEAR(mean, wanted, 5 * error) << name;
  }
}

TEST_P(Minibatches, AreTheSameOnEveryDeviceAndForAnyNumberOfThreads) {
  const int threads = cpu_threads();
  for (const auto& options : {kReplacement, kWrap, kDrop, kPad}) {
    for (const int64_t data : {3, 100, 5000, 1 << 20}) {
      const int64_t batch = std::min<int64_t>(data, 1037);
      set_cpu_threads(1);
      const auto wanted = draw_steps(Device::cpu(), data, batch, options, 3);
      set_cpu_threads(3);
      const auto got = draw_steps(device(), data, batch, options, 3);
      for (std::size_t s = 0; s < got.size(); ++s) {
        EXPECT_EQ(got[s].indices, wanted[s].indices) << "N = " << data << ", step " << s;
        EXPECT_EQ(got[s].weights, wanted[s].weights) << "N = " << data << ", step " << s;
      }
    }
  }
  set_cpu_threads(threads);
}

TEST_P(Minibatches, DependOnTheSeed) {
  for (const auto& options : {kReplacement, kWrap}) {
    EXPECT_NE(draw_steps(device(), 100, 50, options, 1, 1)[0].indices,
              draw_steps(device(), 100, 50, options, 1, 2)[0].indices);
    EXPECT_NE(draw_steps(device(), 100, 50, options, 1, 1)[0].indices,
              draw_steps(device(), 100, 50, options, 1, uint64_t{1} + (uint64_t{1} << 32))[0].indices)
        << "all 64 bits of it";
  }
}

TEST_P(Minibatches, OfSizeZeroTakeAllDataInOrder) {
  const auto steps = draw_steps(device(), 5, 0, kWrap, 2);
  EXPECT_EQ(steps[1].indices, all_of(5));
  EXPECT_EQ(steps[1].weights, std::vector<float>(5, 1.0f));
}

TEST_P(Minibatches, CountTheStepsOfAnEpoch) {
  const Draws draws(1, device());
  EXPECT_EQ(MinibatchSampler(10, 3, draws, kWrap).steps_per_epoch(), 4);
  EXPECT_EQ(MinibatchSampler(10, 3, draws, kDrop).steps_per_epoch(), 3);
  EXPECT_EQ(MinibatchSampler(10, 3, draws, kPad).steps_per_epoch(), 4);
  EXPECT_EQ(MinibatchSampler(10, 5, draws, kPad).steps_per_epoch(), 2);
  EXPECT_EQ(MinibatchSampler(10, 0, draws).steps_per_epoch(), 1);
}

TEST_P(Minibatches, RefuseWhatCannotBeDrawn) {
  const Draws draws(1, device());
  EXPECT_EQ(message_of<ArgumentError>([&] { MinibatchSampler(0, 1, draws); }),
            "MinibatchSampler: data is 0; 1 <= data < 2^47 is needed");
  EXPECT_THROW(MinibatchSampler(5, -1, draws), ArgumentError);
  EXPECT_EQ(message_of<ArgumentError>([&] { MinibatchSampler(5, 6, draws, kDrop); }),
            "MinibatchSampler: batch is 6 and data is 5: LastBatch::drop would leave out all data; batch <= data is "
            "needed");
}

TEST_P(Minibatches, GatherRowsOfFloatsAndIntegers) {
  const auto x = random_normals(1000 * 3 * 5, 4);
  std::vector<int32_t> z(1000);
  std::iota(z.begin(), z.end(), 100);
  Indices indices;
  for (int64_t i = 0; i < 777; ++i) indices.push_back(i * 331 % 1000);
  const auto at = Tensor<int64_t>::from(indices, {777}, device());
  const auto y = gather_rows(Tensor<float>::from(x, {1000, 3, 5}, device()), at);
  EXPECT_EQ(y.shape(), (Shape{777, 3, 5}));
  const auto got = y.to_host();
  const auto labels = gather_rows(Tensor<int32_t>::from(z, {1000}, device()), at).to_host();
  for (std::size_t i = 0; i < indices.size(); ++i) {
    const auto from = static_cast<std::size_t>(indices[i]);
    for (std::size_t d = 0; d < 15; ++d) ASSERT_EQ(got[i * 15 + d], x[from * 15 + d]) << i << ", " << d;
    ASSERT_EQ(labels[i], z[from]);
  }
}

TEST_P(Minibatches, GatherMarksIndicesOutOfRange) {
  const auto at = Tensor<int64_t>::from({-1, 1, 2}, {3}, device());
  const auto y = gather_rows(Tensor<float>::from({1, 2}, {2, 1}, device()), at).to_host();
  EXPECT_TRUE(std::isnan(y[0]));
  EXPECT_EQ(y[1], 2.0f);
  EXPECT_TRUE(std::isnan(y[2]));
  const auto none = Tensor<int64_t>::from({}, {0}, device());
  EXPECT_EQ(gather_rows(Tensor<float>::zeros({2, 3}, device()), none).shape(), (Shape{0, 3}));
  EXPECT_THROW(gather_rows(Tensor<float>::zeros({}, device()), at), ShapeError);
}

DGM_ON_EVERY_DEVICE(Minibatches);

}  // namespace
}  // namespace dgm::test
