// SPDX-License-Identifier: Apache-2.0
// The alignment models there are, one line each.
#pragma once

#include <dgm/models/alignment_model.hpp>

#include <span>
#include <string_view>

namespace dgm {

struct AlignmentModelKind {
  std::string_view name;
  std::unique_ptr<AlignmentModel> (*make)(const AlignmentOptions& options);
  /// From to_tensors(). sizes are those of the source and the target vocabulary. Throws Error for tensors that do not
  /// fit.
  std::unique_ptr<AlignmentModel> (*load)(const SafeTensors& tensors, std::array<std::int32_t, 2> sizes, Device device);
};

// Each model's file declares its two functions here and has a line in alignment_model_kinds().
std::unique_ptr<AlignmentModel> make_hmm_alignment_model(const AlignmentOptions& options);
std::unique_ptr<AlignmentModel> load_hmm_alignment_model(const SafeTensors& tensors, std::array<std::int32_t, 2> sizes,
                                                         Device device);

std::unique_ptr<AlignmentModel> make_ibm1(const AlignmentOptions& options);
std::unique_ptr<AlignmentModel> load_ibm1(const SafeTensors& tensors, std::array<std::int32_t, 2> sizes, Device device);
std::unique_ptr<AlignmentModel> make_diagonal(const AlignmentOptions& options);
std::unique_ptr<AlignmentModel> load_diagonal(const SafeTensors& tensors, std::array<std::int32_t, 2> sizes,
                                              Device device);
std::unique_ptr<AlignmentModel> make_neural(const AlignmentOptions& options);
std::unique_ptr<AlignmentModel> load_neural(const SafeTensors& tensors, std::array<int32_t, 2> sizes, Device device);

std::span<const AlignmentModelKind> alignment_model_kinds();

}  // namespace dgm
