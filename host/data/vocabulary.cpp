// SPDX-License-Identifier: Apache-2.0
#include <dgm/data/vocabulary.hpp>

#include <cstring>
#include <limits>

#include "host/core/check.hpp"

namespace dgm {
namespace {

std::uint64_t load(const char* from, std::size_t bytes) {
  std::uint64_t value = 0;
  std::memcpy(&value, from, bytes);
  return value;
}

// Eight bytes a step, each mixed by a multiplication whose upper half is folded back.
std::uint32_t hash_of(std::string_view word) {
  const auto mix = [](std::uint64_t value) {
    value *= 0x9e3779b97f4a7c15ull;
    return value ^ value >> 32;
  };
  const char* at = word.data();
  std::size_t left = word.size();
  std::uint64_t hash = 0xd6e8feb86659fd93ull + left;
  for (; left > 8; left -= 8, at += 8) hash = mix(hash ^ load(at, 8));
  // The last one to eight bytes, read with two loads that may overlap.
  std::uint64_t last = 0;
  if (left >= 4) {
    last = load(at, 4) | load(at + left - 4, 4) << 32;
  } else if (left > 0) {
    last = load(at, 1) | load(at + left / 2, 1) << 8 | load(at + left - 1, 1) << 16;
  }
  return static_cast<std::uint32_t>(mix(mix(hash ^ last)));
}

}  // namespace

std::size_t Vocabulary::slot_of(std::uint32_t hash, std::string_view sought) const {
  const std::size_t mask = slots_.size() - 1;
  std::size_t at = hash & mask;
  while (slots_[at].id != kUnknown && (slots_[at].hash != hash || word(slots_[at].id) != sought)) at = (at + 1) & mask;
  return at;
}

void Vocabulary::grow() {
  std::vector<Slot> old(slots_.empty() ? 1024 : slots_.size() * 2);
  old.swap(slots_);
  const std::size_t mask = slots_.size() - 1;
  for (const Slot& slot : old) {
    if (slot.id == kUnknown) continue;
    std::size_t at = slot.hash & mask;
    while (slots_[at].id != kUnknown) at = (at + 1) & mask;
    slots_[at] = slot;
  }
}

std::int32_t Vocabulary::add(std::string_view word) {
  const auto count = static_cast<std::size_t>(size());
  if ((count + 1) * 3 > slots_.size() * 2) grow();
  const std::uint32_t hash = hash_of(word);
  Slot& slot = slots_[slot_of(hash, word)];
  if (slot.id == kUnknown) {
    check<Error>(count < std::numeric_limits<std::int32_t>::max(), "Vocabulary: more than 2^31 - 1 words");
    arena_.append(word);
    begins_.push_back(arena_.size());
    slot = {hash, static_cast<std::int32_t>(count)};
  }
  return slot.id;
}

std::int32_t Vocabulary::find(std::string_view word) const {
  return slots_.empty() ? kUnknown : slots_[slot_of(hash_of(word), word)].id;
}

}  // namespace dgm
