// SPDX-License-Identifier: Apache-2.0
#include <dgm/core/error.hpp>
#include <dgm/data/safetensors.hpp>

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "tests/support/files.hpp"

namespace dgm {
namespace {

using test::get;
using test::message_of;
using test::put;
using ::testing::ExitedWithCode;
using Tensors = std::map<std::string, StoredTensor>;

Tensors one_of_each() {
  return {{"mean", StoredTensor::of<float>({1, -2.5f, 3e-40f, 4, 5, 6}, {2, 3})},
          {"scale", StoredTensor::of<double>({0.1, -1e300, 7}, {3})},
          {"labels", StoredTensor::of<std::int32_t>({-1, 2147483647}, {2, 1})},
          {"step", StoredTensor::scalar<std::int64_t>(-9007199254740993)},
          {"mask", StoredTensor::of<std::uint8_t>({0, 1, 255}, {3})},
          {"none", StoredTensor::of<float>(std::vector<float>{}, {0, 4})},
          {"größe \"1\"", StoredTensor::scalar<float>(2)}};
}

std::string file_of(const std::string& header, const std::string& data) {
  std::uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + header + data;
}

std::string refusal(const std::string& header, const std::string& data) {
  const test::TempDir dir;
  const std::string path = put(dir / "m", file_of(header, data));
  const std::string message = message_of<FileError>([&] { read_safetensors(path); });
  EXPECT_EQ(message.substr(0, path.size() + 2), path + ": ");
  return message.substr(std::min(path.size() + 2, message.size()));
}

TEST(Safetensors, ReadsBackWhatWasWritten) {
  const test::TempDir dir;
  write_safetensors(dir / "m", one_of_each(), {{"format", "dgm"}, {"note", "two\nlines"}});
  const SafeTensors back = read_safetensors(dir / "m");
  EXPECT_EQ(back.tensors, one_of_each());
  EXPECT_EQ(back.metadata, (std::map<std::string, std::string>{{"format", "dgm"}, {"note", "two\nlines"}}));
  EXPECT_EQ(back.at("scale").as<double>(), (std::vector<double>{0.1, -1e300, 7}));
  EXPECT_EQ(back.at("step").as<std::int64_t>(), (std::vector<std::int64_t>{-9007199254740993}));
  EXPECT_EQ(message_of<ArgumentError>([&] { back.at("mean").as<double>(); }),
            "StoredTensor::as: the tensor holds F32, not F64");
  EXPECT_EQ(message_of<ArgumentError>([&] {
              SafeTensors{{{"a", {}}, {"b", {}}}, {}}.at("c");
            }),
            "SafeTensors::at: there is no tensor \"c\"; there are: a, b");
}

TEST(Safetensors, WritesTheSameBytesForTheSameContent) {
  const test::TempDir dir;
  write_safetensors(dir / "a", one_of_each(), {{"x", "1"}});
  write_safetensors(dir / "b", one_of_each(), {{"x", "1"}});
  EXPECT_EQ(get(dir / "a"), get(dir / "b"));
}

TEST(Safetensors, AlignsEveryTensorToItsElement) {
  const test::TempDir dir;
  for (int extra = 0; extra < 9; ++extra) {
    write_safetensors(dir / "m", one_of_each(), {{"pad", std::string(static_cast<std::size_t>(extra), 'x')}});
    const std::string bytes = get(dir / "m");
    std::uint64_t length;
    std::memcpy(&length, bytes.data(), 8);
    EXPECT_EQ(length % 8, 0u);
  }
  // Wide elements first, so that offsets stay aligned; a reader of these bytes sees them in this order.
  const std::string bytes = get(dir / "m");
  const double first = 0.1;
  std::uint64_t length;
  std::memcpy(&length, bytes.data(), 8);
  EXPECT_EQ(std::memcmp(bytes.data() + 8 + length, &first, 8), 0);
}

TEST(Safetensors, AcceptsAFileWithNothingInIt) {
  const test::TempDir dir;
  write_safetensors(dir / "m", {});
  EXPECT_TRUE(read_safetensors(dir / "m").tensors.empty());
  EXPECT_TRUE(read_safetensors(put(dir / "n", file_of("{}   ", ""))).tensors.empty());
}

TEST(Safetensors, RefusesToWriteWhatIsInconsistent) {
  const test::TempDir dir;
  const std::string path = put(dir / "m", "old");
  Tensors bad{{"a", {Dtype::f32, {2}, std::vector<std::byte>(7)}}};
  EXPECT_EQ(message_of<ShapeError>([&] { write_safetensors(path, bad); }),
            "write_safetensors: tensor a of type F32 has shape (2,) but 7 bytes");
  EXPECT_THROW(write_safetensors(path, {{"__metadata__", StoredTensor::scalar(1.f)}}), ArgumentError);
  EXPECT_THROW(write_safetensors(path, {{"\xFF", StoredTensor::scalar(1.f)}}), ArgumentError);
  EXPECT_THROW(write_safetensors(path, {}, {{"a", "\xC0"}}), ArgumentError);
  EXPECT_THROW(StoredTensor::of<float>({1, 2}, {3}), ShapeError);
  EXPECT_THROW(StoredTensor::of<float>({1, 2}, {-2}), ShapeError);
  EXPECT_EQ(get(path), "old");
}

TEST(Safetensors, SaysWhatIsWrongWithAFile) {
  const std::string f32 = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  const std::string data(8, '\0');
  EXPECT_EQ(refusal(f32, data.substr(1)),
            "tensor \"a\" ends at byte 8 of the data but 7 are there; the file is truncated or damaged");
  EXPECT_EQ(refusal(f32, data + "x"), "has 1 bytes after its last tensor");
  EXPECT_EQ(refusal(R"({"a":{"dtype":"BF16","shape":[4],"data_offsets":[0,8]}})", data),
            "tensor \"a\" has dtype BF16; F32, F64, I32, I64 or U8 is needed");
  EXPECT_EQ(refusal(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", data),
            "tensor \"a\" of type F32 has shape (3,) but 8 bytes");
  EXPECT_EQ(refusal(R"({"a":{"dtype":"F32","shape":[4611686018427387905,4],"data_offsets":[0,8]}})", data),
            "tensor \"a\" of type F32 has shape (4611686018427387905, 4) but 8 bytes");
  EXPECT_EQ(refusal(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", data),
            "tensor \"a\" has a shape that is not made of counts");
  EXPECT_EQ(refusal(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", data),
            "tensor \"a\" has data_offsets [8, 0], which go backwards");
  EXPECT_EQ(refusal(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0.0,8]}})", data),
            "tensor \"a\" has data_offsets that are not two counts");
  EXPECT_EQ(refusal(R"({"a":{"dtype":"F32","shape":[2]}})", data),
            "tensor \"a\" is not described by dtype, shape and data_offsets");
  EXPECT_EQ(refusal(R"({"a":3})", ""), "tensor \"a\" is not described by dtype, shape and data_offsets");
  EXPECT_EQ(refusal(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                    R"("b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
                    data),
            "tensor \"b\" begins at byte 0 of the data where 4 is needed: tensors overlap");
  EXPECT_EQ(refusal(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", data),
            "tensor \"a\" begins at byte 4 of the data where 0 is needed: tensors leave a gap");
  EXPECT_EQ(refusal(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                    R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
                    data),
            "its header names \"a\" twice");
  EXPECT_EQ(refusal(R"({"__metadata__":{"step":3}})", ""), "its __metadata__ has \"step\", which is not text");
  EXPECT_EQ(refusal("[1]", ""), "its header does not begin with {; this is no safetensors file");
  EXPECT_EQ(refusal("", ""), "its header does not begin with {; this is no safetensors file");
  EXPECT_EQ(refusal(R"({"a":)", "").substr(0, 37), "its safetensors header is not JSON: [");

  const test::TempDir dir;
  const std::string path = dir / "m";
  const auto read = [&] { read_safetensors(path); };
  put(path, "1234567");
  EXPECT_EQ(message_of<FileError>(read), path + ": has 7 bytes; a safetensors file has at least 8");
  put(path, "PK\x03\x04 not a model");
  EXPECT_EQ(message_of<FileError>(read),
            path + ": says that its header has 8390045714599856976 bytes; this is no safetensors file");
  put(path, file_of(f32, "").substr(0, 20));
  EXPECT_EQ(message_of<FileError>(read), path + ": is truncated: its header has 54 bytes but 12 are there");
  EXPECT_EQ(message_of<FileError>([&] { read_safetensors(dir / "absent"); }),
            dir / "absent" + ": cannot be opened: No such file or directory");
}

TEST(Safetensors, SurvivesEveryTruncationAndFlippedByte) {
  const test::TempDir dir;
  write_safetensors(dir / "m", {{"a", StoredTensor::of<float>({1, 2}, {2})}, {"b", StoredTensor::scalar<double>(3)}},
                    {{"k", "v"}});
  const std::string whole = get(dir / "m");
  const std::string path = dir / "damaged";
  int refused = 0, read = 0;
  test::for_every_damage(whole, [&](const std::string& bytes) {
    try {
      const SafeTensors file = read_safetensors(put(path, bytes));
      EXPECT_EQ(bytes.size(), whole.size()) << "a truncated file was read";
      ++read;
    } catch (const FileError&) {
      ++refused;
    }
  });
  EXPECT_GT(refused, static_cast<int>(whole.size()));
  EXPECT_GE(read, 16 * 9) << "flips in the data cannot be noticed";
}

TEST(Safetensors, KeepsTheOldCheckpointWhenTheDiskIsFull) {
  const test::TempDir dir;
  const std::string path = dir / "checkpoint";
  write_safetensors(path, one_of_each());
  const std::string before = get(path);
  const auto with_little_room = [&] {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1 << 16, 1 << 16};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) ::_exit(1);
    const Tensors large{{"w", StoredTensor::of(std::vector<float>(1 << 20), {1 << 20})}};
    const std::string message = message_of<FileError>([&] { write_safetensors(path, large); });
    ::_exit(message == path + ": cannot be written: File too large; the file that was there is unchanged" ? 7 : 1);
  };
  EXPECT_EXIT(with_little_room(), ExitedWithCode(7), "");
  EXPECT_EQ(get(path), before);
  EXPECT_EQ(dir.names(), std::vector<std::string>{"checkpoint"});
}

TEST(Safetensors, PythonReadsWhatWeWriteAndWeReadWhatPythonWrites) {
  const char* const chosen = std::getenv("DGM_PYTHON");  // a Python that has numpy and safetensors
  const std::string python = chosen != nullptr ? chosen : "python3";
  if (std::system((python + " -c 'import numpy, safetensors.numpy' 2>/dev/null").c_str()) != 0) {
    GTEST_SKIP() << python << " cannot import numpy and safetensors; DGM_PYTHON may name one that can";
  }
  const test::TempDir dir;
  write_safetensors(dir / "ours", one_of_each(), {{"format", "dgm"}});
  put(dir / "check.py", R"(
import sys
import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
got = load_file(sys.argv[1])
want = {
    "mean": np.array([[1, -2.5, 3e-40], [4, 5, 6]], np.float32),
    "scale": np.array([0.1, -1e300, 7], np.float64),
    "labels": np.array([[-1], [2147483647]], np.int32),
    "step": np.array(-9007199254740993, np.int64),
    "mask": np.array([0, 1, 255], np.uint8),
    "none": np.zeros((0, 4), np.float32),
    'größe "1"': np.array(2, np.float32),
}
assert got.keys() == want.keys(), got.keys()
for name in want:
    assert got[name].dtype == want[name].dtype, name
    assert got[name].shape == want[name].shape, name
    assert got[name].tobytes() == want[name].tobytes(), name
with safe_open(sys.argv[1], "np") as file:
    assert file.metadata() == {"format": "dgm"}, file.metadata()
save_file(want, sys.argv[2], {"format": "np"})
)");
  ASSERT_EQ(std::system((python + " " + dir / "check.py" + " " + dir / "ours" + " " + dir / "theirs").c_str()), 0);
  const SafeTensors theirs = read_safetensors(dir / "theirs");
  EXPECT_EQ(theirs.tensors, one_of_each());
  EXPECT_EQ(theirs.metadata.at("format"), "np");
}

}  // namespace
}  // namespace dgm
