// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/hamiltonian.hpp>

#include "host/core/dispatch.hpp"
#include "host/core/draw_args.hpp"
#include "kernels/hamiltonian.hpp"

#include <cmath>

namespace dgm {

namespace {

using kernels::ChainDraws;

static_assert(sizeof(StepSize) == 4 * sizeof(float));

void check_chains(const char* function, const char* name, const Chains& chains) {
  const Shape& shape = chains.z.shape();
  check<ShapeError>(shape.rank() == 3, function, ": ", name, ".z has shape ", shape.str(), "; (B, C, D) is needed");
  check_shape(function, "log_density", chains.log_density, {shape[0], shape[1]}, "(B, C)");
  check_shape(function, "gradient", chains.gradient, shape, "(B, C, D)");
  check_same_stream(function, "z", chains.z, "log_density", chains.log_density);
  check_same_stream(function, "z", chains.z, "gradient", chains.gradient);
}

ChainDraws chain_draws(const char* function, const Chains& chains, const StepSizes& steps, const Draws& draws,
                       int64_t move, const MoveOptions& options) {
  check_chains(function, "chains", chains);
  const Shape& shape = chains.z.shape();
  check_shape(function, "steps.state", steps.state, {shape[0], 4}, "(B, 4)");
  check_same_stream(function, "chains.z", chains.z, "steps.state", steps.state);
  check<ArgumentError>(steps.first > 0 && std::isfinite(steps.first), function, ": steps.first is ", steps.first,
                       "; a positive, finite step is needed");
  check_same_stream(function, "chains.z", chains.z, "draws.step()", draws.step());
  check<ArgumentError>(options.target > 0 && options.target < 1, function, ": target is ", options.target,
                       "; 0 < target < 1 is needed");
  check<ArgumentError>(options.jitter >= 0 && options.jitter < 1, function, ": jitter is ", options.jitter,
                       "; 0 <= jitter < 1 is needed");
  if (options.data != nullptr) {
    check_shape(function, "data", *options.data, {shape[0]}, "(B)");
    check_same_stream(function, "chains.z", chains.z, "data", *options.data);
  }
  ChainDraws result = {shape[0],         shape[1], shape[2], options.data != nullptr ? options.data->data() : nullptr,
                       draw_args(draws), 0};
  constexpr int64_t kFirst = int64_t{1} << 31;
  const int64_t blocks = shape[1] * result.blocks_per_chain();
  check<ArgumentError>(move >= 0 && (blocks == 0 || move < kFirst / blocks), function, ": move ", move, " of ",
                       shape[1], " chains with ", shape[2], " coordinates needs blocks of draws past 2^32");
  result.first_block = static_cast<uint32_t>(kFirst + move * blocks);
  return result;
}

StepSize* step_sizes(const Tensor<float>& state) {
  return reinterpret_cast<StepSize*>(const_cast<float*>(state.data()));
}

}  // namespace

Trajectory begin_trajectory(const Chains& chains, const StepSizes& steps, const Draws& draws, int64_t move,
                            const MoveOptions& options) {
  const ChainDraws of = chain_draws("begin_trajectory", chains, steps, draws, move, options);
  const Stream& stream = chains.z.stream();
  const Shape& shape = chains.z.shape();
  Trajectory path = {Tensor<float>::empty(shape, stream), Tensor<float>::empty(shape, stream),
                     Tensor<float>::empty({shape[0], shape[1]}, stream),
                     Tensor<float>::empty({shape[0], shape[1]}, stream)};
  run(stream, kernels::TrajectoryStart{of, chains.z.data(), chains.gradient.data(), step_sizes(steps.state),
                                       steps.first, !options.adapt, static_cast<float>(options.jitter),
                                       path.moved.data(), path.momentum.data(), path.kinetic.data(), path.step.data()});
  return path;
}

void leapfrog(Trajectory& path, const Tensor<float>& gradient) {
  const Shape& shape = path.moved.shape();
  check_shape("leapfrog", "gradient", gradient, shape, "(B, C, D)");
  check_same_stream("leapfrog", "path.moved", path.moved, "gradient", gradient);
  run(gradient.stream(), kernels::Leapfrog{shape[0] * shape[1], shape[2], gradient.data(), path.step.data(),
                                           path.moved.data(), path.momentum.data()});
}

Tensor<float> end_trajectory(Chains& chains, const Trajectory& path, const Chains& end, StepSizes& steps,
                             const Draws& draws, int64_t move, const MoveOptions& options) {
  const ChainDraws of = chain_draws("end_trajectory", chains, steps, draws, move, options);
  check_chains("end_trajectory", "end", end);
  const Stream& stream = chains.z.stream();
  const Shape& shape = chains.z.shape();
  check_shape("end_trajectory", "end.z", end.z, shape, "(B, C, D)");
  check_shape("end_trajectory", "path.momentum", path.momentum, shape, "(B, C, D)");
  check_same_stream("end_trajectory", "chains.z", chains.z, "end.z", end.z);
  auto acceptance = Tensor<float>::empty({shape[0], shape[1]}, stream);
  run(stream,
      kernels::TrajectoryEnd{of, end.z.data(), end.log_density.data(), end.gradient.data(), path.momentum.data(),
                             path.kinetic.data(), path.step.data(), chains.z.data(), chains.log_density.data(),
                             chains.gradient.data(), acceptance.data(),
                             options.adapt ? step_sizes(steps.state) : nullptr, static_cast<float>(options.target)});
  return acceptance;
}

}  // namespace dgm
