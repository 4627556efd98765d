// SPDX-License-Identifier: Apache-2.0
#include <dgm/train/optimiser.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/reference.hpp"

#include <numbers>

namespace dgm::test {
namespace {

using Floats = std::vector<float>;
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "no exception";
}

// One weight's state, updated as the papers write it.
struct Reference {
  Real w = 0;
  Real velocity = 0;
  Real m = 0;
  Real v = 0;
  Real beta1_product = 1;
  Real beta2_product = 1;

  void sgd(Real g, Real rate, Real momentum, bool nesterov, Real decay) {
    g = g + decay * w;
    velocity = momentum * velocity + g;
    const Real d = nesterov ? g + momentum * velocity : velocity;
    w = w - rate * d;
  }
  void adam(Real g, Real rate, Real beta1, Real beta2, Real epsilon, Real decay, bool decoupled) {
    if (!decoupled) g = g + decay * w;
    m = beta1 * m + (1 - beta1) * g;
    v = beta2 * v + (1 - beta2) * g * g;
    beta1_product *= beta1;
    beta2_product *= beta2;
    const Real m_hat = m / (1 - beta1_product);
    const Real v_hat = v / (1 - beta2_product);
    const Real before = w;
    w = w - rate * m_hat / (std::sqrt(v_hat) + epsilon);
    if (decoupled) w = w - rate * decay * before;
  }
};

class Optimisers : public OnEveryDevice {
 protected:
  static constexpr int64_t kSizes[] = {1, 31, 1000, 17};
  static constexpr int64_t kTotal = 1 + 31 + 1000 + 17;

  // Several parameters of odd sizes, random values.
  Parameters make() const {
    Parameters parameters;
    const Floats all = random_normals(kTotal, 3);
    int64_t at = 0;
    for (const int64_t size : kSizes) {
      const Floats values(all.begin() + at, all.begin() + at + size);
      parameters.add(std::to_string(size) + " weights", Tensor<float>::from(values, {size}, device()));
      at += size;
    }
    return parameters;
  }
  void set_gradient(Parameters& parameters, const Floats& gradient) const {
    int64_t at = 0;
    for (Parameter& parameter : parameters) {
      const int64_t size = parameter.value.size();
      const Floats values(gradient.begin() + at, gradient.begin() + at + size);
      parameter.grad.copy_from(Tensor<float>::from(values, {size}, device()));
      at += size;
    }
  }
  static Floats values_of(const Parameters& parameters) {
    Floats all;
    for (const Parameter& parameter : parameters) {
      const Floats values = parameter.value.to_host();
      all.insert(all.end(), values.begin(), values.end());
    }
    return all;
  }
  // Gradients of very different sizes, as layers have.
  static Floats gradient_of_step(int step) {
    Floats g = random_normals(kTotal, 100 + static_cast<uint64_t>(step));
    for (std::size_t i = 0; i < g.size(); ++i) g[i] *= std::pow(10.0f, static_cast<float>(i % 7) - 4.0f);
    return g;
  }
  static Real norm_of(const Floats& g) {
    Real sum = 0;
    for (const float x : g) sum += Real{x} * x;
    return std::sqrt(sum);
  }

  // Runs both over many steps; the reference is told each gradient after what is done to all of it.
  void expect_follows(const std::function<Optimiser(Parameters&)>& make_optimiser,
                      const std::function<void(Reference&, Real g, int step)>& update, double largest_change,
                      const std::string& what, const std::function<Reals(const Floats&)>& prepare = to_reals) const {
    constexpr int kSteps = 300;
    Parameters parameters = make();
    Optimiser optimiser = make_optimiser(parameters);
    const Floats start = values_of(parameters);
    std::vector<Reference> wanted(start.size());
    for (std::size_t i = 0; i < start.size(); ++i) wanted[i].w = start[i];
    for (int step = 0; step < kSteps; ++step) {
      const Floats g = gradient_of_step(step);
      set_gradient(parameters, g);
      optimiser.step();
      const Reals prepared = prepare(g);
      for (std::size_t i = 0; i < wanted.size(); ++i) update(wanted[i], prepared[i], step);
      if (step == 0 || step == 7 || step == kSteps - 1) {
        Reals w;
        for (const Reference& reference : wanted) w.push_back(reference.w);
        expect_close(values_of(parameters), w, (step + 1) * kOptimiserError * std::max(1.0, largest_change),
                     what + ", after update " + std::to_string(step));
      }
    }
  }
};

TEST_P(Optimisers, SgdFollowsTheReference) {
  struct Case {
    double momentum;
    bool nesterov;
    double decay;
  };
  for (const Case& c : {Case{0, false, 0}, Case{0.9, false, 0}, Case{0.9, true, 0}, Case{0.5, true, 0.1}}) {
    expect_follows(
        [&](Parameters& p) {
          return sgd(p, {.rate = 0.01, .momentum = c.momentum, .nesterov = c.nesterov, .weight_decay = c.decay});
        },
        [&](Reference& r, Real g, int) { r.sgd(g, 0.01L, c.momentum, c.nesterov, c.decay); }, 10,
        "sgd, momentum " + std::to_string(c.momentum) + (c.nesterov ? " nesterov" : ""));
  }
}

TEST_P(Optimisers, AdamFollowsTheReference) {
  for (const double decay : {0.0, 0.1}) {
    expect_follows([&](Parameters& p) { return adam(p, {.rate = 0.01, .weight_decay = decay}); },
                   [&](Reference& r, Real g, int) { r.adam(g, 0.01L, 0.9L, 0.999L, 1e-8L, decay, false); }, 1,
                   "adam, decay " + std::to_string(decay));
  }
  expect_follows([&](Parameters& p) { return adam(p, {.rate = 0.01, .beta1 = 0, .beta2 = 0.9, .epsilon = 1e-3}); },
                 [&](Reference& r, Real g, int) { r.adam(g, 0.01L, 0, 0.9L, 1e-3L, 0, false); }, 1, "adam, beta1 = 0");
}

TEST_P(Optimisers, AdamWFollowsTheReference) {
  expect_follows([&](Parameters& p) { return adamw(p, {.rate = 0.01, .weight_decay = 0.3}); },
                 [&](Reference& r, Real g, int) { r.adam(g, 0.01L, 0.9L, 0.999L, 1e-8L, 0.3L, true); }, 1, "adamw");
}

TEST_P(Optimisers, MaximiseClimbsTheGradientAndStillDecays) {
  expect_follows([&](Parameters& p) { return sgd(p, {.rate = 0.01, .weight_decay = 0.1, .goal = Goal::maximise}); },
                 [&](Reference& r, Real g, int) { r.sgd(-g, 0.01L, 0, false, 0.1L); }, 10, "sgd, maximise");
  expect_follows([&](Parameters& p) { return adamw(p, {.rate = 0.01, .goal = Goal::maximise}); },
                 [&](Reference& r, Real g, int) { r.adam(-g, 0.01L, 0.9L, 0.999L, 1e-8L, 0.01L, true); }, 1,
                 "adamw, maximise");
}

TEST_P(Optimisers, ClipByTheNormOfAllParametersTogether) {
  for (const double clip : {0.5, 1e6}) {
    expect_follows([&](Parameters& p) { return sgd(p, {.rate = 0.1, .momentum = 0.9, .clip_norm = clip}); },
                   [&](Reference& r, Real g, int) { r.sgd(g, 0.1L, 0.9L, false, 0); }, clip < 1 ? 1 : 100,
                   "clip_norm = " + std::to_string(clip),
                   [&](const Floats& g) {
                     Reals result = to_reals(g);
                     const Real norm = norm_of(g);
                     for (Real& x : result) x *= std::min<Real>(1, clip / norm);
                     return result;
                   });
  }
}

TEST_P(Optimisers, ClipByValue) {
  expect_follows([&](Parameters& p) { return sgd(p, {.rate = 0.1, .clip_value = 0.25}); },
                 [&](Reference& r, Real g, int) { r.sgd(std::clamp<Real>(g, -0.25L, 0.25L), 0.1L, 0, false, 0); }, 1,
                 "clip_value");
}

TEST_P(Optimisers, ReportTheNormOfTheGradient) {
  Parameters parameters = make();
  Optimiser optimiser = sgd(parameters);
  const Floats g = gradient_of_step(1);
  set_gradient(parameters, g);
  optimiser.step();
  const auto wanted = static_cast<double>(norm_of(g));
  EXPECT_NEAR(optimiser.gradient_norm().item(), wanted, 1e-6 * wanted);
  EXPECT_EQ(optimiser.learning_rate().item(), 0.01f);
}

TEST_P(Optimisers, TakeTheNormOfManyChunksInAFixedOrder) {
  Parameters parameters;
  const int64_t size = 5 * 4096 + 123;
  const Floats g = random_normals(size, 5, 1e15);
  parameters.add("p", Tensor<float>::zeros({size}, device())).grad.copy_from(Tensor<float>::from(g, {size}, device()));
  Optimiser optimiser = sgd(parameters);
  optimiser.step();
  const float norm = optimiser.gradient_norm().item();
  const auto wanted = static_cast<double>(norm_of(g));
  EXPECT_NEAR(norm, wanted, 1e-6 * wanted) << "squares of 1e15 do not overflow the sum";
  const int threads = cpu_threads();
  for (const int n : {1, 3}) {
    set_cpu_threads(n);
    optimiser.step();
    EXPECT_EQ(optimiser.gradient_norm().item(), norm) << n << " threads";
  }
  set_cpu_threads(threads);
}

TEST_P(Optimisers, UpdateAllParametersAsTheyWouldEachAlone) {
  for (const std::string type : {"sgd", "adam", "adamw"}) {
    const auto optimiser_of = [&](Parameters& p) {
      return type == "sgd"    ? sgd(p, {.momentum = 0.9, .nesterov = true, .weight_decay = 0.1})
             : type == "adam" ? adam(p, {.weight_decay = 0.1})
                              : adamw(p);
    };
    Parameters together = make();
    Optimiser one = optimiser_of(together);
    std::vector<Parameters> alone;
    std::vector<Optimiser> each;
    for (const Parameter& parameter : together) alone.emplace_back().add(parameter.name, parameter.value);
    for (Parameters& parameters : alone) each.push_back(optimiser_of(parameters));
    for (int step = 0; step < 5; ++step) {
      set_gradient(together, gradient_of_step(step));
      for (Parameters& parameters : alone) {
        Parameter& parameter = *parameters.begin();
        parameter.grad.copy_from(together[parameter.name].grad);
      }
      one.step();
      for (Optimiser& optimiser : each) optimiser.step();
    }
    Floats wanted;
    for (const Parameters& parameters : alone) {
      const Floats values = parameters.begin()->value.to_host();
      wanted.insert(wanted.end(), values.begin(), values.end());
    }
    EXPECT_EQ(values_of(together), wanted) << type << ": bit for bit";
  }
}

TEST_P(Optimisers, SkipAndCountAnUpdateWhoseGradientIsNotFinite) {
  for (const float bad : {kNaN, kInf, -kInf, 3e38f}) {
    for (const double clip : {0.0, 1.0}) {
      if (bad == 3e38f && clip > 0) continue;  // finite, and clipping makes it small
      for (const std::string type : {"sgd", "adam"}) {
        const auto optimiser_of = [&](Parameters& p) {
          return type == "sgd" ? sgd(p, {.momentum = 0.9, .clip_norm = clip}) : adam(p, {.clip_norm = clip});
        };
        Parameters parameters = make();
        Optimiser optimiser = optimiser_of(parameters);
        Parameters clean = make();
        Optimiser undisturbed = optimiser_of(clean);
        for (int step = 0; step < 4; ++step) {
          Floats g = gradient_of_step(step);
          if (step != 2) {
            set_gradient(clean, g);
            undisturbed.step();
          } else {
            g[777] = bad;
          }
          set_gradient(parameters, g);
          optimiser.step();
        }
        EXPECT_EQ(values_of(parameters), values_of(clean)) << type << " with a gradient of " << bad;
        const OptimiserState state = optimiser.state();
        EXPECT_EQ(state.updates, 3);
        EXPECT_EQ(state.skipped, 1);
        EXPECT_EQ(state.last_skipped, 2);
      }
    }
  }
}

TEST_P(Optimisers, PassNaNOnWhenToldNotToSkip) {
  Parameters parameters = make();
  Optimiser optimiser = sgd(parameters, {.clip_value = 1, .skip_non_finite = false});
  Floats g = gradient_of_step(0);
  g[5] = kNaN;
  set_gradient(parameters, g);
  optimiser.step();
  const Floats w = values_of(parameters);
  EXPECT_TRUE(std::isnan(w[5])) << "clipping must not hide it: " << w[5];
  EXPECT_TRUE(std::isfinite(w[6]));
}

TEST_P(Optimisers, FollowTheirScheduleFromTheCounterOnTheDevice) {
  const std::vector<Schedule> schedules = {0.3, Schedule::linear(1, 7, 0.1).with_warmup(3),
                                           Schedule::cosine(0.5, 8, 0.01).with_warmup(2),
                                           Schedule::exponential(1, 0.5, 4), Schedule::step(2, 0.1, 3)};
  for (const Schedule& schedule : schedules) {
    Parameters parameters = make();
    Optimiser optimiser = sgd(parameters, {.rate = schedule});
    for (int t = 0; t < 13; ++t) {
      optimiser.step();
      EXPECT_FLOAT_EQ(optimiser.learning_rate().item(), static_cast<float>(schedule.at(t)))
          << "update " << t << " of schedule kind " << static_cast<int>(schedule.kind());
    }
  }
}

TEST(Schedules, FollowTheirFormulas) {
  EXPECT_EQ(Schedule(0.25).at(1000000), 0.25);
  const Schedule warm = Schedule(0.4).with_warmup(4);
  EXPECT_DOUBLE_EQ(warm.at(0), 0.1);
  EXPECT_DOUBLE_EQ(warm.at(3), 0.4);
  EXPECT_DOUBLE_EQ(warm.at(4), 0.4);
  const Schedule line = Schedule::linear(1, 10, 0.5).with_warmup(2);
  EXPECT_DOUBLE_EQ(line.at(2), 1);
  EXPECT_DOUBLE_EQ(line.at(7), 0.75);
  EXPECT_DOUBLE_EQ(line.at(12), 0.5);
  EXPECT_DOUBLE_EQ(line.at(int64_t{1} << 29), 0.5);
  for (int t = 0; t <= 12; ++t) {
    const double wanted = 0.1 + 0.9 * 0.5 * (1 + std::cos(std::numbers::pi * std::min(t, 10) / 10));
    EXPECT_NEAR(Schedule::cosine(1, 10, 0.1).at(t), wanted, 1e-15) << "t = " << t;
  }
  EXPECT_DOUBLE_EQ(Schedule::exponential(1, 0.25, 2).at(3), 0.125);
  EXPECT_DOUBLE_EQ(Schedule::step(1, 0.5, 3).at(5), 0.5);
  EXPECT_DOUBLE_EQ(Schedule::step(1, 0.5, 3).at(6), 0.25);
}

TEST(Schedules, RefuseWhatMakesNoSense) {
  EXPECT_THROW(Schedule{-1}, ArgumentError);
  EXPECT_THROW(Schedule{kNaN}, ArgumentError);
  EXPECT_THROW(Schedule::linear(1, 0), ArgumentError);
  EXPECT_THROW(Schedule::step(1, kInf, 3), ArgumentError);
  EXPECT_THROW(Schedule(1).with_warmup(0), ArgumentError);
  EXPECT_THROW(Schedule(1).at(-1), ArgumentError);
  EXPECT_EQ(message_of([] { Schedule::cosine(1, -5); }), "Schedule: updates is -5; at least 1 is needed");
}

TEST_P(Optimisers, SaveAndLoadTheirStateBitForBit) {
  Parameters parameters = make();
  Optimiser optimiser = adam(parameters, {.rate = Schedule::cosine(0.1, 20)});
  const auto steps = [&](Parameters& p, Optimiser& o, int from, int to) {
    for (int step = from; step < to; ++step) {
      set_gradient(p, gradient_of_step(step));
      o.step();
    }
  };
  steps(parameters, optimiser, 0, 5);
  const OptimiserState state = optimiser.state();
  Parameters other = make();
  other.load_values(parameters.copy_values());
  Optimiser resumed = adam(other, {.rate = Schedule::cosine(0.1, 20)});
  resumed.load_state(state);
  steps(parameters, optimiser, 5, 12);
  steps(other, resumed, 5, 12);
  EXPECT_EQ(values_of(parameters), values_of(other));
}

TEST_P(Optimisers, RefuseAStateThatIsNotTheirs) {
  Parameters parameters = make();
  Optimiser optimiser = sgd(parameters, {.momentum = 0.9});
  OptimiserState state = optimiser.state();
  EXPECT_EQ(message_of([&] { adam(parameters).load_state(state); }),
            "Optimiser::load_state: the state is of sgd; adam is needed");
  EXPECT_EQ(message_of([&] { sgd(parameters).load_state(state); }),
            "Optimiser::load_state: velocity.1 weights is unexpected");
  auto shorter = state;
  shorter.moments.erase("velocity.31 weights");
  EXPECT_EQ(message_of([&] { optimiser.load_state(shorter); }),
            "Optimiser::load_state: velocity.31 weights is missing");
  auto other = state;
  other.moments.at("velocity.31 weights") = Tensor<float>::zeros({30}, device());
  EXPECT_EQ(message_of([&] { optimiser.load_state(other); }),
            "Optimiser::load_state: velocity.31 weights has shape (30,); (31,) is needed");
}

TEST_P(Optimisers, RefuseOptionsOutOfRange) {
  Parameters parameters = make();
  EXPECT_EQ(message_of([&] { adam(parameters, {.beta2 = 1}); }), "adam: beta2 is 1; 0 <= beta2 < 1 is needed");
  EXPECT_THROW(sgd(parameters, {.momentum = -0.1}), ArgumentError);
  EXPECT_THROW(sgd(parameters, {.nesterov = true}), ArgumentError);
  EXPECT_THROW(adam(parameters, {.epsilon = 0}), ArgumentError);
  EXPECT_THROW(adamw(parameters, {.weight_decay = -1}), ArgumentError);
  EXPECT_THROW(sgd(parameters, {.clip_norm = kInf}), ArgumentError);
  EXPECT_THROW(sgd(parameters, {.clip_norm = 1, .clip_value = 1}), ArgumentError);
  Parameters none;
  EXPECT_THROW(sgd(none), ArgumentError);
  Optimiser optimiser = sgd(parameters);
  parameters.add("late", Tensor<float>::zeros({5000}, device()));
  EXPECT_EQ(message_of([&] { optimiser.step(); }),
            "Optimiser::step: parameters were added since the optimiser was made");
}

DGM_ON_EVERY_DEVICE(Optimisers);

}  // namespace
}  // namespace dgm::test
