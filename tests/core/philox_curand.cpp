// SPDX-License-Identifier: Apache-2.0
// cuRAND's own device functions, compiled for the host, against the library's Philox and against the
// executor's stand-in. Built where the CUDA toolkit is.
#include <curand_kernel.h>  // the toolkit's

#include "kernels/device/random.cuh"
#include "kernels/math/philox.hpp"
#include "tests/simt/curand_calls.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

namespace dgm::test {
namespace {

constexpr uint64_t kSeeds[] = {0, 1, 1234, 0xFFFFFFFFu, 0x0123456789ABCDEFu, ~uint64_t{0}};

TEST(PhiloxAgainstCurand, DrawsTheSameWordsForEverySeedSiteDatumStepAndBlock) {
  for (const uint64_t seed : kSeeds) {
    for (const uint64_t site : {uint64_t{0}, uint64_t{3}, uint64_t{65535}}) {
      for (const uint64_t datum : {uint64_t{0}, uint64_t{1}, uint64_t{0xFFFFFFFFu}, (uint64_t{1} << 48) - 1}) {
        for (const uint64_t step : {uint64_t{0}, uint64_t{1}, uint64_t{77777}, (uint64_t{1} << 30) - 1}) {
          for (const uint32_t block : {0u, 1u, 5u, 0xFFFFFFFFu}) {
            const DrawIndex index{site, datum, step, block};
            const PhiloxWords wanted = cuda::draw_words(seed, index);
            const PhiloxWords got = draw_words(seed, index);
            for (int i = 0; i < 4; ++i) {
              ASSERT_EQ(got.w[i], wanted.w[i]) << "seed " << seed << " site " << site << " datum " << datum << " step "
                                               << step << " block " << block << " word " << i;
            }
          }
        }
      }
    }
  }
}

TEST(PhiloxAgainstCurand, MapsWordsToTheSameUniformsAndNormals) {
  for (uint64_t offset = 0; offset < 4000; offset += 4) {
    curandStatePhilox4_32_10_t state;
    curand_init(42, 7, offset, &state);
    const PhiloxWords block = draw_words(42, {0, 7, 0, static_cast<uint32_t>(offset / 4)});
    curandStatePhilox4_32_10_t copy = state;
    const float4 uniforms = curand_uniform4(&copy);
    copy = state;
    const float4 normals = curand_normal4(&copy);
    EXPECT_EQ(uniform_from_word(block.w[0]), uniforms.x);
    EXPECT_EQ(uniform_from_word(block.w[3]), uniforms.w);
    const NormalPair first = normals_from_words(block.w[0], block.w[1]);
    const NormalPair second = normals_from_words(block.w[2], block.w[3]);
    EXPECT_NEAR(first.first, normals.x, 2e-6);
    EXPECT_NEAR(first.second, normals.y, 2e-6);
    EXPECT_NEAR(second.first, normals.z, 2e-6);
    EXPECT_NEAR(second.second, normals.w, 2e-6);
  }
}

TEST(ExecutorsCurand, GivesTheToolkitsResultsForOneSequenceOfCalls) {
  for (const uint64_t seed : kSeeds) {
    for (const uint64_t subsequence : {uint64_t{0}, uint64_t{5}, uint64_t{0xFFFFFFFFu}, ~uint64_t{0}}) {
      for (const uint64_t offset : {uint64_t{0}, uint64_t{1}, uint64_t{7}, uint64_t{0xFFFFFFFFu} << 2, ~uint64_t{0}}) {
        SCOPED_TRACE("seed " + std::to_string(seed) + " subsequence " + std::to_string(subsequence) + " offset " +
                     std::to_string(offset));
        const CurandResults wanted = curand_calls(seed, subsequence, offset);
        const CurandResults got = calls_on_the_executors_curand(seed, subsequence, offset);
        EXPECT_EQ(got.words, wanted.words);
        EXPECT_EQ(got.uniforms, wanted.uniforms);
        ASSERT_EQ(got.normals.size(), wanted.normals.size());
        for (std::size_t i = 0; i < wanted.normals.size(); ++i) EXPECT_NEAR(got.normals[i], wanted.normals[i], 2e-6);
      }
    }
  }
}

}  // namespace
}  // namespace dgm::test
