// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/full_mixture.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/mixture_case.hpp"
#include "tests/support/reference.hpp"

#include <limits>
#include <numeric>

namespace dgm::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

std::size_t at(int64_t i) { return static_cast<std::size_t>(i); }

using Case = MixtureCase;

// Covariances of the given condition number with random axes; data from around the means.
Case make_case(int64_t n, int64_t k, int64_t d, uint64_t seed, double condition = kFullMixtureCondition) {
  Case c = {n, k, d, {}, random_normals(k, seed + 1), random_normals(k * d, seed + 2, 2.0), {}};
  c.scale.assign(at(k * d * d), 7.0f);  // what stays above the diagonal must not matter
  std::vector<std::vector<double>> lower(at(k), std::vector<double>(at(d * d), 0.0));
  for (int64_t m = 0; m < k; ++m) {
    const auto normal = random_normals(d * d, seed + 100 + static_cast<uint64_t>(m));
    std::vector<double> axes(normal.begin(), normal.end());  // rows, made orthonormal
    for (int64_t i = 0; i < d; ++i) {
      for (int64_t j = 0; j < i; ++j) {
        double dot = 0;
        for (int64_t l = 0; l < d; ++l) dot += axes[at(i * d + l)] * axes[at(j * d + l)];
        for (int64_t l = 0; l < d; ++l) axes[at(i * d + l)] -= dot * axes[at(j * d + l)];
      }
      double norm = 0;
      for (int64_t l = 0; l < d; ++l) norm += axes[at(i * d + l)] * axes[at(i * d + l)];
      for (int64_t l = 0; l < d; ++l) axes[at(i * d + l)] /= std::sqrt(norm);
    }
    const auto covariance = [&](int64_t i, int64_t j) {
      double sum = 0;
      for (int64_t a = 0; a < d; ++a) {
        const double variance =
            d == 1 ? 0.5 : std::pow(condition, -static_cast<double>(a) / static_cast<double>(d - 1));
        sum += variance * axes[at(a * d + i)] * axes[at(a * d + j)];
      }
      return sum;
    };
    auto& l = lower[at(m)];
    for (int64_t i = 0; i < d; ++i) {
      for (int64_t j = 0; j <= i; ++j) {
        double sum = covariance(i, j);
        for (int64_t a = 0; a < j; ++a) sum -= l[at(i * d + a)] * l[at(j * d + a)];
        l[at(i * d + j)] = i == j ? std::sqrt(sum) : sum / l[at(j * d + j)];
        c.scale[at((m * d + i) * d + j)] = static_cast<float>(i == j ? std::log(l[at(i * d + i)]) : l[at(i * d + j)]);
      }
    }
  }
  const auto noise = random_normals(n * d, seed + 3, 1.5);
  c.x.resize(at(n * d));
  for (int64_t row = 0; row < n; ++row) {
    const int64_t m = row % k;
    for (int64_t i = 0; i < d; ++i) {
      double value = c.mean[at(m * d + i)];
      for (int64_t j = 0; j <= i; ++j) value += lower[at(m)][at(i * d + j)] * noise[at(row * d + j)];
      c.x[at(row * d + i)] = static_cast<float>(value);
    }
  }
  return c;
}

// The reference: everything in long double from parameters as Case::all() orders them.
struct Reference {
  int64_t n;
  int64_t k;
  int64_t d;
  Reals p;

  Reference(const Case& c, Reals parameters) : n(c.n), k(c.k), d(c.d), p(std::move(parameters)) {}
  explicit Reference(const Case& c) : Reference(c, c.all()) {}

  Real x(int64_t row, int64_t i) const { return p[at(row * d + i)]; }
  Real logit(int64_t m) const { return p[at(n * d + m)]; }
  Real mean(int64_t m, int64_t i) const { return p[at(n * d + k + m * d + i)]; }
  Real lower(int64_t m, int64_t i, int64_t j) const {
    const Real value = p[at(n * d + k + k * d + (m * d + i) * d + j)];
    return i == j ? std::exp(value) : value;
  }
  Real log_weight(int64_t m) const {
    Reals logits;
    for (int64_t i = 0; i < k; ++i) logits.push_back(logit(i));
    return logit(m) - test::log_sum_exp(logits);
  }
  // L^-1 (x - mean) by forward substitution.
  Reals whitened(int64_t row, int64_t m) const {
    Reals t(at(d));
    for (int64_t i = 0; i < d; ++i) {
      Real sum = x(row, i) - mean(m, i);
      for (int64_t j = 0; j < i; ++j) sum -= lower(m, i, j) * t[at(j)];
      t[at(i)] = sum / lower(m, i, i);
    }
    return t;
  }
  Real log_joint(int64_t row, int64_t m) const {
    if (logit(m) == -INFINITY) return -INFINITY;
    Real sum = log_weight(m);
    for (const Real t : whitened(row, m)) sum -= t * t / 2;
    for (int64_t i = 0; i < d; ++i) sum -= std::log(lower(m, i, i)) + std::log(2 * std::acos(-1.0L)) / 2;
    return sum;
  }
  Reals log_joints(int64_t row) const {
    Reals result;
    for (int64_t m = 0; m < k; ++m) result.push_back(log_joint(row, m));
    return result;
  }
  Real log_marginal(int64_t row) const { return test::log_sum_exp(log_joints(row)); }
  Reals log_marginals() const {
    Reals result;
    for (int64_t row = 0; row < n; ++row) result.push_back(log_marginal(row));
    return result;
  }
  Reals responsibilities(int64_t row) const {
    Reals r = log_joints(row);
    const Real y = test::log_sum_exp(r);
    for (Real& value : r) value = y == -INFINITY ? 0 : std::exp(value - y);
    return r;
  }
  // The C of kFullMixtureError.
  Real largest_constant() const {
    Real largest = 0;
    for (int64_t m = 0; m < k; ++m) {
      if (logit(m) == -INFINITY) continue;
      Real sum = log_weight(m);
      for (int64_t i = 0; i < d; ++i) sum -= std::log(lower(m, i, i));
      largest = std::max(largest, std::abs(sum));
    }
    return largest;
  }
};

// Expects |got - wanted| <= bound * scale, element by element, with a scale for each.
template <class T>
void expect_within(const std::vector<T>& got, const Reals& wanted, double bound, const Reals& scale,
                   const std::string& what) {
  ASSERT_EQ(got.size(), wanted.size()) << what;
  ASSERT_EQ(got.size(), scale.size()) << what;
  std::size_t worst = 0;
  Real worst_error = -1;
  for (std::size_t i = 0; i < got.size(); ++i) {
    Real error = std::abs(got[i] - wanted[i]) / (scale[i] + 1e-30L);
    if (std::isnan(error)) error = std::isnan(got[i]) && std::isnan(wanted[i]) ? 0 : INFINITY;
    if (static_cast<Real>(got[i]) == wanted[i]) error = 0;  // infinities
    if (error > worst_error) worst_error = error, worst = i;
  }
  if (std::getenv("DGM_PRINT_ERRORS") != nullptr && worst_error > 0) {
    std::printf("%s: %.3g of bound %.3g\n", what.c_str(), static_cast<double>(worst_error), bound);
  }
  if (worst_error > bound) {
    ADD_FAILURE() << what << ": element " << worst << " of " << got.size() << ": got " << got[worst] << ", wanted "
                  << static_cast<double>(wanted[worst]) << ", error " << static_cast<double>(worst_error)
                  << " of its scale > bound " << bound;
  }
}

class FullMixture : public OnEveryDevice {
 protected:
  Tensor<float> tensor(const std::vector<float>& values, Shape shape) const {
    return Tensor<float>::from(values, std::move(shape), device());
  }
  Tensor<float> x(const Case& c) const { return tensor(c.x, {c.n, c.d}); }
  Tensor<float> logits(const Case& c) const { return tensor(c.logits, {c.k}); }
  Tensor<float> mean(const Case& c) const { return tensor(c.mean, {c.k, c.d}); }
  Tensor<float> factor(const Case& c) const { return tensor(c.scale, {c.k, c.d, c.d}); }
  bool on_cpu() const { return !device().is_cuda(); }

  std::vector<float> log_marginal(const Case& c) const {
    return full_mixture_log_marginal(x(c), logits(c), mean(c), factor(c)).value().to_host();
  }
  MixtureStatistics statistics(const Case& c, const std::vector<float>* weights = nullptr) const {
    if (weights == nullptr) return full_mixture_statistics(x(c), logits(c), mean(c), factor(c));
    const auto w = tensor(*weights, {c.n});
    return full_mixture_statistics(x(c), logits(c), mean(c), factor(c), &w);
  }

  struct AllGradients {
    std::vector<float> x, logits, mean, factor;
    std::vector<float> joined() const {
      std::vector<float> result = x;
      for (const auto* part : {&logits, &mean, &factor}) result.insert(result.end(), part->begin(), part->end());
      return result;
    }
  };
  // Of what body makes of the four leaves, for an upstream gradient.
  template <class Body>
  AllGradients gradients(const Case& c, const std::vector<float>& upstream, const Body& body) const {
    Tape tape;
    const Variable leaves[4] = {tape.watch(x(c)), tape.watch(logits(c)), tape.watch(mean(c)), tape.watch(factor(c))};
    const Variable result = body(leaves[0], leaves[1], leaves[2], leaves[3]);
    tape.backward(result, tensor(upstream, result.shape()));
    return {tape.grad(leaves[0]).to_host(), tape.grad(leaves[1]).to_host(), tape.grad(leaves[2]).to_host(),
            tape.grad(leaves[3]).to_host()};
  }
  AllGradients marginal_gradients(const Case& c, const std::vector<float>& g) const {
    return gradients(c, g, full_mixture_log_marginal);
  }

  void expect_log_marginal(const Case& c) const {
    const Reference reference(c);
    const Reals wanted = reference.log_marginals();
    Reals scale;
    for (const Real y : wanted) {
      scale.push_back(std::max({static_cast<Real>(c.d), std::abs(y), reference.largest_constant()}));
    }
    expect_within(log_marginal(c), wanted, kFullMixtureError, scale, "log marginal, " + c.str());
  }
};

// The absolute values that the terms of the gradient add up to, as Case::all() orders them, for
// responsibilities r[row][m] that already carry the row's weight.
Reals gradient_scales(const Case& c, const std::vector<Reals>& weighted) {
  const Reference ref(c);
  Reals dx(at(c.n * c.d)), dlogits(at(c.k)), dmean(at(c.k * c.d)), dfactor(at(c.k * c.d * c.d));
  Real total = 0;
  for (const Reals& row : weighted) {
    for (const Real value : row) total += std::abs(value);
  }
  for (int64_t m = 0; m < c.k; ++m) {
    dlogits[at(m)] += std::exp(ref.log_weight(m)) * total;
    Reals inverse(at(c.d * c.d));  // of L
    for (int64_t col = 0; col < c.d; ++col) {
      for (int64_t i = col; i < c.d; ++i) {
        Real sum = i == col ? 1 : 0;
        for (int64_t j = col; j < i; ++j) sum -= ref.lower(m, i, j) * inverse[at(j * c.d + col)];
        inverse[at(i * c.d + col)] = sum / ref.lower(m, i, i);
      }
    }
    for (int64_t row = 0; row < c.n; ++row) {
      const Real r = std::abs(weighted[at(row)][at(m)]);
      if (r == 0) continue;
      dlogits[at(m)] += r;
      const Reals t = ref.whitened(row, m);
      for (int64_t j = 0; j < c.d; ++j) {
        Real column = 0;
        for (int64_t i = j; i < c.d; ++i) column += std::abs(inverse[at(i * c.d + j)] * t[at(i)]);
        dx[at(row * c.d + j)] += r * column;
        dmean[at(m * c.d + j)] += r * column;
        for (int64_t b = 0; b <= j; ++b) {
          Real entry = column * std::abs(t[at(b)]) + std::abs(inverse[at(b * c.d + j)]);
          if (b == j) entry *= ref.lower(m, j, j);
          dfactor[at((m * c.d + j) * c.d + b)] += r * entry;
        }
      }
    }
  }
  for (const Reals* part : {&dlogits, &dmean, &dfactor}) dx.insert(dx.end(), part->begin(), part->end());
  return dx;
}

TEST_P(FullMixture, MatchesTheReferenceAtEveryDimensionOfABlock) {
  for (const int64_t d : {1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 33, 64}) {
    for (const int64_t k : {1, 3}) expect_log_marginal(make_case(d > 9 ? 9 : 35, k, d, static_cast<uint64_t>(d)));
  }
}

TEST_P(FullMixture, MatchesTheReferenceAtEveryTileEdge) {
  for (const int64_t n : {1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129, 300}) {
    expect_log_marginal(make_case(n, 4, 3, static_cast<uint64_t>(n)));
  }
}

TEST_P(FullMixture, MatchesTheReferenceForManyComponents) {
  for (const int64_t k : {2, 31, 32, 33, 65, 200}) expect_log_marginal(make_case(20, k, 5, static_cast<uint64_t>(k)));
}

TEST_P(FullMixture, MatchesTheReferenceOverManyRows) {
  expect_log_marginal(make_case(on_cpu() ? 20011 : 1031, 3, 6, 1));
}

TEST_P(FullMixture, GradientAgreesWithCentralDifferencesOfTheReference) {
  for (const auto& shape : {std::array<int64_t, 3>{3, 1, 1}, {5, 3, 2}, {4, 2, 5}, {5, 3, 8}, {3, 2, 11}}) {
    const int64_t n = shape[0], k = shape[1], d = shape[2];
    const Case c = make_case(n, k, d, 40 + static_cast<uint64_t>(d), 100);
    const auto g = random_normals(n, 5);
    const Reals wanted = central_differences(
        [&](const Reals& p) {
          const Reference reference(c, p);
          Real sum = 0;
          for (int64_t row = 0; row < n; ++row) sum += g[at(row)] * reference.log_marginal(row);
          return sum;
        },
        c.all());
    std::vector<Reals> weighted;
    for (int64_t row = 0; row < n; ++row) {
      weighted.push_back(Reference(c).responsibilities(row));
      for (Real& r : weighted.back()) r *= g[at(row)];
    }
    expect_within(marginal_gradients(c, g).joined(), wanted, kFullMixtureGradientError, gradient_scales(c, weighted),
                  "gradients, " + c.str());
  }
}

TEST_P(FullMixture, LogLikelihoodIsTheWeightedSumAndItsGradientTheMarginals) {
  for (const bool weighted : {false, true}) {
    const Case c = make_case(37, 3, 5, 8, 100);
    std::vector<float> w(at(c.n), 1.0f);
    if (weighted) {
      w = random_normals(c.n, 4);
      w[3] = 0.0f;
    }
    const auto weights = tensor(w, {c.n});
    const Tensor<float>* const given = weighted ? &weights : nullptr;

    const Reals y = Reference(c).log_marginals();
    Real wanted = 0;
    Real scale = 0;
    for (std::size_t i = 0; i < y.size(); ++i) wanted += w[i] * y[i], scale += std::abs(w[i] * y[i]);
    const float alone = full_mixture_log_likelihood(x(c), logits(c), mean(c), factor(c), given).value().item();
    EXPECT_NEAR(alone, static_cast<double>(wanted), kFullMixtureError * static_cast<double>(scale));

    const auto fused = gradients(c, {0.5f}, [&](const auto& a, const auto& b, const auto& m, const auto& f) {
      const Variable total = full_mixture_log_likelihood(a, b, m, f, given);
      EXPECT_EQ(total.shape(), Shape{});
      EXPECT_NEAR(total.value().item(), static_cast<double>(wanted), kFullMixtureError * static_cast<double>(scale));
      return total;
    });
    std::vector<float> g = w;
    for (float& value : g) value *= 0.5f;
    std::vector<Reals> terms;
    for (int64_t row = 0; row < c.n; ++row) {
      terms.push_back(Reference(c).responsibilities(row));
      for (Real& r : terms.back()) r *= g[at(row)];
    }
    expect_within(fused.joined(), to_reals(marginal_gradients(c, g).joined()), 2 * kFullMixtureGradientError,
                  gradient_scales(c, terms), "log likelihood against log marginal");
  }
}

TEST_P(FullMixture, StatisticsMatchTheReference) {
  std::vector<std::array<int64_t, 3>> shapes = {{1, 1, 1}, {70, 4, 3}, {33, 2, 8}, {20, 3, 17}, {70, 2, 41}};
  if (on_cpu()) {
    shapes.push_back({600, 5, 10});
    shapes.push_back({150, 16, 64});
    shapes.push_back({140, 40, 64});  // too large to keep whitened
  }
  for (const auto& [n, k, d] : shapes) {
    const Case c = make_case(n, k, d, 60 + static_cast<uint64_t>(d));
    std::vector<float> w = random_normals(n, 7);
    w[0] = 1.0f;
    if (n > 1) w[at(n / 2)] = 0.0f;
    const MixtureStatistics got = statistics(c, &w);

    const Reference reference(c);
    Reals s0(at(k)), s1(at(k * d)), s2(at(k * d * d));
    Reals scale0 = s0, scale1 = s1, scale2 = s2;
    for (int64_t row = 0; row < n; ++row) {
      const Reals r = reference.responsibilities(row);
      for (int64_t m = 0; m < k; ++m) {
        const Real weight = w[at(row)] * r[at(m)];
        s0[at(m)] += weight, scale0[at(m)] += std::abs(weight);
        if (std::abs(weight) < 1e-30L) continue;
        const Reals t = reference.whitened(row, m);
        const Real length = std::sqrt(std::inner_product(t.begin(), t.end(), t.begin(), Real{0}));
        for (int64_t i = 0; i < d; ++i) {
          s1[at(m * d + i)] += weight * t[at(i)], scale1[at(m * d + i)] += std::abs(weight) * length;
          for (int64_t j = 0; j <= i; ++j) {
            s2[at((m * d + i) * d + j)] += weight * t[at(i)] * t[at(j)];
            scale2[at((m * d + i) * d + j)] += std::abs(weight) * length * length;
          }
        }
      }
    }
    expect_within(got.log_marginal.to_host(), reference.log_marginals(), kFullMixtureError,
                  Reals(at(n), 10.0L * static_cast<Real>(d)), "log marginal beside statistics, " + c.str());
    // In double: a float could not hold it to this bound.
    const auto y = got.log_marginal.to_host();
    Real total = 0, terms = 0;
    for (int64_t row = 0; row < n; ++row) {
      total += w[at(row)] * Real{y[at(row)]};
      terms += std::abs(w[at(row)] * Real{y[at(row)]});
    }
    EXPECT_NEAR(got.log_likelihood.to_host()[0], static_cast<double>(total), static_cast<double>(1e-12L * terms))
        << c.str();
    expect_within(got.s0.to_host(), s0, kFullMixtureGradientError, scale0, "s0, " + c.str());
    expect_within(got.s1.to_host(), s1, kFullMixtureGradientError, scale1, "s1, " + c.str());
    expect_within(got.s2.to_host(), s2, kFullMixtureGradientError, scale2, "s2, " + c.str());
  }
}

TEST_P(FullMixture, ResponsibilitiesMatchTheReferenceAndSumToOne) {
  Case c = make_case(130, 5, 3, 9);
  c.logits[2] = -kInf;
  const auto r = full_mixture_responsibilities(x(c), logits(c), mean(c), factor(c)).to_host();
  Reals wanted, scale;
  for (int64_t row = 0; row < c.n; ++row) {
    const Reals exact = Reference(c).responsibilities(row);
    wanted.insert(wanted.end(), exact.begin(), exact.end());
    float sum = 0;
    for (int64_t m = 0; m < c.k; ++m) sum += r[at(row * c.k + m)];
    EXPECT_NEAR(sum, 1.0f, 1e-6) << "row " << row;
    EXPECT_EQ(r[at(row * c.k + 2)], 0.0f) << "row " << row;
  }
  expect_close(r, wanted, 1e-4, "responsibilities");
}

TEST_P(FullMixture, ResponsibilitiesOfManyRowsSumToTheirNumber) {
  const int64_t n = on_cpu() ? 1000000 : 5000;
  Case c = make_case(1000, 4, 2, 12);
  std::vector<float> many;
  for (int64_t i = 0; i < n / 1000; ++i) many.insert(many.end(), c.x.begin(), c.x.end());
  c.x = many;
  c.n = n;
  const auto s0 = statistics(c).s0.to_host();
  EXPECT_NEAR(std::accumulate(s0.begin(), s0.end(), 0.0), static_cast<double>(n), 1e-6 * static_cast<double>(n));
}

TEST_P(FullMixture, AComponentOfNoWeightIsHarmlessWhateverItsParameters) {
  const Case c = make_case(20, 3, 4, 3);
  Case more = c;
  more.k = 4;
  more.logits.push_back(-kInf);
  more.mean.insert(more.mean.end(), at(c.d), kNaN);
  more.scale.insert(more.scale.end(), at(c.d * c.d), kInf);
  EXPECT_EQ(log_marginal(more), log_marginal(c));
  const std::vector<float> g(at(c.n), 1.0f);
  const auto without = marginal_gradients(c, g);
  const auto with = marginal_gradients(more, g);
  EXPECT_EQ(with.x, without.x);
  for (std::size_t i = 0; i < without.factor.size(); ++i) EXPECT_EQ(with.factor[i], without.factor[i]) << i;
  EXPECT_EQ(with.logits[3], 0.0f);
  for (std::size_t i = without.mean.size(); i < with.mean.size(); ++i) EXPECT_EQ(with.mean[i], 0.0f) << i;
  for (std::size_t i = without.factor.size(); i < with.factor.size(); ++i) EXPECT_EQ(with.factor[i], 0.0f) << i;
}

TEST_P(FullMixture, NoComponentOfWeightGivesMinusInfinityAndZeroGradients) {
  Case c = make_case(5, 2, 3, 3);
  c.logits = {-kInf, -kInf};
  for (const float y : log_marginal(c)) EXPECT_EQ(y, -kInf);
  for (const float d : marginal_gradients(c, std::vector<float>(5, 1.0f)).joined()) EXPECT_EQ(d, 0.0f);
}

TEST_P(FullMixture, GradientsAboveTheDiagonalAreZero) {
  const Case c = make_case(9, 2, 5, 3);
  const auto d = marginal_gradients(c, std::vector<float>(9, 1.0f)).factor;
  for (int64_t m = 0; m < c.k; ++m) {
    for (int64_t i = 0; i < c.d; ++i) {
      for (int64_t j = i + 1; j < c.d; ++j)
        EXPECT_EQ(d[at((m * c.d + i) * c.d + j)], 0.0f) << m << ' ' << i << ' ' << j;
    }
  }
}

TEST_P(FullMixture, RowsOfNaNAndInfinityDoNotDisturbTheOthers) {
  const Case c = make_case(40, 3, 4, 6);
  Case spoilt = c;
  spoilt.x[at(2 * c.d + 1)] = kNaN;
  spoilt.x[at(7 * c.d)] = kInf;
  spoilt.x[at(7 * c.d + 3)] = -kInf;
  spoilt.x[at(33 * c.d + 2)] = -kInf;
  spoilt.x[at(34 * c.d)] = 1e30f;  // its squared distance overflows
  auto y = log_marginal(spoilt);
  const auto clean = log_marginal(c);
  EXPECT_TRUE(std::isnan(y[2]));
  for (const std::size_t row : {7, 33, 34}) EXPECT_EQ(y[row], -kInf) << "row " << row;
  for (std::size_t row = 0; row < y.size(); ++row) {
    if (row == 2 || row == 7 || row == 33 || row == 34) continue;
    EXPECT_EQ(y[row], clean[row]) << "row " << row;
  }

  // The NaN row weighs nothing, rows of -inf contribute nothing: as if none of the four were there.
  std::vector<float> w(at(c.n), 1.0f);
  w[2] = 0.0f;
  std::vector<float> clean_w = w;
  for (const std::size_t row : {7, 33, 34}) clean_w[row] = 0.0f;
  const auto got = statistics(spoilt, &w);
  const auto wanted = statistics(c, &clean_w);
  EXPECT_EQ(got.s0.to_host(), wanted.s0.to_host());
  EXPECT_EQ(got.s1.to_host(), wanted.s1.to_host());
  EXPECT_EQ(got.s2.to_host(), wanted.s2.to_host());
  const auto d = marginal_gradients(spoilt, w);
  EXPECT_EQ(d.factor, marginal_gradients(c, clean_w).factor);
  for (const int64_t row : {2, 7, 33, 34}) {
    for (int64_t i = 0; i < c.d; ++i) EXPECT_EQ(d.x[at(row * c.d + i)], 0.0f) << "row " << row;
  }
  const auto r = full_mixture_responsibilities(x(spoilt), logits(c), mean(c), factor(c)).to_host();
  EXPECT_TRUE(std::isnan(r[at(2 * c.k)]));
  EXPECT_EQ(r[at(7 * c.k)], 0.0f);
}

TEST_P(FullMixture, AComponentOutOfRangeOfARowLeavesTheOthersIntact) {
  // The second component is so far from the rows that the squared distance overflows, or t itself, in
  // terms of either sign.
  for (const float far : {1e25f, 3e38f}) {
    const Case c = make_case(10, 1, 3, 2);
    Case two = c;
    two.k = 2;
    two.logits = {0.0f, 0.0f};
    two.mean.insert(two.mean.end(), 3, far);
    two.scale.insert(two.scale.end(), c.scale.begin(), c.scale.end());
    const auto y = log_marginal(two);
    const auto alone = log_marginal(c);
    for (std::size_t i = 0; i < y.size(); ++i) EXPECT_NEAR(y[i], alone[i] - std::log(2.0f), 1e-4) << i;
    const auto s2 = statistics(two).s2.to_host();
    const auto s2_wanted = statistics(c).s2.to_host();
    for (std::size_t i = 0; i < s2_wanted.size(); ++i) {
      EXPECT_NEAR(s2[i], s2_wanted[i], 1e-4) << i;
      EXPECT_EQ(s2[i + s2_wanted.size()], 0.0) << i;
    }
    const auto d = marginal_gradients(two, std::vector<float>(10, 1.0f)).joined();
    for (std::size_t i = 0; i < d.size(); ++i) EXPECT_TRUE(std::isfinite(d[i])) << "element " << i;
  }
}

TEST_P(FullMixture, PointAMillionStandardDeviationsAway) {
  Case c = make_case(4, 2, 3, 5, 100);
  c.x[3] = 1e6f;
  expect_log_marginal(c);
  const auto d = marginal_gradients(c, {1.0f, 1.0f, 1.0f, 1.0f}).joined();
  for (std::size_t i = 0; i < d.size(); ++i) EXPECT_TRUE(std::isfinite(d[i])) << "element " << i;
}

TEST_P(FullMixture, EmptyBatchGivesEmptyResultsAndZeroSums) {
  const Case c = make_case(0, 3, 2, 1);
  EXPECT_TRUE(log_marginal(c).empty());
  const auto d = marginal_gradients(c, {}).joined();
  for (const float value : d) EXPECT_EQ(value, 0.0f);
  for (const double value : statistics(c).s2.to_host()) EXPECT_EQ(value, 0.0);
  EXPECT_EQ(full_mixture_log_likelihood(x(c), logits(c), mean(c), factor(c)).value().item(), 0.0f);
  const Draws draws(1, device());
  EXPECT_EQ(full_mixture_sample_posterior(x(c), logits(c), mean(c), factor(c), draws).size(), 0);
  EXPECT_EQ(full_mixture_sample(0, logits(c), mean(c), factor(c), draws).x.shape(), (Shape{0, 2}));
  EXPECT_EQ(full_mixture_responsibilities(x(c), logits(c), mean(c), factor(c)).shape(), (Shape{0, 3}));
}

TEST_P(FullMixture, EqualInputGivesEqualBits) {
  const Case c = make_case(on_cpu() ? 5000 : 150, 4, 6, 21);
  EXPECT_EQ(log_marginal(c), log_marginal(c));
  EXPECT_EQ(statistics(c).s2.to_host(), statistics(c).s2.to_host());
  const auto g = random_normals(c.n, 2);
  EXPECT_EQ(marginal_gradients(c, g).joined(), marginal_gradients(c, g).joined());
}

TEST_P(FullMixture, PosteriorDrawsFollowTheResponsibilities) {
  Case c = make_case(6, 4, 2, 14);
  for (float& value : c.x) value *= 0.3f;
  c.scale.assign(c.scale.size(), 0.7f);  // wide, so that components overlap
  c.logits[1] = -kInf;
  const int64_t samples = 3000;
  Draws draws(7, device());
  const auto z = full_mixture_sample_posterior(x(c), logits(c), mean(c), factor(c), draws.at(3), samples).to_host();
  for (int64_t row = 0; row < c.n; ++row) {
    const Reals r = Reference(c).responsibilities(row);
    std::vector<double> counts(at(c.k));
    for (int64_t s = 0; s < samples; ++s) counts.at(at(z[at(row * samples + s)])) += 1;
    for (int64_t m = 0; m < c.k; ++m) {
      const auto p = static_cast<double>(r[at(m)]);
      EXPECT_NEAR(counts[at(m)] / samples, p, 5 * std::sqrt(p * (1 - p) / samples) + 1e-4)
          << "row " << row << ", k = " << m;
    }
    EXPECT_EQ(counts[1], 0.0);
  }
  EXPECT_EQ(full_mixture_sample_posterior(x(c), logits(c), mean(c), factor(c), draws.at(3), samples).to_host(), z);
  draws.set_step(1);
  EXPECT_NE(full_mixture_sample_posterior(x(c), logits(c), mean(c), factor(c), draws.at(3), samples).to_host(), z);
}

TEST_P(FullMixture, PosteriorDrawsAreTheSameOnTheCpuAndFollowTheDatum) {
  Case c = make_case(50, 3, 2, 15);
  c.scale.assign(c.scale.size(), 0.5f);
  const auto draw = [&](Device where, const std::vector<int64_t>* data) {
    const auto t = [&](const std::vector<float>& v, Shape s) { return Tensor<float>::from(v, std::move(s), where); };
    const Draws draws(5, where);
    if (data == nullptr) {
      return full_mixture_sample_posterior(t(c.x, {c.n, c.d}), t(c.logits, {c.k}), t(c.mean, {c.k, c.d}),
                                           t(c.scale, {c.k, c.d, c.d}), draws, 5)
          .to_host();
    }
    const auto index = Tensor<int64_t>::from(*data, {c.n}, where);
    return full_mixture_sample_posterior(t(c.x, {c.n, c.d}), t(c.logits, {c.k}), t(c.mean, {c.k, c.d}),
                                         t(c.scale, {c.k, c.d, c.d}), draws, 5, &index)
        .to_host();
  };
  const auto here = draw(device(), nullptr);
  const auto there = draw(Device::cpu(), nullptr);
  int different = 0;
  for (std::size_t i = 0; i < here.size(); ++i) different += here[i] != there[i];
  EXPECT_LE(different, 1) << "of " << here.size() << "; a uniform may fall within rounding of a boundary";
  std::vector<int64_t> data(at(c.n));
  std::iota(data.begin(), data.end(), 0);
  EXPECT_EQ(draw(device(), &data), here);
  for (int64_t& value : data) value += 1000;
  EXPECT_NE(draw(device(), &data), here);
}

TEST_P(FullMixture, ARowWithoutAPosteriorDrawsMinusOne) {
  Case c = make_case(3, 2, 2, 1);
  c.x[0] = kNaN;
  c.x[2] = kInf;
  const auto z = full_mixture_sample_posterior(x(c), logits(c), mean(c), factor(c), Draws(1, device()), 2).to_host();
  for (const std::size_t i : {0, 1, 2, 3}) EXPECT_EQ(z[i], -1) << i;
  EXPECT_GE(z[4], 0);
}

TEST_P(FullMixture, LogJointMatchesTheReferenceAndItsGradientCentralDifferences) {
  const Case c = make_case(6, 3, 4, 30, 100);
  const int64_t samples = 3;
  std::vector<int32_t> z(at(c.n * samples));
  for (std::size_t i = 0; i < z.size(); ++i) z[i] = static_cast<int32_t>(i * i % 3);
  const auto components = Tensor<int32_t>::from(z, {c.n, samples}, device());
  const auto op = [&](const Variable& a, const Variable& b, const Variable& m, const Variable& f) {
    return full_mixture_log_joint(a, components, b, m, f);
  };
  const auto y_of = [&](const Reference& reference) {
    Reals y;
    for (int64_t i = 0; i < c.n * samples; ++i) y.push_back(reference.log_joint(i / samples, z[at(i)]));
    return y;
  };
  const Reals wanted = y_of(Reference(c));
  Reals scale;
  for (const Real value : wanted) scale.push_back(std::max<Real>(10, std::abs(value)));
  expect_within(op(x(c), logits(c), mean(c), factor(c)).value().to_host(), wanted, kFullMixtureError, scale,
                "log joint");

  const auto g = random_normals(c.n * samples, 2);
  const Reals differences = central_differences(
      [&](const Reals& p) {
        const Reals y = y_of(Reference(c, p));
        Real sum = 0;
        for (std::size_t i = 0; i < y.size(); ++i) sum += g[i] * y[i];
        return sum;
      },
      c.all());
  std::vector<Reals> weighted(at(c.n), Reals(at(c.k)));
  for (int64_t i = 0; i < c.n * samples; ++i) weighted[at(i / samples)][at(z[at(i)])] += std::abs(g[at(i)]);
  expect_within(gradients(c, g, op).joined(), differences, kFullMixtureGradientError, gradient_scales(c, weighted),
                "gradients of the log joint");
}

TEST_P(FullMixture, LogJointOfAComponentOutOfRangeIsNaNWithoutGradient) {
  Case c = make_case(4, 2, 3, 30, 100);
  c.logits = {0.0f, -kInf};
  const auto z = Tensor<int32_t>::from({-1, 2, 0, 1}, {4, 1}, device());
  const auto op = [&](const Variable& a, const Variable& b, const Variable& m, const Variable& f) {
    return full_mixture_log_joint(a, z, b, m, f);
  };
  const auto y = op(x(c), logits(c), mean(c), factor(c)).value().to_host();
  EXPECT_TRUE(std::isnan(y[0]) && std::isnan(y[1]));
  EXPECT_TRUE(std::isfinite(y[2]));
  EXPECT_EQ(y[3], -kInf) << "a component of no weight";
  const auto d = gradients(c, {1.0f, 1.0f, 1.0f, 1.0f}, op);
  for (const std::size_t i : {0, 3, 9}) EXPECT_EQ(d.x[i], 0.0f) << i;
  EXPECT_NE(d.x[6], 0.0f);
  for (const float value : d.joined()) EXPECT_TRUE(std::isfinite(value));
}

TEST_P(FullMixture, AncestralSamplesHaveTheMixturesMoments) {
  Case c = make_case(1, 2, 3, 44, 20);
  c.logits = {0.0f, 1.0f};
  const int64_t count = on_cpu() ? 40000 : 4000;
  const auto sample = full_mixture_sample(count, logits(c), mean(c), factor(c), Draws(3, device()));
  const auto z = sample.z.to_host();
  const auto values = sample.x.to_host();
  const Reference reference(c);
  for (int64_t m = 0; m < c.k; ++m) {
    double number = 0;
    std::vector<double> mean_sum(at(c.d)), product(at(c.d * c.d));
    for (int64_t row = 0; row < count; ++row) {
      if (z[at(row)] != m) continue;
      number += 1;
      for (int64_t i = 0; i < c.d; ++i) {
        const double a = values[at(row * c.d + i)] - c.mean[at(m * c.d + i)];
        mean_sum[at(i)] += a;
        for (int64_t j = 0; j < c.d; ++j)
          product[at(i * c.d + j)] += a * (values[at(row * c.d + j)] - c.mean[at(m * c.d + j)]);
      }
    }
    const auto weight = static_cast<double>(std::exp(reference.log_weight(m)));
    EXPECT_NEAR(number / static_cast<double>(count), weight, 5 * std::sqrt(0.25 / static_cast<double>(count)));
    for (int64_t i = 0; i < c.d; ++i) {
      EXPECT_NEAR(mean_sum[at(i)] / number, 0.0, 5 / std::sqrt(number)) << "k = " << m << ", i = " << i;
      for (int64_t j = 0; j < c.d; ++j) {
        Real wanted = 0;
        for (int64_t l = 0; l <= std::min(i, j); ++l) wanted += reference.lower(m, i, l) * reference.lower(m, j, l);
        EXPECT_NEAR(product[at(i * c.d + j)] / number, static_cast<double>(wanted), 8 / std::sqrt(number))
            << "k = " << m << ", covariance " << i << ", " << j;
      }
    }
  }
}

TEST_P(FullMixture, AncestralSamplesAgreeWithTheCpu) {
  const Case c = make_case(1, 3, 7, 45);
  const auto cpu = Device::cpu();
  const auto here = full_mixture_sample(40, logits(c), mean(c), factor(c), Draws(3, device()));
  const auto there = full_mixture_sample(40, logits(c).to(cpu), mean(c).to(cpu), factor(c).to(cpu), Draws(3, cpu));
  EXPECT_EQ(here.z.to_host(), there.z.to_host());
  expect_close(here.x.to_host(), to_reals(there.x.to_host()), 1e-5, "samples");
}

TEST_P(FullMixture, SamplesWithoutAComponentOfWeightAreNaN) {
  Case c = make_case(1, 2, 3, 1);
  c.logits = {-kInf, -kInf};
  const auto sample = full_mixture_sample(2, logits(c), mean(c), factor(c), Draws(3, device()));
  for (const int32_t z : sample.z.to_host()) EXPECT_EQ(z, -1);
  for (const float value : sample.x.to_host()) EXPECT_TRUE(std::isnan(value));
}

TEST_P(FullMixture, RefusesArgumentsThatDoNotFit) {
  const Case c = make_case(3, 2, 4, 1);
  const auto wide = Tensor<float>::zeros({3, 5}, device());
  const auto diagonal = Tensor<float>::zeros({2, 4}, device());
  try {
    full_mixture_log_marginal(wide, logits(c), mean(c), factor(c));
    FAIL() << "no exception";
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(),
                 "full_mixture_log_marginal: x has shape (3, 5) and mean (2, 4); (N, D) and (K, D) are needed");
  }
  EXPECT_THROW(full_mixture_log_marginal(x(c), logits(c), mean(c), diagonal), ShapeError);
  EXPECT_THROW(full_mixture_log_marginal(x(c), mean(c), mean(c), factor(c)), ShapeError);
  EXPECT_THROW(full_mixture_statistics(x(c), logits(c), mean(c), factor(c), &wide), ShapeError);
  EXPECT_THROW(full_mixture_sample_posterior(x(c), logits(c), mean(c), factor(c), Draws(1, device()), 0),
               ArgumentError);
  EXPECT_THROW(full_mixture_sample(-1, logits(c), mean(c), factor(c), Draws(1, device())), ArgumentError);
  const auto elsewhere = Tensor<float>::zeros({2}, Stream::create(device()));
  EXPECT_THROW(full_mixture_log_marginal(x(c), elsewhere, mean(c), factor(c)), DeviceError);
}

DGM_ON_EVERY_DEVICE(FullMixture);

}  // namespace
}  // namespace dgm::test
