// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/map.hpp"

/// To add an activation: its name here, its formula in kernels/math/activations-inl.hpp, its function in
/// include/dgm/ops/activations.hpp and host/ops/activations.cpp.
#define DGM_ACTIVATIONS(DO) \
  DO(Relu) DO(LeakyRelu) DO(Gelu) DO(GeluTanh) DO(Silu) DO(Sigmoid) DO(LogSigmoid) DO(Tanh) DO(Softplus)

namespace dgm::kernels {

enum class Activation : int32_t { DGM_ACTIVATIONS(DGM_ENUMERATOR) };

void run_cpu(const Map<Activation>& args);
void run_cuda(const Map<Activation>& args, void* stream);
void run_cpu(const MapGradient<Activation>& args);
void run_cuda(const MapGradient<Activation>& args, void* stream);

}  // namespace dgm::kernels
