// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/diagonal_mixture.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/reference.hpp"

#include <cstring>
#include <limits>
#include <optional>

namespace dgm::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

struct Problem {
  int64_t rows;
  int64_t components;
  int64_t dims;
  std::vector<float> x;
  std::vector<float> logits;
  std::vector<float> mean;
  std::vector<float> log_scale;

  std::string str() const {
    return "N = " + std::to_string(rows) + ", K = " + std::to_string(components) + ", D = " + std::to_string(dims);
  }
};

Problem random_problem(int64_t rows, int64_t components, int64_t dims, uint64_t seed = 1) {
  return {rows,
          components,
          dims,
          random_normals(rows * dims, seed, 1.5),
          random_normals(components, seed + 1),
          random_normals(components * dims, seed + 2, 1.5),
          random_normals(components * dims, seed + 3, 0.3)};
}

/// The mixture in long double, from the formulas; nothing here is shared with the library.
struct Reference {
  int64_t components;
  int64_t dims;
  Reals logits;
  Reals mean;
  Reals log_scale;

  explicit Reference(const Problem& p)
      : components(p.components),
        dims(p.dims),
        logits(to_reals(p.logits)),
        mean(to_reals(p.mean)),
        log_scale(to_reals(p.log_scale)) {}

  static std::size_t at(int64_t i) { return static_cast<std::size_t>(i); }
  Real log_norm() const { return test::log_sum_exp(logits); }
  Real log_weight(int64_t k) const { return logits[at(k)] - log_norm(); }
  Real t(int64_t k, int64_t d, Real x) const {
    return (x - mean[at(k * dims + d)]) / std::exp(log_scale[at(k * dims + d)]);
  }
  Real log_joint(const Real* x, int64_t k) const { return log_joint(x, k, log_norm()); }
  Real log_joint(const Real* x, int64_t k, Real norm) const {
    if (logits[at(k)] == -INFINITY) return -INFINITY;
    Real sum = logits[at(k)] - norm;
    for (int64_t d = 0; d < dims; ++d) {
      sum -= 0.5L * std::log(2 * std::acos(-1.0L)) + log_scale[at(k * dims + d)] + 0.5L * t(k, d, x[d]) * t(k, d, x[d]);
    }
    return sum;
  }
  Reals log_joints(const Real* x) const {
    const Real norm = log_norm();
    Reals joints;
    for (int64_t k = 0; k < components; ++k) joints.push_back(log_joint(x, k, norm));
    return joints;
  }
  Real log_marginal(const Real* x) const { return test::log_sum_exp(log_joints(x)); }
  Reals log_marginals(const Reals& x) const {
    Reals y;
    for (std::size_t n = 0; n < x.size(); n += at(dims)) y.push_back(log_marginal(&x[n]));
    return y;
  }
  /// C of kDiagonalMixtureError's definition.
  Real peak() const {
    Real result = 0;
    const Real norm = log_norm();
    for (int64_t k = 0; k < components; ++k) {
      if (logits[at(k)] == -INFINITY) continue;
      Real peak = logits[at(k)] - norm;
      for (int64_t d = 0; d < dims; ++d) peak -= log_scale[at(k * dims + d)];
      result = std::max(result, std::abs(peak));
    }
    return result;
  }
  Real bound(Real y) const { return bound(y, peak()); }
  Real bound(Real y, Real peak) const {
    return Real{kDiagonalMixtureError} * std::max({static_cast<Real>(dims), std::abs(y), peak});
  }
};

/// Expects |got - wanted| <= bound everywhere; infinities and NaN must agree.
template <class T>
void expect_within(const std::vector<T>& got, const Reals& wanted, const Reals& bound, const std::string& what) {
  ASSERT_EQ(got.size(), wanted.size()) << what;
  ASSERT_EQ(got.size(), bound.size()) << what;
  std::size_t worst = 0;
  Real worst_ratio = -1;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const Real g = got[i];
    const Real w = wanted[i];
    Real ratio = 0;
    if (std::isnan(g) || std::isnan(w)) {
      ratio = std::isnan(g) && std::isnan(w) ? 0 : INFINITY;
    } else if (std::isinf(g) || std::isinf(w)) {
      ratio = g == w ? 0 : INFINITY;
    } else if (g != w) {
      ratio = std::abs(g - w) / bound[i];
    }
    if (ratio > worst_ratio) worst_ratio = ratio, worst = i;
  }
  if (worst_ratio > 1) {
    ADD_FAILURE() << what << ": element " << worst << " of " << got.size() << ": got " << got[worst] << ", wanted "
                  << static_cast<double>(wanted[worst]) << ", error "
                  << static_cast<double>(std::abs(Real{got[worst]} - wanted[worst])) << " > bound "
                  << static_cast<double>(bound[worst]);
  }
}

/// Values with the bounds that they are held to.
struct Bounded {
  Reals value;
  Reals bound;
  explicit Bounded(int64_t size) : value(static_cast<std::size_t>(size)), bound(static_cast<std::size_t>(size)) {}
  void add(int64_t i, Real term, Real slack) {
    value[static_cast<std::size_t>(i)] += term;
    bound[static_cast<std::size_t>(i)] += slack;
  }
};

/// Sums over rows and gradients with weights g, from the formulas. A term's bound: four times the bound of
/// its row's log marginal, relative to (1 + |t|)^2 |g| r.
struct Expected {
  Bounded s0, s1, s2, d_logits, d_mean, d_log_scale, dx;

  Expected(const Problem& p, const std::vector<float>& g)
      : s0(p.components),
        s1(p.components * p.dims),
        s2(p.components * p.dims),
        d_logits(p.components),
        d_mean(p.components * p.dims),
        d_log_scale(p.components * p.dims),
        dx(p.rows * p.dims) {
    const Reference reference(p);
    const Reals x = to_reals(p.x);
    const Real norm = reference.log_norm();
    const Real peak = reference.peak();
    for (int64_t n = 0; n < p.rows; ++n) {
      const Real weight = g[static_cast<std::size_t>(n)];
      if (weight == 0) continue;
      const Real* const row = &x[static_cast<std::size_t>(n * p.dims)];
      const Reals joints = reference.log_joints(row);
      const Real y = test::log_sum_exp(joints);
      if (y < -std::numeric_limits<float>::max()) continue;
      const Real relative = 4 * reference.bound(y, peak);
      for (int64_t k = 0; k < p.components; ++k) {
        const Real r = std::exp(joints[static_cast<std::size_t>(k)] - y);
        const Real pi = std::exp(reference.logits[static_cast<std::size_t>(k)] - norm);
        const Real slack = relative * std::abs(weight) * (r + 1e-25L);
        s0.add(k, weight * r, slack);
        d_logits.add(k, weight * (r - pi), slack + relative * std::abs(weight) * pi);
        if (r == 0) continue;
        for (int64_t d = 0; d < p.dims; ++d) {
          const int64_t i = k * p.dims + d;
          const Real t = reference.t(k, d, row[d]);
          const Real scale = std::exp(reference.log_scale[static_cast<std::size_t>(i)]);
          const Real wide = slack * (1 + std::abs(t)) * (1 + std::abs(t));
          s1.add(i, weight * r * t, wide);
          s2.add(i, weight * r * t * t, wide);
          d_mean.add(i, weight * r * t / scale, wide / scale);
          d_log_scale.add(i, weight * r * (t * t - 1), wide);
          dx.add(n * p.dims + d, -weight * r * t / scale, wide / scale);
        }
      }
    }
  }
};

struct Results {
  std::vector<float> y, dx, d_logits, d_mean, d_log_scale;
};

class DiagonalMixture : public OnEveryDevice {
 protected:
  struct Tensors {
    Tensor<float> x, logits, mean, log_scale;
  };
  Tensors upload(const Problem& p) const {
    return {Tensor<float>::from(p.x, {p.rows, p.dims}, device()),
            Tensor<float>::from(p.logits, {p.components}, device()),
            Tensor<float>::from(p.mean, {p.components, p.dims}, device()),
            Tensor<float>::from(p.log_scale, {p.components, p.dims}, device())};
  }
  Tensor<float> upload(const std::vector<float>& v) const {
    return Tensor<float>::from(v, {static_cast<int64_t>(v.size())}, device());
  }

  std::vector<float> log_marginal(const Problem& p) const {
    const Tensors t = upload(p);
    return diagonal_mixture_log_marginal(t.x, t.logits, t.mean, t.log_scale).value().to_host();
  }

  /// All gradients; through the log marginal with upstream g, or through the log-likelihood with weights g
  /// and an upstream.
  Results gradients(const Problem& p, const std::vector<float>& g, bool likelihood, float upstream = 1.0f) const {
    const Tensors t = upload(p);
    Tape tape;
    const Variable x = tape.watch(t.x);
    const Variable logits = tape.watch(t.logits);
    const Variable mean = tape.watch(t.mean);
    const Variable log_scale = tape.watch(t.log_scale);
    const Tensor<float> weights = upload(g);
    std::vector<float> y;
    if (likelihood) {
      const Variable total = diagonal_mixture_log_likelihood(x, logits, mean, log_scale, &weights);
      tape.backward(total, Tensor<float>::full({}, upstream, device()));
      y = total.value().to_host();
    } else {
      const Variable marginal = diagonal_mixture_log_marginal(x, logits, mean, log_scale);
      tape.backward(marginal, weights);
      y = marginal.value().to_host();
    }
    return {y, tape.grad(x).to_host(), tape.grad(logits).to_host(), tape.grad(mean).to_host(),
            tape.grad(log_scale).to_host()};
  }

  void expect_marginal(const Problem& p, const std::string& what) const {
    const Reference reference(p);
    const Reals wanted = reference.log_marginals(to_reals(p.x));
    Reals bound;
    const Real peak = reference.peak();
    for (const Real y : wanted) bound.push_back(reference.bound(y, peak));
    expect_within(log_marginal(p), wanted, bound, what + ", " + p.str());
  }

  void expect_gradients(const Problem& p, const std::vector<float>& g, const std::string& what) const {
    const Expected wanted(p, g);
    for (const bool likelihood : {false, true}) {
      const Results got = gradients(p, g, likelihood);
      const std::string where = what + (likelihood ? " (likelihood), " : " (marginal), ") + p.str();
      expect_within(got.d_logits, wanted.d_logits.value, wanted.d_logits.bound, "d logits, " + where);
      expect_within(got.d_mean, wanted.d_mean.value, wanted.d_mean.bound, "d mean, " + where);
      expect_within(got.d_log_scale, wanted.d_log_scale.value, wanted.d_log_scale.bound, "d log_scale, " + where);
      expect_within(got.dx, wanted.dx.value, wanted.dx.bound, "d x, " + where);
    }
  }
};

std::vector<Problem> odd_sizes() {
  std::vector<Problem> result;
  for (const int64_t rows : {0, 1, 2, 5, 63, 64, 65, 1000}) result.push_back(random_problem(rows, 5, 3));
  for (const int64_t components : {1, 2, 3, 15, 16, 17, 33, 64, 100, 257}) {
    result.push_back(random_problem(65, components, 3));
  }
  for (const int64_t dims : {1, 2, 3, 5, 16, 17, 64}) result.push_back(random_problem(49, 17, dims));
  result.push_back(random_problem(97, 40, 1));
  result.push_back(random_problem(97, 70, 2));
  result.push_back(random_problem(21, 3, 130));
  result.push_back(random_problem(33, 66, 67));
  return result;
}

TEST_P(DiagonalMixture, LogMarginalMatchesTheReferenceAtOddSizes) {
  for (const Problem& p : odd_sizes()) expect_marginal(p, "log marginal");
}

TEST_P(DiagonalMixture, GradientsMatchTheReferenceAtOddSizes) {
  for (const Problem& p : odd_sizes()) {
    expect_gradients(p, random_normals(p.rows, 17), "upstream of any sign");
    expect_gradients(p, std::vector<float>(static_cast<std::size_t>(p.rows), 1.0f), "upstream of ones");
  }
}

TEST_P(DiagonalMixture, GradientsAgreeWithCentralDifferencesOfTheReference) {
  const Problem p = random_problem(7, 3, 2, 5);
  const std::vector<float> g = random_normals(p.rows, 6);
  const auto objective = [&](const Reference& reference, const Reals& x) {
    Real sum = 0;
    const Reals y = reference.log_marginals(x);
    for (std::size_t n = 0; n < y.size(); ++n) sum += g[n] * y[n];
    return sum;
  };
  const Reference reference(p);
  const Reals x = to_reals(p.x);
  const auto differences = [&](Reals Reference::*field) {
    return central_differences(
        [&](const Reals& value) {
          Reference moved = reference;
          moved.*field = value;
          return objective(moved, x);
        },
        reference.*field);
  };
  const Reals dx = central_differences([&](const Reals& value) { return objective(reference, value); }, x);
  for (const bool likelihood : {false, true}) {
    const Results got = gradients(p, g, likelihood);
    expect_close(got.dx, dx, 1e-5, "d x");
    expect_close(got.d_logits, differences(&Reference::logits), 1e-5, "d logits");
    expect_close(got.d_mean, differences(&Reference::mean), 1e-5, "d mean");
    expect_close(got.d_log_scale, differences(&Reference::log_scale), 1e-5, "d log_scale");
  }
}

TEST_P(DiagonalMixture, LogLikelihoodIsTheWeightedSumWithOrWithoutGradients) {
  for (const int64_t rows : {0, 1, 65, 1000}) {
    const Problem p = random_problem(rows, 5, 3);
    const Tensors t = upload(p);
    const std::vector<float> g = random_normals(rows, 8);
    const Tensor<float> weights = upload(g);
    Real weighted = 0, plain = 0, size = 1;
    const Reals y = Reference(p).log_marginals(to_reals(p.x));
    for (std::size_t n = 0; n < y.size(); ++n) {
      weighted += g[n] * y[n], plain += y[n], size += std::abs(y[n]) * (1 + std::abs(g[n]));
    }
    const float got = diagonal_mixture_log_likelihood(t.x, t.logits, t.mean, t.log_scale, &weights).value().item();
    EXPECT_NEAR(got, static_cast<double>(weighted), 1e-6 * static_cast<double>(size)) << p.str();
    EXPECT_EQ(gradients(p, g, true).y[0], got) << p.str();
    EXPECT_NEAR(diagonal_mixture_log_likelihood(t.x, t.logits, t.mean, t.log_scale).value().item(),
                static_cast<double>(plain), 1e-6 * static_cast<double>(size))
        << p.str();
    EXPECT_EQ(diagonal_mixture_log_likelihood(t.x, t.logits, t.mean, t.log_scale).shape(), Shape{});
  }
}

TEST_P(DiagonalMixture, UpstreamScalesEveryGradientOfTheLogLikelihood) {
  const Problem p = random_problem(33, 4, 3);
  const std::vector<float> g(33, 1.0f);
  const Results once = gradients(p, g, true);
  const Results twice = gradients(p, g, true, -2.0f);
  for (std::size_t i = 0; i < once.dx.size(); ++i) EXPECT_EQ(twice.dx[i], -2 * once.dx[i]) << "d x, element " << i;
  for (std::size_t i = 0; i < once.d_mean.size(); ++i) EXPECT_EQ(twice.d_mean[i], -2 * once.d_mean[i]) << i;
  for (std::size_t i = 0; i < once.d_logits.size(); ++i) EXPECT_EQ(twice.d_logits[i], -2 * once.d_logits[i]) << i;
}

TEST_P(DiagonalMixture, GradientOfOneInputAloneIsTheSame) {
  const Problem p = random_problem(40, 5, 3);
  const Tensors t = upload(p);
  const std::vector<float> g(40, 1.0f);
  const Results all = gradients(p, g, true);
  for (int input = 0; input < 4; ++input) {
    Tape tape;
    std::vector<Variable> in = {t.x, t.logits, t.mean, t.log_scale};
    in[static_cast<std::size_t>(input)] = tape.watch(in[static_cast<std::size_t>(input)].value());
    tape.backward(diagonal_mixture_log_likelihood(in[0], in[1], in[2], in[3]));
    const std::vector<float> wanted[] = {all.dx, all.d_logits, all.d_mean, all.d_log_scale};
    EXPECT_EQ(tape.grad(in[static_cast<std::size_t>(input)]).to_host(), wanted[input]) << "input " << input;
  }
}

TEST_P(DiagonalMixture, StatisticsMatchTheReference) {
  for (const Problem& p : odd_sizes()) {
    const Tensors t = upload(p);
    std::vector<float> g = random_normals(p.rows, 9);
    for (float& w : g) w = std::abs(w);
    const Tensor<float> weights = upload(g);
    const MixtureStatistics got = diagonal_mixture_statistics(t.x, t.logits, t.mean, t.log_scale, &weights);
    const Expected wanted(p, g);
    expect_within(got.s0.to_host(), wanted.s0.value, wanted.s0.bound, "s0, " + p.str());
    expect_within(got.s1.to_host(), wanted.s1.value, wanted.s1.bound, "s1, " + p.str());
    expect_within(got.s2.to_host(), wanted.s2.value, wanted.s2.bound, "s2, " + p.str());
    const Reference reference(p);
    const Reals y = reference.log_marginals(to_reals(p.x));
    Reals bound;
    const Real peak = reference.peak();
    for (const Real value : y) bound.push_back(reference.bound(value, peak));
    expect_within(got.log_marginal.to_host(), y, bound, "log marginal, " + p.str());
    Real total = 0, total_bound = 0;
    for (std::size_t n = 0; n < y.size(); ++n) {
      total += g[n] * y[n];
      total_bound += g[n] * bound[n];
    }
    expect_within(got.log_likelihood.to_host(), {total}, {total_bound}, "log-likelihood, " + p.str());
  }
}

TEST_P(DiagonalMixture, ResponsibilitiesMatchTheReferenceAndSumToOne) {
  for (const Problem& p : odd_sizes()) {
    const Tensors t = upload(p);
    const std::vector<float> got = diagonal_mixture_responsibilities(t.x, t.logits, t.mean, t.log_scale).to_host();
    const Reference reference(p);
    const Reals x = to_reals(p.x);
    Reals wanted, bound;
    for (int64_t n = 0; n < p.rows; ++n) {
      const Real* const row = &x[static_cast<std::size_t>(n * p.dims)];
      const Reals joints = reference.log_joints(row);
      const Real y = test::log_sum_exp(joints);
      const Real relative = 4 * reference.bound(y);
      Real sum = 0;
      for (int64_t k = 0; k < p.components; ++k) {
        wanted.push_back(std::exp(joints[static_cast<std::size_t>(k)] - y));
        bound.push_back(relative * (wanted.back() + 1e-25L));
        sum += got[static_cast<std::size_t>(n * p.components + k)];
      }
      EXPECT_NEAR(static_cast<double>(sum), 1.0, 1e-6) << "row " << n << ", " << p.str();
    }
    expect_within(got, wanted, bound, "responsibilities, " + p.str());
  }
}

// ---- conditioning and edges ----------------------------------------------------------------------

TEST_P(DiagonalMixture, StaysAccurateForTightComponentsFarFromTheCentre) {
  Problem p = random_problem(200, 6, 3, 11);
  for (int64_t k = 0; k < p.components; ++k) {
    for (int64_t d = 0; d < p.dims; ++d) {
      const auto i = static_cast<std::size_t>(k * p.dims + d);
      p.mean[i] = static_cast<float>(1000.0 * (k - 2) + 10.0 * static_cast<double>(d));
      p.log_scale[i] = -3.0f + 0.1f * static_cast<float>(d);
    }
  }
  for (int64_t n = 0; n < p.rows; ++n) {
    for (int64_t d = 0; d < p.dims; ++d) {
      float& x = p.x[static_cast<std::size_t>(n * p.dims + d)];
      x = p.mean[static_cast<std::size_t>(n % p.components * p.dims + d)] + 0.05f * x;
    }
  }
  expect_marginal(p, "tight and far");
  expect_gradients(p, std::vector<float>(200, 1.0f), "tight and far");
}

TEST_P(DiagonalMixture, StaysAccurateWhenAllIsFarFromZero) {
  Problem p = random_problem(100, 4, 5, 12);
  for (float& x : p.x) x += 5000.0f;
  for (float& m : p.mean) m += 5000.0f;
  expect_marginal(p, "shifted by 5000");
  expect_gradients(p, std::vector<float>(100, 1.0f), "shifted by 5000");
}

TEST_P(DiagonalMixture, PointAMillionDeviationsAwayIsFarAndFinite) {
  Problem p = random_problem(3, 4, 2, 13);
  p.x = {0.1f, 0.2f, 1e6f, -1e6f, 0.3f, 1e6f};
  expect_marginal(p, "far point");
  for (const float y : log_marginal(p)) EXPECT_TRUE(std::isfinite(y));
  p.x = {0.0f, 0.0f, 1e18f, 0.0f, 3e18f, -3e18f};
  expect_marginal(p, "very far point");
}

TEST_P(DiagonalMixture, SquaresBeyondTheRangeOfFloatsDoNotReachTheGradients) {
  Problem p = random_problem(60, 4, 2, 14);
  for (float& s : p.log_scale) s += 25.0f;
  for (std::size_t n = 0; n < 60; n += 7) p.x[2 * n] = 1e20f;
  expect_marginal(p, "wide components");
  expect_gradients(p, std::vector<float>(60, 1.0f), "wide components");
}

TEST_P(DiagonalMixture, RowBeyondTheRangeOfFloatsIsMinusInfinityAndHasNoGradient) {
  Problem p = random_problem(2, 4, 2, 14);
  p.x = {1e30f, 0.0f, 0.5f, 0.5f};
  const Results got = gradients(p, {1.0f, 1.0f}, false);
  EXPECT_EQ(got.y[0], -kInf);
  EXPECT_TRUE(std::isfinite(got.y[1]));
  EXPECT_EQ(got.dx[0], 0.0f);
  EXPECT_EQ(got.dx[1], 0.0f);
  expect_gradients(p, {0.0f, 1.0f}, "beside a row out of range");
  for (const float d : got.d_mean) EXPECT_TRUE(std::isfinite(d));
}

TEST_P(DiagonalMixture, HugeAndTinyScalesStayWithinTheBound) {
  for (const float log_scale : {-40.0f, -12.0f, 12.0f, 40.0f, 80.0f}) {
    Problem p = random_problem(20, 3, 2, 15);
    for (float& s : p.log_scale) s += log_scale;
    for (float& m : p.mean) m *= std::exp(log_scale);
    for (float& x : p.x) x *= std::exp(log_scale);
    expect_marginal(p, "log_scale about " + std::to_string(log_scale));
    expect_gradients(p, std::vector<float>(20, 1.0f), "log_scale about " + std::to_string(log_scale));
  }
  // One of each beside ordinary ones.
  Problem p = random_problem(50, 6, 3, 16);
  for (std::size_t i = 0; i < 3; ++i) p.log_scale[i] = -30.0f, p.log_scale[3 + i] = 30.0f, p.log_scale[6 + i] = 70.0f;
  for (std::size_t i = 0; i < 3; ++i) p.x[i] = p.mean[i];
  expect_marginal(p, "mixed scales");
  expect_gradients(p, std::vector<float>(50, 1.0f), "mixed scales");
}

TEST_P(DiagonalMixture, ComponentOfNoWeightIsHarmlessWhateverItsParametersAre) {
  for (const int64_t components : {3, 20}) {
    const Problem without = random_problem(30, components, 2, 18);
    Problem with = without;
    with.components += 2;
    with.logits.insert(with.logits.end(), {-kInf, -kInf});
    with.mean.insert(with.mean.end(), {kNaN, kInf, 0.0f, 1.0f});
    with.log_scale.insert(with.log_scale.end(), {kInf, kNaN, -kInf, 300.0f});
    const std::vector<float> g = random_normals(30, 19);
    for (const bool likelihood : {false, true}) {
      const Results a = gradients(without, g, likelihood);
      const Results b = gradients(with, g, likelihood);
      expect_close(b.y, to_reals(a.y), 1e-6, "y");
      expect_close(b.dx, to_reals(a.dx), 1e-5, "d x");
      const auto kept = static_cast<std::size_t>(components);
      for (std::size_t k = 0; k < 2; ++k) EXPECT_EQ(b.d_logits[kept + k], 0.0f);
      for (std::size_t i = 0; i < 4; ++i) {
        EXPECT_EQ(b.d_mean[2 * kept + i], 0.0f) << i;
        EXPECT_EQ(b.d_log_scale[2 * kept + i], 0.0f) << i;
      }
      expect_close({b.d_mean.begin(), b.d_mean.begin() + 2 * components}, to_reals(a.d_mean), 1e-5, "d mean");
    }
    const Tensors t = upload(with);
    const auto r = diagonal_mixture_responsibilities(t.x, t.logits, t.mean, t.log_scale).to_host();
    for (int64_t n = 0; n < 30; ++n) {
      EXPECT_EQ(r[static_cast<std::size_t>((n + 1) * with.components - 1)], 0.0f);
      EXPECT_EQ(r[static_cast<std::size_t>((n + 1) * with.components - 2)], 0.0f);
    }
  }
}

TEST_P(DiagonalMixture, NoComponentOfWeightGivesMinusInfinityAndZeroGradient) {
  Problem p = random_problem(5, 3, 2, 20);
  p.logits = {-kInf, -kInf, -kInf};
  const Results got = gradients(p, {1, 1, 1, 1, 1}, false);
  for (const float y : got.y) EXPECT_EQ(y, -kInf);
  for (const float d : got.d_mean) EXPECT_EQ(d, 0.0f);
  for (const float d : got.d_logits) EXPECT_EQ(d, 0.0f);
  for (const float d : got.dx) EXPECT_EQ(d, 0.0f);
}

TEST_P(DiagonalMixture, NaNInARowGivesNaNThereAlone) {
  for (const int64_t dims : {1, 3, 17}) {
    Problem p = random_problem(70, 5, dims, 21);
    p.x[static_cast<std::size_t>(37 * dims + dims - 1)] = kNaN;
    const std::vector<float> got = log_marginal(p);
    for (std::size_t n = 0; n < 70; ++n) EXPECT_EQ(std::isnan(got[n]), n == 37) << "row " << n;
    const Results gradient = gradients(p, std::vector<float>(70, 1.0f), false);
    EXPECT_TRUE(std::isnan(gradient.d_logits[0]));
    // Of no weight, it is as if it were not there.
    std::vector<float> g(70, 1.0f);
    g[37] = 0.0f;
    for (const bool likelihood : {false, true}) {
      const Results masked = gradients(p, g, likelihood);
      Problem clean = p;
      clean.x[static_cast<std::size_t>(37 * dims + dims - 1)] = 0.0f;
      const Results wanted = gradients(clean, g, likelihood);
      if (likelihood) {
        EXPECT_EQ(masked.y, wanted.y);
      }
      EXPECT_EQ(masked.d_mean, wanted.d_mean);
      EXPECT_EQ(masked.dx, wanted.dx);
    }
  }
}

TEST_P(DiagonalMixture, InfinityInARowGivesMinusInfinityAndNoGradient) {
  Problem p = random_problem(70, 5, 3, 22);
  p.x[3 * 37] = kInf;
  p.x[3 * 38 + 1] = -kInf;
  p.x[3 * 39] = kInf;
  p.x[3 * 39 + 1] = kNaN;
  std::vector<float> g(70, 1.0f);
  g[39] = 0.0f;
  const Results got = gradients(p, g, false);
  EXPECT_EQ(got.y[37], -kInf);
  EXPECT_EQ(got.y[38], -kInf);
  EXPECT_TRUE(std::isnan(got.y[39]));
  for (std::size_t i = 3 * 37; i < 3 * 39; ++i) EXPECT_EQ(got.dx[i], 0.0f);
  std::vector<float> without = g;
  without[37] = without[38] = 0.0f;
  EXPECT_EQ(got.d_mean, gradients(p, without, false).d_mean);
  EXPECT_EQ(got.d_log_scale, gradients(p, without, false).d_log_scale);
}

TEST_P(DiagonalMixture, NaNParameterOfAComponentOfWeightGivesNaNEverywhere) {
  for (int which = 0; which < 3; ++which) {
    Problem p = random_problem(3, 20, 2, 23);
    (which == 0 ? p.logits : which == 1 ? p.mean : p.log_scale)[13] = kNaN;
    for (const float y : log_marginal(p)) EXPECT_TRUE(std::isnan(y)) << "parameter " << which;
  }
}

TEST_P(DiagonalMixture, ConstantColumnsAndDuplicatedPointsAreOrdinary) {
  Problem p = random_problem(64, 70, 2, 24);  // and more components than distinct points
  for (int64_t n = 0; n < p.rows; ++n) {
    p.x[static_cast<std::size_t>(2 * n)] = 3.25f;
    p.x[static_cast<std::size_t>(2 * n + 1)] = n % 2 == 0 ? -1.0f : 2.0f;
  }
  expect_marginal(p, "duplicates");
  expect_gradients(p, std::vector<float>(64, 1.0f), "duplicates");
}

TEST_P(DiagonalMixture, ResponsibilitiesOfManyRowsSumToTheirNumber) {
  // The trap: sums in f32 alone lose 1e-3 of a million.
  const int64_t rows = on_simulated_device() ? 2000 : 1'000'000;
  const Problem p = random_problem(rows, 64, 2, 25);
  const Tensors t = upload(p);
  const auto s0 = diagonal_mixture_statistics(t.x, t.logits, t.mean, t.log_scale).s0.to_host();
  double sum = 0;
  for (const double s : s0) sum += s;
  EXPECT_NEAR(sum, static_cast<double>(rows), 1e-6 * static_cast<double>(rows));
}

TEST_P(DiagonalMixture, EqualRunsGiveEqualBits) {
  const Problem p = random_problem(on_simulated_device() ? 300 : 5000, 33, 3, 26);
  const std::vector<float> g = random_normals(p.rows, 27);
  for (const bool likelihood : {false, true}) {
    const Results a = gradients(p, g, likelihood);
    const Results b = gradients(p, g, likelihood);
    EXPECT_EQ(a.y, b.y);
    EXPECT_EQ(a.dx, b.dx);
    EXPECT_EQ(a.d_logits, b.d_logits);
    EXPECT_EQ(a.d_mean, b.d_mean);
    EXPECT_EQ(a.d_log_scale, b.d_log_scale);
  }
}

TEST_P(DiagonalMixture, EveryNumberOfThreadsGivesTheSameBits) {
  if (device().is_cuda()) GTEST_SKIP() << "threads are the CPU's";
  const Problem p = random_problem(10007, 33, 3, 28);
  const std::vector<float> g = random_normals(p.rows, 29);
  const int before = cpu_threads();
  set_cpu_threads(1);
  const Results one = gradients(p, g, true);
  for (const int threads : {2, 3, 7}) {
    set_cpu_threads(threads);
    const Results many = gradients(p, g, true);
    EXPECT_EQ(one.y, many.y) << threads << " threads";
    EXPECT_EQ(one.dx, many.dx) << threads << " threads";
    EXPECT_EQ(one.d_logits, many.d_logits) << threads << " threads";
    EXPECT_EQ(one.d_mean, many.d_mean) << threads << " threads";
    EXPECT_EQ(one.d_log_scale, many.d_log_scale) << threads << " threads";
  }
  set_cpu_threads(before);
}

TEST_P(DiagonalMixture, ThreadsThatOvertakeEachOtherGiveTheSameBits) {
  if (device().is_cuda()) GTEST_SKIP() << "threads are the CPU's";
  // The first rows are too far for the fast path and take much longer: later ones would be added first, or into the
  // middle, were they not made to wait.
  Problem p = random_problem(16128, 16, 2, 30);
  for (int64_t k = 0; k < p.components; ++k) p.log_scale[static_cast<std::size_t>(k * p.dims)] = 30.0f;
  for (int64_t n = 0; n < 2016; ++n) p.x[static_cast<std::size_t>(n * p.dims)] = 2e16f;
  const Tensors t = upload(p);
  const Tensor<float> weights = upload(random_normals(p.rows, 31));
  const int before = cpu_threads();
  set_cpu_threads(1);
  const MixtureStatistics one = diagonal_mixture_statistics(t.x, t.logits, t.mean, t.log_scale, &weights);
  for (int repetition = 0; repetition < 10; ++repetition) {
    for (const int threads : {2, 3, 7}) {
      set_cpu_threads(threads);
      const MixtureStatistics many = diagonal_mixture_statistics(t.x, t.logits, t.mean, t.log_scale, &weights);
      EXPECT_EQ(one.s0.to_host(), many.s0.to_host()) << threads << " threads";
      EXPECT_EQ(one.s1.to_host(), many.s1.to_host()) << threads << " threads";
      EXPECT_EQ(one.s2.to_host(), many.s2.to_host()) << threads << " threads";
    }
  }
  set_cpu_threads(before);
}

// ---- sampling and joints -------------------------------------------------------------------------

TEST_P(DiagonalMixture, PosteriorDrawsOccurAsOftenAsTheResponsibilitiesSay) {
  const Problem p = random_problem(4, 6, 2, 30);
  const Tensors t = upload(p);
  const int64_t samples = on_simulated_device() ? 2000 : 20000;
  const Draws draws(31, device());
  const auto z = diagonal_mixture_sample_posterior(t.x, t.logits, t.mean, t.log_scale, draws, samples).to_host();
  const auto r = diagonal_mixture_responsibilities(t.x, t.logits, t.mean, t.log_scale).to_host();
  for (int64_t n = 0; n < p.rows; ++n) {
    std::vector<double> count(6);
    for (int64_t s = 0; s < samples; ++s) {
      const int32_t k = z[static_cast<std::size_t>(n * samples + s)];
      ASSERT_TRUE(k >= 0 && k < 6) << k;
      ++count[static_cast<std::size_t>(k)];
    }
    for (std::size_t k = 0; k < 6; ++k) {
      const double wanted = r[static_cast<std::size_t>(n) * 6 + k];
      const double deviation = std::sqrt(wanted * (1 - wanted) / static_cast<double>(samples)) + 1e-9;
      EXPECT_NEAR(count[k] / static_cast<double>(samples), wanted, 5 * deviation + 1e-5) << "row " << n << ", " << k;
    }
  }
}

TEST_P(DiagonalMixture, PosteriorDrawsAreTheSameOnEveryDeviceButAtBoundaries) {
  const Problem p = random_problem(200, 37, 3, 32);
  const auto draw = [&](const Device& on) {
    return diagonal_mixture_sample_posterior(
               Tensor<float>::from(p.x, {p.rows, p.dims}, on), Tensor<float>::from(p.logits, {p.components}, on),
               Tensor<float>::from(p.mean, {p.components, p.dims}, on),
               Tensor<float>::from(p.log_scale, {p.components, p.dims}, on), Draws(33, on).at(2), 5)
        .to_host();
  };
  const auto here = draw(device());
  const auto cpu = draw(Device::cpu());
  int different = 0;
  for (std::size_t i = 0; i < here.size(); ++i) different += here[i] != cpu[i];
  EXPECT_LE(different, 2) << "of " << here.size();
}

TEST_P(DiagonalMixture, PosteriorDrawsFollowTheDatumAndNotTheRow) {
  const Problem p = random_problem(30, 8, 2, 34);
  const Tensors t = upload(p);
  const Draws draws(35, device());
  const auto all = diagonal_mixture_sample_posterior(t.x, t.logits, t.mean, t.log_scale, draws, 6).to_host();
  const auto data = Tensor<int64_t>::from({20, 21, 22, 23, 24}, {5}, device());
  const auto part =
      diagonal_mixture_sample_posterior(t.x.rows(20, 25), t.logits, t.mean, t.log_scale, draws, 6, &data).to_host();
  EXPECT_EQ(part, std::vector<int32_t>(all.begin() + 20 * 6, all.begin() + 25 * 6));
  const auto fewer = diagonal_mixture_sample_posterior(t.x, t.logits, t.mean, t.log_scale, draws, 3).to_host();
  for (std::size_t n = 0; n < 30; ++n) {
    for (std::size_t s = 0; s < 3; ++s) EXPECT_EQ(fewer[n * 3 + s], all[n * 6 + s]) << n << ", " << s;
  }
}

TEST_P(DiagonalMixture, PosteriorDrawsAvoidComponentsOfNoWeightAndRowsWithoutPosterior) {
  Problem p = random_problem(40, 4, 2, 36);
  p.logits[0] = p.logits[3] = -kInf;
  p.x[2 * 7] = kNaN;
  p.x[2 * 9] = kInf;
  const Tensors t = upload(p);
  const auto z =
      diagonal_mixture_sample_posterior(t.x, t.logits, t.mean, t.log_scale, Draws(37, device()), 9).to_host();
  for (std::size_t i = 0; i < z.size(); ++i) {
    if (i / 9 == 7 || i / 9 == 9) {
      EXPECT_EQ(z[i], -1) << "row " << i / 9;
    } else {
      EXPECT_TRUE(z[i] == 1 || z[i] == 2) << z[i];
    }
  }
}

TEST_P(DiagonalMixture, LogJointAndItsGradientsMatchTheReference) {
  const std::vector<Problem> problems = {random_problem(45, 6, 5, 38), random_problem(45, 6, 5, 38),
                                         random_problem(7, 67, 2, 38), random_problem(7, 3, 66, 38)};
  for (std::size_t which = 0; which < problems.size(); ++which) {
    const int64_t samples = which == 0 ? 1 : 3;
    const Problem& p = problems[which];
    const Tensors t = upload(p);
    std::vector<int32_t> z;
    for (int64_t i = 0; i < p.rows * samples; ++i) z.push_back(static_cast<int32_t>((i * 7 + i / 5) % p.components));
    const std::vector<float> g = random_normals(p.rows * samples, 39);
    Tape tape;
    const Variable x = tape.watch(t.x), logits = tape.watch(t.logits), mean = tape.watch(t.mean),
                   log_scale = tape.watch(t.log_scale);
    const Variable y =
        diagonal_mixture_log_joint(x, Tensor<int32_t>::from(z, {p.rows, samples}, device()), logits, mean, log_scale);
    tape.backward(y, Tensor<float>::from(g, {p.rows, samples}, device()));

    const Reference reference(p);
    const auto objective = [&](const Reference& mixture, const Reals& data, Reals* joints) {
      Real sum = 0;
      for (std::size_t i = 0; i < z.size(); ++i) {
        const Real value =
            mixture.log_joint(&data[i / static_cast<std::size_t>(samples) * static_cast<std::size_t>(p.dims)], z[i]);
        if (joints != nullptr) joints->push_back(value);
        sum += g[i] * value;
      }
      return sum;
    };
    Reals joints, bound;
    const Reals data = to_reals(p.x);
    objective(reference, data, &joints);
    for (const Real value : joints) bound.push_back(reference.bound(value));
    expect_within(y.value().to_host(), joints, bound, "log joint");
    const auto differences = [&](Reals Reference::*field) {
      return central_differences(
          [&](const Reals& value) {
            Reference moved = reference;
            moved.*field = value;
            return objective(moved, data, nullptr);
          },
          reference.*field);
    };
    expect_close(tape.grad(logits).to_host(), differences(&Reference::logits), 1e-5, "d logits");
    expect_close(tape.grad(mean).to_host(), differences(&Reference::mean), 1e-5, "d mean");
    expect_close(tape.grad(log_scale).to_host(), differences(&Reference::log_scale), 1e-5, "d log_scale");
    expect_close(tape.grad(x).to_host(),
                 central_differences([&](const Reals& value) { return objective(reference, value, nullptr); }, data),
                 1e-5, "d x");
  }
}

TEST_P(DiagonalMixture, LogJointOfAComponentOutOfRangeIsNaNAndHasNoGradient) {
  const Problem p = random_problem(4, 3, 2, 40);
  const Tensors t = upload(p);
  Tape tape;
  const Variable mean = tape.watch(t.mean);
  const Variable y = diagonal_mixture_log_joint(t.x, Tensor<int32_t>::from({-1, 3, 1 << 30, 1}, {4, 1}, device()),
                                                t.logits, mean, t.log_scale);
  tape.backward(y, Tensor<float>::full({4, 1}, 1.0f, device()));
  const auto got = y.value().to_host();
  for (std::size_t i = 0; i < 3; ++i) EXPECT_TRUE(std::isnan(got[i])) << i;
  EXPECT_TRUE(std::isfinite(got[3]));
  const auto d_mean = tape.grad(mean).to_host();
  for (const std::size_t i : {0, 1, 4, 5}) EXPECT_EQ(d_mean[i], 0.0f) << i;
  for (const std::size_t i : {2, 3}) EXPECT_NE(d_mean[i], 0.0f) << i;
}

TEST_P(DiagonalMixture, AncestralSamplesHaveTheMixturesMoments) {
  const int64_t count = on_simulated_device() ? 3000 : 50000;
  for (const int64_t dims : {1, 2, 5}) {
    Problem p = random_problem(0, 4, dims, 41);
    p.logits[2] = -kInf;
    const Tensors t = upload(p);
    const MixtureSample sample = diagonal_mixture_sample(count, t.logits, t.mean, t.log_scale, Draws(42, device()));
    ASSERT_EQ(sample.z.shape(), (Shape{count}));
    ASSERT_EQ(sample.x.shape(), (Shape{count, dims}));
    const auto z = sample.z.to_host();
    const auto x = sample.x.to_host();
    const Reference reference(p);
    for (int64_t k = 0; k < 4; ++k) {
      double number = 0;
      std::vector<double> sum(static_cast<std::size_t>(dims)), square(static_cast<std::size_t>(dims));
      for (std::size_t n = 0; n < z.size(); ++n) {
        if (z[n] != k) continue;
        ++number;
        for (std::size_t d = 0; d < sum.size(); ++d) {
          const auto residual = static_cast<double>(reference.t(k, static_cast<int64_t>(d), x[n * sum.size() + d]));
          sum[d] += residual;
          square[d] += residual * residual;
        }
      }
      const double pi = k == 2 ? 0.0 : static_cast<double>(std::exp(reference.log_weight(k)));
      EXPECT_NEAR(number / static_cast<double>(count), pi, 5 * std::sqrt(pi * (1 - pi) / static_cast<double>(count)));
      for (std::size_t d = 0; d < sum.size() && number > 0; ++d) {
        EXPECT_NEAR(sum[d] / number, 0.0, 5 / std::sqrt(number)) << "mean of component " << k << ", " << d;
        EXPECT_NEAR(square[d] / number, 1.0, 5 * std::sqrt(2 / number)) << "variance of " << k << ", " << d;
      }
    }
  }
}

TEST_P(DiagonalMixture, AncestralSamplesAreTheSameOnEveryDevice) {
  const Problem p = random_problem(0, 5, 3, 43);
  const auto draw = [&](const Device& on) {
    return diagonal_mixture_sample(100, Tensor<float>::from(p.logits, {5}, on), Tensor<float>::from(p.mean, {5, 3}, on),
                                   Tensor<float>::from(p.log_scale, {5, 3}, on), Draws(44, on));
  };
  const MixtureSample here = draw(device());
  const MixtureSample cpu = draw(Device::cpu());
  EXPECT_EQ(here.z.to_host(), cpu.z.to_host());
  expect_close(here.x.to_host(), to_reals(cpu.x.to_host()), 1e-5, "x");
}

// ---- refusals ------------------------------------------------------------------------------------

TEST_P(DiagonalMixture, RefusesWrongShapesInWords) {
  const Tensors t = upload(random_problem(4, 3, 2));
  const auto message = [](const auto& call) -> std::string {
    try {
      call();
    } catch (const ShapeError& error) {
      return error.what();
    }
    return "no exception";
  };
  EXPECT_EQ(message([&] {
              diagonal_mixture_log_marginal(Tensor<float>::zeros({4, 3}, device()), t.logits, t.mean, t.log_scale);
            }),
            "diagonal_mixture_log_marginal: x has shape (4, 3); (N, D) with D = 2 is needed");
  EXPECT_EQ(
      message([&] { diagonal_mixture_log_marginal(t.x, Tensor<float>::zeros({0}, device()), t.mean, t.log_scale); }),
      "diagonal_mixture_log_marginal: logits has shape (0,); (K) with K >= 1 is needed");
  EXPECT_EQ(message([&] {
              diagonal_mixture_statistics(t.x, t.logits, Tensor<float>::zeros({2, 2}, device()), t.log_scale);
            }),
            "diagonal_mixture_statistics: mean has shape (2, 2); (K, D) with K = 3 and D >= 1 is needed");
  EXPECT_EQ(
      message([&] { diagonal_mixture_responsibilities(t.x, t.logits, t.mean, Tensor<float>::zeros({3}, device())); }),
      "diagonal_mixture_responsibilities: log_scale has shape (3,); (K, D) = (3, 2) is needed");
  const auto weights = Tensor<float>::zeros({5}, device());
  EXPECT_EQ(message([&] { diagonal_mixture_log_likelihood(t.x, t.logits, t.mean, t.log_scale, &weights); }),
            "diagonal_mixture_log_likelihood: weights has shape (5,); (N) = (4,) is needed");
  EXPECT_EQ(message([&] {
              diagonal_mixture_log_joint(t.x, Tensor<int32_t>::zeros({3, 1}, device()), t.logits, t.mean, t.log_scale);
            }),
            "diagonal_mixture_log_joint: z has shape (3, 1); (N, S) with N = 4 and S >= 1 is needed");
  EXPECT_THROW(diagonal_mixture_sample_posterior(t.x, t.logits, t.mean, t.log_scale, Draws(1, device()), 0),
               ArgumentError);
  EXPECT_THROW(diagonal_mixture_sample(-1, t.logits, t.mean, t.log_scale, Draws(1, device())), ArgumentError);
}

TEST_P(DiagonalMixture, RefusesArgumentsOnDifferentStreams) {
  const Tensors t = upload(random_problem(4, 3, 2));
  const auto elsewhere = t.mean.to(Stream::create(device()));
  EXPECT_THROW(diagonal_mixture_log_marginal(t.x, t.logits, elsewhere, t.log_scale), DeviceError);
  EXPECT_THROW(diagonal_mixture_log_marginal(t.x.to(Stream::create(device())), t.logits, t.mean, t.log_scale),
               DeviceError);
}

DGM_ON_EVERY_DEVICE(DiagonalMixture);

}  // namespace
}  // namespace dgm::test
