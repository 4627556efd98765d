// SPDX-License-Identifier: Apache-2.0
// y = f(x) with its gradient, and y = f(a, b) with broadcasting.
//
// Mapping    as in kernels/device/map.cuh. An element's operands are found by dividing its index by the
//            extents, in 32 bits where they suffice; where nothing repeats there is nothing to divide.
// Traffic    f(a, b) reads 4 bytes an element for each operand that does not repeat and writes 4. HBM-bound.
// Order      elementwise: no order to fix.
#include "kernels/elementwise.hpp"

#include "kernels/device/map.cuh"
#include "kernels/math/elementwise-inl.hpp"

namespace dgm::kernels {

namespace {

// One axis: an operand runs along it or is one element.
template <class F>
__global__ void __launch_bounds__(cuda::kMapThreads, 6) flat_kernel(MapBinary args) {
  const int64_t a_stride = args.a_strides[0];
  const int64_t b_stride = args.b_strides[0];
  cuda::for_each(args.size, args.y, [&](int64_t i) {
    return F::template value<scalar::Lanes>(args.a[i * a_stride], args.b[i * b_stride]);
  });
}

template <class F, class Index>
__global__ void __launch_bounds__(cuda::kMapThreads, 6) broadcast_kernel(MapBinary args) {
  cuda::for_each(args.size, args.y, [&](int64_t i) {
    auto rest = static_cast<Index>(i);
    int64_t a = 0;
    int64_t b = 0;
    for (int axis = args.axes - 1; axis > 0; --axis) {
      const auto extent = static_cast<Index>(args.extents[axis]);
      const auto at = static_cast<int64_t>(rest % extent);
      rest /= extent;
      a += at * args.a_strides[axis];
      b += at * args.b_strides[axis];
    }
    a += static_cast<int64_t>(rest) * args.a_strides[0];
    b += static_cast<int64_t>(rest) * args.b_strides[0];
    return F::template value<scalar::Lanes>(args.a[a], args.b[b]);
  });
}

}  // namespace

void run_cuda(const Map<Unary>& args, void* stream) {
  if (args.size == 0) return;
  scalar::visit(args.function, [&](auto function) {
    cuda::launch(cuda::map_kernel<decltype(function), Unary>, cuda::map_blocks(args.size), cuda::kMapThreads, 0, stream,
                 args);
  });
}

void run_cuda(const MapGradient<Unary>& args, void* stream) {
  if (args.size == 0) return;
  scalar::visit(args.function, [&](auto function) {
    cuda::launch(cuda::map_gradient_kernel<decltype(function), Unary>, cuda::map_blocks(args.size), cuda::kMapThreads,
                 0, stream, args);
  });
}

void run_cuda(const MapBinary& args, void* stream) {
  if (args.size == 0) return;
  const unsigned blocks = cuda::map_blocks(args.size);
  scalar::visit(args.function, [&](auto function) {
    using F = decltype(function);
    if (args.axes == 1) {
      cuda::launch(flat_kernel<F>, blocks, cuda::kMapThreads, 0, stream, args);
    } else if (args.size <= INT32_MAX) {
      cuda::launch(broadcast_kernel<F, uint32_t>, blocks, cuda::kMapThreads, 0, stream, args);
    } else {
      cuda::launch(broadcast_kernel<F, uint64_t>, blocks, cuda::kMapThreads, 0, stream, args);
    }
  });
}

}  // namespace dgm::kernels
