// SPDX-License-Identifier: Apache-2.0
// One sequence of calls on a Philox state, compiled against cuRAND's headers and against ours: include
// one of the two curand_kernel.h first.
#pragma once

#include <cstdint>
#include <vector>

namespace dgm::test {

struct CurandResults {
  std::vector<uint32_t> words;
  std::vector<float> uniforms;
  std::vector<float> normals;
};

/// From the curand_kernel.h of tests/simt.
CurandResults calls_on_the_executors_curand(uint64_t seed, uint64_t subsequence, uint64_t offset);

namespace {

inline CurandResults curand_calls(uint64_t seed, uint64_t subsequence, uint64_t offset) {
  CurandResults out;
  curandStatePhilox4_32_10_t state;
  const auto one = [&] { out.words.push_back(curand(&state)); };
  const auto four = [&] {
    const uint4 w = curand4(&state);
    out.words.insert(out.words.end(), {w.x, w.y, w.z, w.w});
  };
  curand_init(seed, subsequence, offset, &state);
  for (int i = 0; i < 9; ++i) one();
  for (int i = 0; i < 5; ++i) {  // from every position within a block of four words
    four();
    one();
  }
  for (const uint64_t n : {uint64_t{0}, uint64_t{1}, uint64_t{6}, uint64_t{3} << 33, uint64_t{1} << 63}) {
    skipahead(n, &state);
    four();
    one();
  }
  skipahead_sequence(0xFFFFFFFFu, &state);
  four();
  for (int i = 0; i < 5; ++i) {
    out.uniforms.push_back(curand_uniform(&state));
    const float4 u = curand_uniform4(&state);
    out.uniforms.insert(out.uniforms.end(), {u.x, u.y, u.z, u.w});
    const float4 v = curand_normal4(&state);
    out.normals.insert(out.normals.end(), {v.x, v.y, v.z, v.w});
    const float2 w = curand_normal2(&state);
    out.normals.insert(out.normals.end(), {w.x, w.y});
    out.normals.push_back(curand_normal(&state));
  }
  four();
  return out;
}

}  // namespace
}  // namespace dgm::test
