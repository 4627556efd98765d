// SPDX-License-Identifier: Apache-2.0
#include <dgm/data/safetensors.hpp>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <type_traits>

#include "host/core/check.hpp"
#include "host/data/array.hpp"
#include "host/data/file.hpp"

namespace dgm {
namespace {

using nlohmann::json;

constexpr std::uint64_t kLongestHeader = 100'000'000;  // the format's own limit
constexpr const char* kMetadata = "__metadata__";

struct DtypeEntry {
  Dtype dtype;
  const char* name;
  std::size_t bytes;
};
constexpr DtypeEntry kDtypes[] = {{Dtype::f32, "F32", 4},
                                  {Dtype::f64, "F64", 8},
                                  {Dtype::i32, "I32", 4},
                                  {Dtype::i64, "I64", 8},
                                  {Dtype::u8, "U8", 1}};

const DtypeEntry& entry(Dtype dtype) {
  return *std::find_if(std::begin(kDtypes), std::end(kDtypes), [&](const DtypeEntry& e) { return e.dtype == dtype; });
}

template <class T>
constexpr Dtype dtype_of() {
  if constexpr (std::is_same_v<T, float>) return Dtype::f32;
  if constexpr (std::is_same_v<T, double>) return Dtype::f64;
  if constexpr (std::is_same_v<T, std::int32_t>) return Dtype::i32;
  if constexpr (std::is_same_v<T, std::int64_t>) return Dtype::i64;
  if constexpr (std::is_same_v<T, std::uint8_t>) return Dtype::u8;
}

bool holds(const std::vector<std::int64_t>& shape, Dtype dtype, std::size_t bytes) {
  std::int64_t count = 0;
  return element_count(shape, count) && count <= INT64_MAX / 8 &&
         static_cast<std::size_t>(count) * dtype_bytes(dtype) == bytes;
}

/// The header as JSON. A name that stands there twice is an error, where JSON would keep one of them.
json parse_header(std::string_view header, const std::string& path) {
  std::vector<std::set<std::string>> open;  // the keys of every object that is being read
  const auto watch = [&](int, json::parse_event_t event, json& value) {
    if (event == json::parse_event_t::object_start) open.emplace_back();
    if (event == json::parse_event_t::object_end) open.pop_back();
    if (event == json::parse_event_t::key) {
      const auto& key = value.get_ref<const std::string&>();
      check<FileError>(open.back().insert(key).second, path, ": its header names \"", key, "\" twice");
    }
    return true;
  };
  try {
    return json::parse(header.begin(), header.end(), watch);
  } catch (const json::exception& error) {
    throw FileError(text(path, ": its safetensors header is not JSON: ", error.what()));
  }
}

struct Extent {
  std::uint64_t begin, end;
  const std::string* name;
};

}  // namespace

std::size_t dtype_bytes(Dtype dtype) { return entry(dtype).bytes; }
std::string dtype_name(Dtype dtype) { return entry(dtype).name; }

template <class T>
StoredTensor StoredTensor::of(std::span<const T> values, std::vector<std::int64_t> shape) {
  check<ShapeError>(holds(shape, dtype_of<T>(), values.size_bytes()), "StoredTensor::of: shape ", shape_text(shape),
                    " does not hold the ", values.size(), " values given");
  StoredTensor tensor{dtype_of<T>(), std::move(shape), std::vector<std::byte>(values.size_bytes())};
  if (!values.empty()) std::memcpy(tensor.bytes.data(), values.data(), values.size_bytes());
  return tensor;
}

template <class T>
std::vector<T> StoredTensor::as() const {
  check<ArgumentError>(dtype == dtype_of<T>(), "StoredTensor::as: the tensor holds ", dtype_name(dtype), ", not ",
                       dtype_name(dtype_of<T>()));
  std::vector<T> values(bytes.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

#define DGM_INSTANTIATE(T)                                                                  \
  template StoredTensor StoredTensor::of<T>(std::span<const T>, std::vector<std::int64_t>); \
  template std::vector<T> StoredTensor::as<T>() const;
DGM_INSTANTIATE(float)
DGM_INSTANTIATE(double)
DGM_INSTANTIATE(std::int32_t)
DGM_INSTANTIATE(std::int64_t)
DGM_INSTANTIATE(std::uint8_t)
#undef DGM_INSTANTIATE

const StoredTensor& SafeTensors::at(const std::string& name) const {
  const auto found = tensors.find(name);
  if (found == tensors.end()) {
    std::string there;
    for (const auto& [key, tensor] : tensors) there += text(there.empty() ? "" : ", ", key);
    throw ArgumentError(text("SafeTensors::at: there is no tensor \"", name, "\"; there are: ", there));
  }
  return found->second;
}

void write_safetensors(const std::string& path, const std::map<std::string, StoredTensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  // Wide elements first: with a header padded to 8 bytes every tensor is then aligned to its element.
  std::vector<const std::pair<const std::string, StoredTensor>*> order;
  for (const auto& item : tensors) {
    check<ArgumentError>(item.first != kMetadata, "write_safetensors: the name ", kMetadata, " is reserved");
    check<ShapeError>(holds(item.second.shape, item.second.dtype, item.second.bytes.size()),
                      "write_safetensors: tensor ", item.first, " of type ", dtype_name(item.second.dtype),
                      " has shape ", shape_text(item.second.shape), " but ", item.second.bytes.size(), " bytes");
    order.push_back(&item);
  }
  std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return dtype_bytes(a->second.dtype) > dtype_bytes(b->second.dtype);
  });
  json header = json::object();
  if (!metadata.empty()) header[kMetadata] = metadata;
  std::uint64_t at = 0;
  for (const auto* item : order) {
    const std::uint64_t end = at + item->second.bytes.size();
    header[item->first] = {
        {"dtype", dtype_name(item->second.dtype)}, {"shape", item->second.shape}, {"data_offsets", {at, end}}};
    at = end;
  }
  std::string head;
  try {
    head = header.dump();
  } catch (const json::exception&) {
    throw ArgumentError("write_safetensors: a name or a piece of metadata is not UTF-8");
  }
  head.append((8 - head.size() % 8) % 8, ' ');
  check<ArgumentError>(head.size() <= kLongestHeader, "write_safetensors: names and metadata take ", head.size(),
                       " bytes; the format allows ", kLongestHeader);
  const std::uint64_t length = head.size();
  AtomicFile file(path);
  file.write(&length, sizeof length);
  file.write(head);
  for (const auto* item : order) file.write(item->second.bytes.data(), item->second.bytes.size());
  file.commit();
}

SafeTensors read_safetensors(const std::string& path) {
  const std::string bytes = read_raw_file(path);
  std::uint64_t length = 0;
  check<FileError>(bytes.size() >= sizeof length, path, ": has ", bytes.size(),
                   " bytes; a safetensors file has at least 8");
  std::memcpy(&length, bytes.data(), sizeof length);
  check<FileError>(length <= kLongestHeader, path, ": says that its header has ", length,
                   " bytes; this is no safetensors file");
  check<FileError>(length <= bytes.size() - sizeof length, path, ": is truncated: its header has ", length,
                   " bytes but ", bytes.size() - sizeof length, " are there");
  const std::string_view header_text = std::string_view(bytes).substr(sizeof length, length);
  const std::string_view data = std::string_view(bytes).substr(sizeof length + length);
  check<FileError>(!header_text.empty() && header_text.front() == '{', path,
                   ": its header does not begin with {; this is no safetensors file");
  const json header = parse_header(header_text, path);

  SafeTensors file;
  std::vector<Extent> extents;
  for (const auto& [name, value] : header.items()) {
    const bool object = value.is_object();
    if (name == kMetadata) {
      check<FileError>(object, path, ": its ", kMetadata, " is not an object");
      for (const auto& [key, entry_value] : value.items()) {
        check<FileError>(entry_value.is_string(), path, ": its ", kMetadata, " has \"", key, "\", which is not text");
        file.metadata.emplace(key, entry_value.get<std::string>());
      }
      continue;
    }
    const std::string where = text(path, ": tensor \"", name, "\"");
    check<FileError>(object && value.size() == 3 && value.contains("dtype") && value.contains("shape") &&
                         value.contains("data_offsets"),
                     where, " is not described by dtype, shape and data_offsets");
    const json& type = value["dtype"];
    check<FileError>(type.is_string(), where, " has a dtype that is not text");
    const auto* known = std::find_if(std::begin(kDtypes), std::end(kDtypes),
                                     [&](const DtypeEntry& e) { return type.get_ref<const std::string&>() == e.name; });
    check<FileError>(known != std::end(kDtypes), where, " has dtype ", type.get_ref<const std::string&>(),
                     "; F32, F64, I32, I64 or U8 is needed");
    StoredTensor tensor;
    tensor.dtype = known->dtype;
    const json& shape = value["shape"];
    check<FileError>(shape.is_array(), where, " has a shape that is not a list");
    for (const json& axis : shape) {
      check<FileError>(axis.is_number_unsigned() && axis.get<std::uint64_t>() <= INT64_MAX, where,
                       " has a shape that is not made of counts");
      tensor.shape.push_back(axis.get<std::int64_t>());
    }
    const json& offsets = value["data_offsets"];
    check<FileError>(
        offsets.is_array() && offsets.size() == 2 && offsets[0].is_number_unsigned() && offsets[1].is_number_unsigned(),
        where, " has data_offsets that are not two counts");
    const auto begin = offsets[0].get<std::uint64_t>();
    const auto end = offsets[1].get<std::uint64_t>();
    check<FileError>(begin <= end, where, " has data_offsets [", begin, ", ", end, "], which go backwards");
    check<FileError>(end <= data.size(), where, " ends at byte ", end, " of the data but ", data.size(),
                     " are there; the file is truncated or damaged");
    check<FileError>(holds(tensor.shape, tensor.dtype, end - begin), where, " of type ", known->name, " has shape ",
                     shape_text(tensor.shape), " but ", end - begin, " bytes");
    const auto* from = reinterpret_cast<const std::byte*>(data.data());
    tensor.bytes.assign(from + begin, from + end);
    const auto placed = file.tensors.emplace(name, std::move(tensor)).first;
    extents.push_back({begin, end, &placed->first});
  }
  std::sort(extents.begin(), extents.end(),
            [](const Extent& a, const Extent& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
  std::uint64_t at = 0;
  for (const Extent& extent : extents) {
    check<FileError>(extent.begin == at, path, ": tensor \"", *extent.name, "\" begins at byte ", extent.begin,
                     " of the data where ", at, " is needed: tensors ", extent.begin < at ? "overlap" : "leave a gap");
    at = extent.end;
  }
  check<FileError>(at == data.size(), path, ": has ", data.size() - at, " bytes after its last tensor");
  return file;
}

}  // namespace dgm
