// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace dgm {

/// Words and their numbers 0, 1, 2, ... in the order in which they were added.
///
/// Memory    the bytes of the words, 8 bytes a word, and 16 a slot of a hash table that is at most 2/3 full.
class Vocabulary {
 public:
  /// What find() says of a word that is not there, and readers with a fixed vocabulary of one they do not know.
  static constexpr std::int32_t kUnknown = -1;

  Vocabulary() = default;

  /// The number of the word, new or old. The empty word is a word like others.
  /// Throws    Error for more than 2^31 - 1 words.
  std::int32_t add(std::string_view word);
  /// The number of the word, or kUnknown.
  std::int32_t find(std::string_view word) const;
  /// The word of a number in [0, size()); valid until the next add().
  std::string_view word(std::int32_t id) const {
    const auto i = static_cast<std::size_t>(id);
    return {arena_.data() + begins_[i], static_cast<std::size_t>(begins_[i + 1] - begins_[i])};
  }
  std::int32_t size() const { return static_cast<std::int32_t>(begins_.size() - 1); }

  /// The same words under the same numbers.
  friend bool operator==(const Vocabulary& a, const Vocabulary& b) {
    return a.begins_ == b.begins_ && a.arena_ == b.arena_;
  }

 private:
  struct Key {
    std::uint64_t head = 0;  // the first bytes
    std::uint32_t hash = 0;
  };
  struct Slot {
    std::uint64_t head = 0;
    std::uint32_t hash = 0;
    std::int32_t id = kUnknown;
  };
  static Key key_of(std::string_view word);
  std::size_t slot_of(const Key& key, std::string_view word) const;
  void grow();

  std::string arena_;                        // the words one after the other
  std::vector<std::uint64_t> begins_ = {0};  // of each word in the arena, and the end
  std::vector<Slot> slots_;                  // open addressing, a power of two of them
};

}  // namespace dgm
