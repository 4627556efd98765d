// SPDX-License-Identifier: Apache-2.0
#include <dgm/models/alignment_model.hpp>

#include "host/core/check.hpp"
#include "host/models/alignment_models.hpp"

#include <limits>

namespace dgm {
namespace {

constexpr const char* kFormat = "dgm alignment model";
constexpr const char* kVersion = "1";
const std::string kNote = "note.";

const AlignmentModelKind* find_kind(std::string_view name) {
  for (const AlignmentModelKind& kind : alignment_model_kinds()) {
    if (kind.name == name) return &kind;
  }
  return nullptr;
}

void put_vocabulary(SafeTensors& file, const std::string& side, const Vocabulary& words) {
  std::vector<std::uint8_t> bytes;
  std::vector<std::int64_t> ends;
  for (std::int32_t id = 0; id < words.size(); ++id) {
    const std::string_view word = words.word(id);
    bytes.insert(bytes.end(), word.begin(), word.end());
    ends.push_back(static_cast<std::int64_t>(bytes.size()));
  }
  const auto length = static_cast<std::int64_t>(bytes.size());
  file.tensors[side + ".words"] = StoredTensor::of(bytes, {length});
  file.tensors[side + ".word_ends"] = StoredTensor::of(ends, {words.size()});
}

std::shared_ptr<const Vocabulary> get_vocabulary(SafeTensors& file, const std::string& side) {
  const std::vector<std::uint8_t> bytes = file.at(side + ".words").as<std::uint8_t>();
  const std::vector<std::int64_t> ends = file.at(side + ".word_ends").as<std::int64_t>();
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  auto words = std::make_shared<Vocabulary>();
  std::int64_t begin = 0;
  for (const std::int64_t end : ends) {
    const std::int32_t fresh = words->size();
    check<FileError>(begin <= end && end <= static_cast<std::int64_t>(text.size()), side, ".word_ends[", fresh, "] is ",
                     end, "; ", begin, " to ", text.size(), " is needed");
    const std::int32_t id =
        words->add(text.substr(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)));
    check<FileError>(id == fresh, side, ".words holds the same word as ", id, " and as ", fresh);
    begin = end;
  }
  file.tensors.erase(side + ".words");
  file.tensors.erase(side + ".word_ends");
  return words;
}

}  // namespace

std::int64_t AlignmentModel::batch_end(std::int64_t) const { return std::numeric_limits<std::int64_t>::max(); }

std::vector<std::string> alignment_models() {
  std::vector<std::string> names;
  for (const AlignmentModelKind& kind : alignment_model_kinds()) names.emplace_back(kind.name);
  return names;
}

std::unique_ptr<AlignmentModel> make_alignment_model(const AlignmentOptions& options) {
  if (const AlignmentModelKind* const kind = find_kind(options.model)) return kind->make(options);
  std::string known;
  for (const std::string& name : alignment_models()) known += (known.empty() ? "" : ", ") + name;
  throw ArgumentError(text("make_alignment_model: there is no model '", options.model, "'; there are ", known));
}

void save_alignment_model(const std::string& path, const AlignmentModel& model, const Vocabulary& source,
                          const Vocabulary& target, const std::map<std::string, std::string>& notes) {
  SafeTensors file = model.to_tensors();
  file.metadata["format"] = kFormat;
  file.metadata["version"] = kVersion;
  file.metadata["model"] = model.name();
  for (const auto& [name, value] : notes) file.metadata[kNote + name] = value;
  put_vocabulary(file, "source", source);
  put_vocabulary(file, "target", target);
  write_safetensors(path, file.tensors, file.metadata);
}

LoadedAlignmentModel load_alignment_model(const std::string& path, Device device) {
  SafeTensors file = read_safetensors(path);
  const auto metadata = [&](const std::string& name) {
    const auto at = file.metadata.find(name);
    return at == file.metadata.end() ? std::string() : at->second;
  };
  check<FileError>(metadata("format") == kFormat, path, ": is not an alignment model");
  check<FileError>(metadata("version") == kVersion, path, ": is an alignment model of format version ",
                   metadata("version"), "; this library reads version ", kVersion);
  const AlignmentModelKind* const kind = find_kind(metadata("model"));
  check<FileError>(kind != nullptr, path, ": holds a model '", metadata("model"), "' that this library does not know");
  LoadedAlignmentModel loaded;
  for (const auto& [name, value] : file.metadata) {
    if (name.starts_with(kNote)) loaded.notes[name.substr(kNote.size())] = value;
  }
  try {
    loaded.source = get_vocabulary(file, "source");
    loaded.target = get_vocabulary(file, "target");
    loaded.model = kind->load(file, {loaded.source->size(), loaded.target->size()}, device);
  } catch (const FileError& error) {
    throw FileError(path + ": " + error.what());
  } catch (const ArgumentError& error) {
    throw FileError(path + ": " + error.what());
  }
  return loaded;
}

std::span<const AlignmentModelKind> alignment_model_kinds() {
  static const std::vector<AlignmentModelKind> kinds = {
      {"ibm1", make_ibm1, load_ibm1},
      {"diagonal", make_diagonal, load_diagonal},
      {"hmm", make_hmm_alignment_model, load_hmm_alignment_model},
      {"neural", make_neural, load_neural},
  };
  return kinds;
}

}  // namespace dgm
