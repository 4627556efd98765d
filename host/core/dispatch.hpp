// SPDX-License-Identifier: Apache-2.0
// From an op's argument block to the backend of its stream.
#pragma once

#include <dgm/core/stream.hpp>
#include <dgm/core/tensor.hpp>

#include "host/core/check.hpp"
#include "host/core/config.hpp"

namespace dgm {

/// Runs one launch on the stream's device. Args is an argument struct of a kernels/<op>.hpp, which
/// declares run_cpu(const Args&) and run_cuda(const Args&, void* stream); where it declares
/// cuda_scratch_bytes(const Args&) too, args.scratch is memory of that size from the stream's pool.
template <class Args>
void run(const Stream& stream, const Args& args) {
  if constexpr (kCudaBuilt) {
    if (stream.device().is_cuda()) {
      // Found by argument-dependent lookup, so that this header knows no op.
      if constexpr (requires { cuda_scratch_bytes(args); }) {
        // Back in the pool before the kernels have run: what takes it next is ordered behind them.
        const detail::Buffer scratch(stream, cuda_scratch_bytes(args));
        Args with_scratch = args;
        with_scratch.scratch = scratch.data();
        run_cuda(with_scratch, stream.native());
      } else {
        run_cuda(args, stream.native());
      }
      return;
    }
  }
  run_cpu(args);
}

/// Throws DeviceError unless both tensors are on one stream.
template <class A, class B>
void check_same_stream(const char* function, const char* a_name, const Tensor<A>& a, const char* b_name,
                       const Tensor<B>& b) {
  check<DeviceError>(a.stream() == b.stream(), function, ": ", b_name, " is on ", b.device().name(),
                     a.device() == b.device() ? " but on another stream than " : " but ", a_name,
                     a.device() == b.device() ? "" : " is on " + a.device().name(),
                     "; all arguments must be on one stream");
}

/// Throws ShapeError unless the tensor has the shape that is needed; needs is how the shape reads
/// in the function's letters, for instance "(K, D)".
template <class T>
void check_shape(const char* function, const char* name, const Tensor<T>& tensor, const Shape& wanted,
                 const char* needs) {
  check<ShapeError>(tensor.shape() == wanted, function, ": ", name, " has shape ", tensor.shape().str(), "; ", needs,
                    " = ", wanted.str(), " is needed");
}

}  // namespace dgm
