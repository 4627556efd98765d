// SPDX-License-Identifier: Apache-2.0
// One sentence pair of an HmmPass: where its numbers lie, and forward-backward in logarithms, slow and safe, for the
// pairs that scaled sums cannot hold.
#pragma once

#include "kernels/hmm_alignment.hpp"
#include "kernels/math/diagonal_prior.hpp"
#include "kernels/math/host_device.hpp"

#include <cmath>

namespace dgm::kernels {

// Scaled sums hold a pair if what was lost in rounding to zero, at most 2^-126 of a step's sum, could not have grown
// beyond 2^-46 of the total. The backward variables bound that growth: none may pass kHmmTrust, and they are kept from
// vanishing at kHmmFloor, so that they bound it in spite of their own losses.
inline constexpr float kHmmTrust = 1.2089258e24f;  // 2^80
inline constexpr float kHmmFloor = 7.888609e-31f;  // 2^-100
inline constexpr double kHmmUnit = 1073741824.0;   // 2^30, a count of one

/// The least power of two that is at least max; 1 for 0 and for what is not finite.
DGM_HD inline float hmm_power_of_two(float max) {
  if (!(max > 0 && max < INFINITY)) return 1.0f;
  int exponent;
  frexpf(max, &exponent);
  return ldexpf(1.0f, exponent < 127 ? exponent : 127);
}

/// Pair p of a block: S states, T steps, cell of state s and step t at s * state_stride + t * step_stride.
struct HmmStates {
  int states, steps;
  int64_t cells, state_stride, step_stride;
  int64_t first_state, first_step;

  DGM_HD HmmStates(const HmmBlock& block, bool target_states, int64_t p) {
    const uint32_t source = block.source_begin[p];
    const uint32_t target = block.target_begin[p];
    const int source_words = static_cast<int>(block.source_begin[p + 1] - source);
    const int target_words = static_cast<int>(block.target_begin[p + 1] - target);
    cells = block.cell_begin[p];
    states = target_states ? target_words : source_words;
    steps = target_states ? source_words : target_words;
    state_stride = target_states ? 1 : target_words;
    step_stride = target_states ? target_words : 1;
    first_state = target_states ? target : source;
    first_step = target_states ? source : target;
  }
};

struct HmmPair : HmmStates {
  const int32_t* state_words;
  const int32_t* step_words;

  DGM_HD HmmPair(const HmmPass& a, int64_t p) : HmmStates(a.block, a.target_states, p) {
    state_words = a.state_words + first_state;
    step_words = a.step_words + first_step;
  }
};

/// Posteriors of one step's cells and of NULL; adds the step's log marginal and its expected distance.
DGM_HD inline void hmm_independent_step(const HmmIndependent& a, const HmmStates& pair, int t, double& log_marginal,
                                        double& distance) {
  float* const null_posterior = a.null_posterior + pair.first_step + t;
  *null_posterior = 0.0f;
  if (pair.states == 0) return;
  float* const cells = a.cells + pair.cells + t * pair.step_stride;
  float null = a.null_emission[a.step_words[pair.first_step + t] + 1];
  float factor = 1.0f;
  float tension = 0.0f;
  const float at = static_cast<float>(t + 1) / static_cast<float>(pair.steps);
  const float width = 1.0f / static_cast<float>(pair.states);
  if (a.diagonal != nullptr) {
    null *= a.diagonal[0];
    tension = a.diagonal[1];
    const DiagonalSum sum = diagonal_sum(t + 1, pair.steps, pair.states, static_cast<double>(tension));
    factor = static_cast<float>((1.0 - static_cast<double>(a.diagonal[0])) / sum.sum);
  }
  const auto away = [&](int s) { return fabsf(at - static_cast<float>(s + 1) * width); };
  const auto term = [&](int s) {
    const float value = cells[s * pair.state_stride];
    return a.diagonal != nullptr ? value * factor * expf(-tension * away(s)) : value;
  };
  float sum = null;
  for (int s = 0; s < pair.states; ++s) sum += term(s);
  const float inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
  float far = 0.0f;
  for (int s = 0; s < pair.states; ++s) {
    const float posterior = term(s) * inverse;
    far += posterior * away(s);
    cells[s * pair.state_stride] = posterior;
  }
  *null_posterior = null * inverse;
  log_marginal += static_cast<double>(logf(a.diagonal != nullptr ? sum : sum / static_cast<float>(pair.states + 1)));
  distance += static_cast<double>(far);
}

/// Class of a state; state S is the beginning, of the last class.
DGM_HD inline int64_t hmm_class(const HmmPass& a, const HmmPair& pair, int state) {
  if (state == pair.states) return a.classes;
  return a.word_class != nullptr ? a.word_class[pair.state_words[state] + 1] : 0;
}

DGM_HD inline int hmm_bucket(int from, int to, int states, int reach) {
  int jump = to - (from == states ? -1 : from);
  jump = jump < -reach - 1 ? -reach - 1 : jump;
  return (jump > reach + 1 ? reach + 1 : jump) + reach + 1;
}

/// How many words follow a state, as far as they are told apart.
DGM_HD inline int hmm_distance(int state, int states) {
  const int left = state == states ? states : states - 1 - state;
  return left < kHmmStops ? left : kHmmStops - 1;
}

DGM_HD inline double hmm_log_add(double a, double b) {
  if (a < b) {
    const double c = a;
    a = b;
    b = c;
  }
  return b == -INFINITY ? a : a + log1p(exp(b - a));
}

/// The pair in logarithms and double precision. scratch has (S + 1)(T + 1) alphas, as many betas, and S + 1 numbers.
/// add(index, value) adds a weighted count.
template <class Add>
DGM_HD void hmm_in_logs(const HmmPass& a, int64_t p, double* scratch, const Add& add) {
  const HmmPair pair(a, p);
  const int S = pair.states;
  const int T = pair.steps;
  const int64_t width = S + 1;
  const int64_t buckets = 2 * a.reach + 3;
  const HmmCountsLayout layout = {a.classes, buckets};
  double* const alpha = scratch;
  double* const beta = alpha + width * (T + 1);
  double* const norm = beta + width * (T + 1);

  const auto emission = [&](int s, int t) {
    const double e = a.emission[pair.cells + s * pair.state_stride + t * pair.step_stride];
    return a.logs ? e : log(e);
  };
  const auto null_emission = [&](int t) {
    const double e = a.null_emission[pair.step_words[t] + 1];
    return a.logs ? e : log(e);
  };
  const auto jump = [&](int from, int to) -> double {
    const int64_t at = hmm_class(a, pair, from) * buckets + hmm_bucket(from, to, S, a.reach);
    return a.log_jump != nullptr ? static_cast<double>(a.log_jump[at]) : log(static_cast<double>(a.jump[at]));
  };
  const auto stop = [&](int from) {
    return a.stop != nullptr ? static_cast<double>(a.stop[hmm_distance(from, S)]) : 0;
  };
  const auto ends = [&](int from) { return a.stop != nullptr ? log(stop(from)) : 0.0; };
  const double to_null = log(static_cast<double>(a.move[0]));
  const double to_word = log(static_cast<double>(a.move[1]));
  // Of one move: to NULL, and to a word of known log jump.
  const auto null_move = [&](int from, int t) { return log1p(-stop(from)) + to_null + null_emission(t); };
  const auto word_move = [&](int from, int to, int t) {
    return log1p(-stop(from)) + to_word + (jump(from, to) - norm[from]) + emission(to, t);
  };

  for (int from = 0; from <= S; ++from) {
    norm[from] = -INFINITY;
    for (int to = 0; to < S; ++to) norm[from] = hmm_log_add(norm[from], jump(from, to));
    if (norm[from] == -INFINITY) norm[from] = 0;  // no jump is possible, and -inf - 0 says so
    alpha[from] = from == S ? 0.0 : -INFINITY;
    beta[T * width + from] = ends(from);
  }
  for (int t = 0; t < T; ++t) {
    const double* const before = alpha + t * width;
    double* const after = alpha + (t + 1) * width;
    for (int to = 0; to <= S; ++to) {
      double sum = before[to] == -INFINITY ? -INFINITY : before[to] + null_move(to, t);
      for (int from = 0; from <= S && to < S; ++from) {
        if (before[from] != -INFINITY) sum = hmm_log_add(sum, before[from] + word_move(from, to, t));
      }
      after[to] = sum;
    }
  }
  double total = -INFINITY;
  for (int s = 0; s <= S; ++s) total = hmm_log_add(total, alpha[T * width + s] + beta[T * width + s]);
  if (a.log_marginal != nullptr) a.log_marginal[p] = static_cast<float>(total);
  const bool possible = total > -INFINITY;  // false for NaN too
  for (int t = T - 1; t >= 0; --t) {
    const double* const after = beta + (t + 1) * width;
    for (int from = 0; from <= S; ++from) {
      double sum = after[from] == -INFINITY ? -INFINITY : after[from] + null_move(from, t);
      for (int to = 0; to < S; ++to) {
        if (after[to] != -INFINITY) sum = hmm_log_add(sum, word_move(from, to, t) + after[to]);
      }
      beta[t * width + from] = sum;
    }
  }

  const double weight = a.weight != nullptr ? a.weight[p] : 1.0;
  const auto probability = [&](double log_weight) {
    return possible && log_weight > -INFINITY ? exp(log_weight - total) : 0.0;
  };
  for (int t = 0; t < T; ++t) {
    double null = 0;
    for (int s = 0; s <= S; ++s) {
      const double before = alpha[t * width + s];
      const double after = beta[(t + 1) * width + s];
      const double q = before > -INFINITY && after > -INFINITY ? probability(before + null_move(s, t) + after) : 0.0;
      null += q;
      if (a.counts != nullptr && a.stop != nullptr) add(layout.goes() + hmm_distance(s, S), q * weight);
    }
    if (a.null_posterior != nullptr) a.null_posterior[pair.first_step + t] = static_cast<float>(null * weight);
    if (a.counts != nullptr) add(layout.moves(), null * weight);
  }
  for (int to = 0; to < S; ++to) {
    for (int t = 0; t < T; ++t) {
      double sum = 0;
      for (int from = 0; from <= S; ++from) {
        const double before = alpha[t * width + from];
        const double after = beta[(t + 1) * width + to];
        if (before == -INFINITY || after == -INFINITY) continue;
        const double q = probability(before + word_move(from, to, t) + after);
        sum += q;
        if (a.counts != nullptr && q > 0) {
          const int64_t row = hmm_class(a, pair, from) * buckets;
          add(layout.jumps() + row + hmm_bucket(from, to, S, a.reach), q * weight);
          add(layout.moves() + 1, q * weight);
          if (a.stop != nullptr) add(layout.goes() + hmm_distance(from, S), q * weight);
          for (int i = 0; i < S; ++i) {
            const double share = exp(jump(from, i) - norm[from]);
            if (share > 0) add(layout.expected() + row + hmm_bucket(from, i, S, a.reach), q * weight * share);
          }
        }
      }
      if (a.posterior != nullptr) {
        // Of emissions that are overwritten, those of this cell are not needed any more: q are the sums over all.
        a.posterior[pair.cells + to * pair.state_stride + t * pair.step_stride] = static_cast<float>(sum * weight);
      }
    }
  }
  if (a.counts != nullptr && a.stop != nullptr) {
    for (int s = 0; s <= S; ++s) {
      const double q = probability(alpha[T * width + s] + beta[T * width + s]);
      add(layout.stops() + hmm_distance(s, S), q * weight);
    }
  }
}

}  // namespace dgm::kernels
