// SPDX-License-Identifier: Apache-2.0
#include "host/data/array.hpp"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "host/core/check.hpp"
#include "host/data/file.hpp"

namespace dgm {
namespace {

static_assert(std::endian::native == std::endian::little, "readers and writers of binary files assume little endian");

constexpr std::string_view kNpyMagic("\x93NUMPY", 6);

/// The dictionary at the head of an .npy file: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
struct NpyHeader {
  std::string descr;
  bool fortran = false;
  std::vector<std::int64_t> shape;
};

/// Reads just as much Python as numpy writes there.
class NpyHeaderParser {
 public:
  NpyHeaderParser(std::string_view text, const std::string& name) : text_(text), name_(name) {}

  NpyHeader parse() {
    NpyHeader header;
    bool descr = false, order = false, shape = false;
    expect('{');
    while (!accept('}')) {
      const std::string key = string();
      expect(':');
      if (key == "descr") {
        if (peek() == '[') {
          throw FileError(text(name_, ": holds records; an array of plain numbers is needed"));
        }
        header.descr = string();
        descr = true;
      } else if (key == "fortran_order") {
        header.fortran = boolean();
        order = true;
      } else if (key == "shape") {
        header.shape = tuple();
        shape = true;
      } else {
        fail();
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip();
    if (at_ != text_.size() || !descr || !order || !shape) fail();
    return header;
  }

 private:
  template <class... Parts>
  static std::string text(const Parts&... parts) {
    return dgm::text(parts...);
  }
  [[noreturn]] void fail() const { throw FileError(text(name_, ": its .npy header is damaged at byte ", at_)); }
  void skip() {
    while (at_ < text_.size() && std::strchr(" \t\n\r\v\f", text_[at_]) != nullptr && text_[at_] != '\0') ++at_;
  }
  char peek() {
    skip();
    if (at_ == text_.size()) fail();
    return text_[at_];
  }
  bool accept(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) fail();
  }
  std::string string() {
    const char quote = peek();
    if (quote != '\'' && quote != '"') fail();
    const std::size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) fail();
    std::string value(text_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return value;
  }
  bool boolean() {
    skip();
    for (const bool value : {false, true}) {
      const std::string_view word = value ? "True" : "False";
      if (text_.substr(at_, word.size()) == word) {
        at_ += word.size();
        return value;
      }
    }
    fail();
  }
  std::vector<std::int64_t> tuple() {
    std::vector<std::int64_t> values;
    expect('(');
    while (!accept(')')) {
      skip();
      std::int64_t value = -1;
      const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
      if (error != std::errc() || value < 0) fail();
      at_ = static_cast<std::size_t>(end - text_.data());
      if (at_ < text_.size() && text_[at_] == 'L') ++at_;  // Python 2 wrote long integers so
      values.push_back(value);
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return values;
  }

  std::string_view text_;
  const std::string& name_;
  std::size_t at_ = 0;
};

double half_to_double(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const int fraction = bits & 1023;
  const double sign = bits >> 15 ? -1.0 : 1.0;
  if (exponent == 31) return fraction ? std::nanf("") : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(static_cast<double>(fraction), -24);
  return sign * std::ldexp(static_cast<double>(fraction + 1024), exponent - 25);
}

template <class T>
T load(const char* from, bool swap) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, from, sizeof(T));
  if (swap) std::reverse(bytes, bytes + sizeof(T));
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

template <class T>
void convert(std::string_view bytes, bool swap, std::vector<double>& out) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    const T value = load<T>(bytes.data() + i * sizeof(T), swap);
    out[i] = static_cast<double>(value);
  }
}

void convert_half(std::string_view bytes, bool swap, std::vector<double>& out) {
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = half_to_double(load<std::uint16_t>(bytes.data() + i * 2, swap));
}

using Convert = void (*)(std::string_view, bool, std::vector<double>&);
struct ElementType {
  std::string_view code;  // numpy's kind and size
  std::size_t bytes;
  Convert convert;
};
constexpr ElementType kTypes[] = {
    {"f4", 4, convert<float>},         {"f8", 8, convert<double>},        {"f2", 2, convert_half},
    {"i1", 1, convert<std::int8_t>},   {"i2", 2, convert<std::int16_t>},  {"i4", 4, convert<std::int32_t>},
    {"i8", 8, convert<std::int64_t>},  {"u1", 1, convert<std::uint8_t>},  {"u2", 2, convert<std::uint16_t>},
    {"u4", 4, convert<std::uint32_t>}, {"u8", 8, convert<std::uint64_t>}, {"b1", 1, convert<std::uint8_t>},
};

const ElementType* find_type(std::string_view code) {
  const auto* found = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const auto& t) { return t.code == code; });
  return found == std::end(kTypes) ? nullptr : found;
}

/// Checks that bytes hold exactly such an array and converts it.
Array decode(std::string_view bytes, const ElementType& type, bool swap, std::vector<std::int64_t> shape,
             const std::string& name) {
  std::int64_t count = 0;
  const bool fits = element_count(shape, count) && count <= INT64_MAX / 8;
  const std::uint64_t needed = static_cast<std::uint64_t>(count) * type.bytes;
  check<FileError>(fits && bytes.size() >= needed, name, ": is truncated: shape ", shape_text(shape), " needs ",
                   fits ? text(needed) : "too many", " bytes of data but ", bytes.size(), " are there");
  check<FileError>(bytes.size() == needed, name, ": has ", bytes.size() - needed, " bytes after its array of shape ",
                   shape_text(shape));
  Array array{std::move(shape), std::vector<double>(static_cast<std::size_t>(count))};
  type.convert(bytes, swap, array.values);
  return array;
}

void to_row_major(Array& array) {
  const std::size_t axes = array.shape.size();
  if (axes < 2 || array.values.empty()) return;
  std::vector<std::size_t> stride(axes);  // of a step along each axis, where the first axis is the fastest
  std::size_t size = 1;
  for (std::size_t a = 0; a < axes; ++a) {
    stride[a] = size;
    size *= static_cast<std::size_t>(array.shape[a]);
  }
  std::vector<double> ordered(array.values.size());
  std::vector<std::int64_t> index(axes, 0);
  std::size_t from = 0;
  for (double& value : ordered) {
    value = array.values[from];
    for (std::size_t a = axes; a-- > 0;) {
      from += stride[a];
      if (++index[a] < array.shape[a]) break;
      from -= stride[a] * static_cast<std::size_t>(array.shape[a]);
      index[a] = 0;
    }
  }
  array.values = std::move(ordered);
}

std::uint32_t little(std::string_view bytes, std::size_t at, std::size_t width) {
  std::uint32_t value = 0;
  for (std::size_t i = width; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

}  // namespace

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string out = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) out += text(i ? ", " : "", shape[i]);
  return out + (shape.size() == 1 ? ",)" : ")");
}

bool element_count(const std::vector<std::int64_t>& shape, std::int64_t& count) {
  // A zero anywhere makes the product 0, however large the rest.
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) {
    count = 0;
    return true;
  }
  count = 1;
  for (const std::int64_t axis : shape) {
    if (axis < 0 || count > INT64_MAX / axis) return false;
    count *= axis;
  }
  return true;
}

bool is_npy(std::string_view bytes) { return bytes.substr(0, kNpyMagic.size()) == kNpyMagic; }

bool is_idx(std::string_view bytes) {
  return bytes.size() >= 4 && bytes[0] == 0 && bytes[1] == 0 && bytes[2] >= 8 && bytes[2] <= 14 && bytes[3] > 0;
}

bool is_zip(std::string_view bytes) { return bytes.substr(0, 4) == "PK\x03\x04" || bytes.substr(0, 4) == "PK\x05\x06"; }

Array parse_npy(std::string_view bytes, const std::string& name) {
  check<FileError>(bytes.size() >= 10, name, ": is truncated in its .npy header");
  const int version = bytes[6];
  check<FileError>(version >= 1 && version <= 3, name, ": has .npy version ", version, "; 1, 2 or 3 is needed");
  const std::size_t width = version == 1 ? 2 : 4;
  check<FileError>(bytes.size() >= 8 + width, name, ": is truncated in its .npy header");
  const std::size_t length = little(bytes, 8, width);
  const std::size_t start = 8 + width;
  check<FileError>(bytes.size() - start >= length, name, ": is truncated in its .npy header");
  NpyHeader header = NpyHeaderParser(bytes.substr(start, length), name).parse();

  const std::string_view descr = header.descr;
  const ElementType* type = descr.size() == 3 ? find_type(descr.substr(1)) : nullptr;
  const bool order_known = !descr.empty() && (descr[0] == '<' || descr[0] == '>' || descr[0] == '=' || descr[0] == '|');
  check<FileError>(type != nullptr && order_known, name, ": has elements of type '", descr,
                   "'; floats of 16 to 64 bits, integers or bool are needed");
  Array array = decode(bytes.substr(start + length), *type, descr[0] == '>', std::move(header.shape), name);
  if (header.fortran) to_row_major(array);
  return array;
}

Array parse_idx(std::string_view bytes, const std::string& name) {
  const char* code = nullptr;
  switch (bytes[2]) {
    case 0x08:
      code = "u1";
      break;
    case 0x09:
      code = "i1";
      break;
    case 0x0B:
      code = "i2";
      break;
    case 0x0C:
      code = "i4";
      break;
    case 0x0D:
      code = "f4";
      break;
    case 0x0E:
      code = "f8";
      break;
    default:
      throw FileError(text(name, ": has unknown idx element type ", static_cast<int>(bytes[2])));
  }
  const auto axes = static_cast<std::size_t>(static_cast<unsigned char>(bytes[3]));
  check<FileError>(bytes.size() >= 4 + 4 * axes, name, ": is truncated in its idx header");
  std::vector<std::int64_t> shape(axes);
  for (std::size_t a = 0; a < axes; ++a) shape[a] = load<std::uint32_t>(bytes.data() + 4 + 4 * a, true);
  const bool swap = true;  // big endian by definition
  return decode(bytes.substr(4 + 4 * axes), *find_type(code), swap, std::move(shape), name);
}

Array read_array(const std::string& path) {
  const std::string bytes = read_file(path);
  if (is_npy(bytes)) return parse_npy(bytes, path);
  if (is_idx(bytes)) return parse_idx(bytes, path);
  throw FileError(text(path, ": is neither .npy nor idx"));
}

std::map<std::string, Array> read_npz(const std::string& path) { return parse_npz(read_raw_file(path), path); }

std::map<std::string, Array> parse_npz(std::string_view bytes, const std::string& path) {
  check<FileError>(is_zip(bytes), path, ": is not a zip archive, which .npz is");
  // The directory at the end is what counts: sizes in front of the members may be zero when the archive was streamed.
  constexpr std::size_t kEndSize = 22;
  constexpr std::string_view kEnd("PK\x05\x06", 4), kEntry("PK\x01\x02", 4), kMember("PK\x03\x04", 4);
  const std::size_t end = bytes.rfind(kEnd);
  check<FileError>(end != std::string::npos && bytes.size() - end >= kEndSize, path,
                   ": is truncated: a zip archive ends with its directory");
  const std::size_t entries = little(bytes, end + 10, 2);
  std::size_t at = little(bytes, end + 16, 4);
  check<FileError>(entries != 0xFFFF && at != 0xFFFFFFFF, path, ": is a zip64 archive, which is not supported");
  std::map<std::string, Array> arrays;
  for (std::size_t e = 0; e < entries; ++e) {
    check<FileError>(at + 46 <= end && bytes.compare(at, 4, kEntry) == 0, path, ": its zip directory is damaged");
    const std::uint32_t flags = little(bytes, at + 8, 2), method = little(bytes, at + 10, 2);
    const std::uint32_t crc = little(bytes, at + 16, 4);
    const std::size_t packed = little(bytes, at + 20, 4), size = little(bytes, at + 24, 4);
    const std::size_t name_size = little(bytes, at + 28, 2);
    const std::size_t skip = little(bytes, at + 30, 2) + little(bytes, at + 32, 2);
    const std::size_t member = little(bytes, at + 42, 4);
    check<FileError>(at + 46 + name_size + skip <= end, path, ": its zip directory is damaged");
    std::string name(bytes.substr(at + 46, name_size));
    at += 46 + name_size + skip;
    const std::string where = text(path, "(", name, ")");
    check<FileError>(packed != 0xFFFFFFFF && size != 0xFFFFFFFF && member != 0xFFFFFFFF, where,
                     ": needs zip64, which is not supported");
    check<FileError>((flags & 1) == 0, where, ": is encrypted");
    check<FileError>(member + 30 <= end && bytes.compare(member, 4, kMember) == 0, where, ": its member is damaged");
    const std::size_t start = member + 30 + little(bytes, member + 26, 2) + little(bytes, member + 28, 2);
    check<FileError>(start <= end && packed <= end - start, where, ": is truncated");
    const std::string_view stored = bytes.substr(start, packed);
    check<FileError>(method == 8 || (method == 0 && packed == size), where, ": has compression method ", method,
                     "; stored or deflated is needed");
    const std::string content = method == 8 ? inflate_raw(stored, size, where) : std::string(stored);
    check<FileError>(crc32_of(content) == crc, where, ": its checksum is wrong");
    if (name.size() > 4 && name.compare(name.size() - 4, 4, ".npy") == 0) name.resize(name.size() - 4);
    check<FileError>(is_npy(content), where, ": is not .npy");
    arrays.insert_or_assign(std::move(name), parse_npy(content, where));
  }
  return arrays;
}

namespace {

void write_npy_bytes(const std::string& path, const char* descr, const void* values, std::size_t count,
                     std::size_t bytes, const std::vector<std::int64_t>& shape) {
  std::int64_t product = 0;
  check<ShapeError>(element_count(shape, product) && static_cast<std::size_t>(product) == count, "write_npy: shape ",
                    shape_text(shape), " does not hold the ", count, " values given");
  std::string header = text("{'descr': '", descr, "', 'fortran_order': False, 'shape': ", shape_text(shape), ", }");
  const std::size_t unpadded = kNpyMagic.size() + 4 + header.size() + 1;
  header.append((64 - unpadded % 64) % 64, ' ');  // so that data may be mapped with alignment
  header += '\n';
  check<ShapeError>(header.size() <= 65535, "write_npy: shape has ", shape.size(), " axes; fewer are needed");
  std::string head(kNpyMagic);
  head += {'\x01', '\x00', static_cast<char>(header.size() & 255), static_cast<char>(header.size() >> 8)};
  AtomicFile file(path);
  file.write(head + header);
  file.write(values, bytes);
  file.commit();
}

}  // namespace

void write_npy(const std::string& path, std::span<const double> values, const std::vector<std::int64_t>& shape) {
  write_npy_bytes(path, "<f8", values.data(), values.size(), values.size_bytes(), shape);
}

void write_npy(const std::string& path, std::span<const float> values, const std::vector<std::int64_t>& shape) {
  write_npy_bytes(path, "<f4", values.data(), values.size(), values.size_bytes(), shape);
}

void write_npy(const std::string& path, std::span<const std::int32_t> values, const std::vector<std::int64_t>& shape) {
  write_npy_bytes(path, "<i4", values.data(), values.size(), values.size_bytes(), shape);
}

}  // namespace dgm
