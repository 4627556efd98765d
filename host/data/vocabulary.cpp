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

std::uint64_t mix(std::uint64_t value) {
  value *= 0x9e3779b97f4a7c15ull;
  return value ^ value >> 32;
}

// Up to eight bytes in a number, by two loads that may overlap: different for different bytes of one length.
std::uint64_t pack(const char* at, std::size_t bytes) {
  if (bytes >= 4) return load(at, 4) | load(at + bytes - 4, 4) << 32;
  if (bytes == 0) return 0;
  return load(at, 1) | load(at + bytes / 2, 1) << 8 | load(at + bytes - 1, 1) << 16;
}

constexpr std::size_t kWhole = 8;  // bytes of a word that a slot holds

}  // namespace

Vocabulary::Key Vocabulary::key_of(std::string_view word) {
  const std::size_t length = word.size();
  if (length <= kWhole) {
    const std::uint64_t head = pack(word.data(), length);
    // The length in the upper bits: a short word is its key, and needs no look at its letters.
    const auto hash = static_cast<std::uint32_t>(mix(mix(head + length)));
    return {head, (hash & 0x0fffffffu) | static_cast<std::uint32_t>(length) << 28};
  }
  const char* at = word.data();
  std::size_t left = length;
  std::uint64_t hash = length;
  for (; left > kWhole; left -= kWhole, at += kWhole) hash = mix(hash ^ load(at, kWhole));
  hash = mix(mix(hash ^ pack(at, left)));
  return {load(word.data(), kWhole), (static_cast<std::uint32_t>(hash) & 0x0fffffffu) | 0xf0000000u};
}

std::size_t Vocabulary::slot_of(const Key& key, std::string_view sought) const {
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t at = key.hash & mask;; at = (at + 1) & mask) {
    const Slot& slot = slots_[at];
    if (slot.id == kUnknown) return at;
    if (slot.hash != key.hash || slot.head != key.head) continue;
    if (sought.size() <= kWhole || word(slot.id) == sought) return at;
  }
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
  const Key key = key_of(word);
  Slot& slot = slots_[slot_of(key, word)];
  if (slot.id == kUnknown) {
    check<Error>(count < std::numeric_limits<std::int32_t>::max(), "Vocabulary: more than 2^31 - 1 words");
    arena_.append(word);
    begins_.push_back(arena_.size());
    slot = {key.head, key.hash, static_cast<std::int32_t>(count)};
  }
  return slot.id;
}

std::int32_t Vocabulary::find(std::string_view word) const {
  return slots_.empty() ? kUnknown : slots_[slot_of(key_of(word), word)].id;
}

}  // namespace dgm
