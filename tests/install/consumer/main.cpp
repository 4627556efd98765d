// SPDX-License-Identifier: Apache-2.0
// Until the mixture op: a log marginal by hand.
#include <dgm/ops/log_sum_exp.hpp>

#include <cstdio>

int main() {
  const dgm::Tensor<float> joint =
      dgm::Tensor<float>::from({-1.f, -2.f, -3.f, -1.f, -1.f, -2.f}, {3, 2}, dgm::Device::cpu());
  const dgm::Tensor<float> marginal = dgm::log_sum_exp(joint).value();
  float total = 0;
  for (const float value : marginal.to_host()) total += value;
  std::printf("log p(x) of 3 points: %.3f\n", total);
}
