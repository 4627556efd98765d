// SPDX-License-Identifier: Apache-2.0
// y = f(x) and its gradient for every activation; mapping, traffic and order as in kernels/device/map.cuh.
#include "kernels/activations.hpp"

#include "kernels/device/map.cuh"
#include "kernels/math/activations-inl.hpp"

namespace dgm::kernels {

void run_cuda(const Map<Activation>& args, void* stream) {
  if (args.size == 0) return;
  scalar::visit(args.function, [&](auto function) {
    cuda::launch(cuda::map_kernel<decltype(function), Activation>, cuda::map_blocks(args.size), cuda::kMapThreads, 0,
                 stream, args);
  });
}

void run_cuda(const MapGradient<Activation>& args, void* stream) {
  if (args.size == 0) return;
  scalar::visit(args.function, [&](auto function) {
    cuda::launch(cuda::map_gradient_kernel<decltype(function), Activation>, cuda::map_blocks(args.size),
                 cuda::kMapThreads, 0, stream, args);
  });
}

}  // namespace dgm::kernels
