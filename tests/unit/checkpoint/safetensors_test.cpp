#include "gimbal/checkpoint/safetensors.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

#include <string>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/base/sha256.h"
#include "unit/base/temp_folder.h"

namespace gimbal {
namespace {

using testing::message_of;
using testing::TempFolder;

void write_raw(const std::filesystem::path& path, const std::string& header,
               const std::string& data) {
  std::uint64_t length = header.size();
  std::string content(reinterpret_cast<const char*>(&length), sizeof(length));
  write_file_atomic(path, content + header + data);
}

TEST(Safetensors, RoundTripKeepsEveryDtype) {
  const TempFolder folder;
  std::vector<TensorSpec> specs;
  std::vector<at::Tensor> values;
  // Narrow elements first, so that the writer has to order the data.
  for (const auto dtype : {at::kByte, at::kChar, at::kBool, at::kShort, at::kBFloat16, at::kHalf,
                           at::kInt, at::kFloat, at::kLong, at::kDouble}) {
    values.push_back(at::arange(3, at::kLong).view({1, 3}).to(dtype));
    specs.push_back({std::string("t.") + c10::toString(dtype), dtype, {1, 3}});
  }
  values.push_back(at::ones({0, 4}));
  specs.push_back({"empty", at::kFloat, {0, 4}});
  values.push_back(at::ones({}, at::kDouble));
  specs.push_back({"scalar", at::kDouble, {}});
  {
    SafetensorsWriter writer(folder / "a.safetensors", specs,
                             {{"format", "pt"}, {"note", "tab\t\"quote\""}});
    for (std::size_t i = 0; i < specs.size(); ++i) writer.write(specs[i].name, values[i]);
    writer.close();
  }
  const SafetensorsReader reader(folder / "a.safetensors");
  EXPECT_EQ(reader.names().size(), specs.size());
  EXPECT_EQ(reader.metadata().at("note"), "tab\t\"quote\"");
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const at::Tensor read = reader.tensor(specs[i].name);
    EXPECT_EQ(read.scalar_type(), specs[i].dtype);
    EXPECT_EQ(read.sizes(), at::IntArrayRef(specs[i].shape));
    EXPECT_TRUE(at::equal(read, values[i])) << specs[i].name;
    if (read.numel() > 0) {
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(read.const_data_ptr()) % read.element_size(), 0U);
    }
  }
}

TEST(Safetensors, StridedTensorsAreWrittenInTheirShape) {
  const TempFolder folder;
  const at::Tensor transposed = at::arange(6, at::kFloat).view({2, 3}).t();
  SafetensorsWriter writer(folder / "a", {{"t", at::kFloat, {3, 2}}}, {});
  writer.write("t", transposed);
  writer.close();
  EXPECT_TRUE(at::equal(SafetensorsReader(folder / "a").tensor("t"), transposed));
}

TEST(Safetensors, UnalignedDataIsCopied) {
  const TempFolder folder;
  const float value = 1.5F;
  std::string header = R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  while ((header.size() + 8) % 4 != 1) header += ' ';
  write_raw(folder / "a", header, std::string(reinterpret_cast<const char*>(&value), 4));
  EXPECT_EQ(SafetensorsReader(folder / "a").tensor("t").item<float>(), 1.5F);
}

TEST(Safetensors, AMissingTensorIsNamed) {
  const TempFolder folder;
  write_raw(folder / "a", "{}", "");
  const SafetensorsReader reader(folder / "a");
  const std::string message = message_of<UserError>([&] { reader.tensor("w"); });
  EXPECT_NE(message.find("has no tensor 'w'"), std::string::npos) << message;
}

TEST(Safetensors, MisuseOfTheWriterIsADefect) {
  const TempFolder folder;
  const TensorSpec a{"a", at::kFloat, {2}}, b{"b", at::kFloat, {2}};
  EXPECT_THROW(SafetensorsWriter(folder / "x", {a, a}, {}), InternalError);
  EXPECT_THROW(SafetensorsWriter(folder / "x", {{"c", at::kComplexDouble, {2}}}, {}),
               InternalError);
  SafetensorsWriter writer(folder / "x", {a, b}, {});
  EXPECT_THROW(writer.write("b", at::ones({2})), InternalError);               // not the next
  EXPECT_THROW(writer.write("a", at::ones({3})), InternalError);               // shape
  EXPECT_THROW(writer.write("a", at::ones({2}, at::kDouble)), InternalError);  // dtype
  writer.write("a", at::ones({2}));
  EXPECT_THROW(writer.close(), InternalError);  // b is not written
  writer.write("b", at::ones({2}));
  EXPECT_THROW(writer.write("b", at::ones({2})), InternalError);
  writer.close();
}

TEST(Safetensors, AFullDiskIsNamed) {
  const std::string message = message_of<UserError>([] {
    SafetensorsWriter writer("/dev/full", {{"a", at::kFloat, {2}}}, {});
    writer.write("a", at::ones({2}));
    writer.close();
  });
  EXPECT_NE(message.find("/dev/full: cannot write: No space left"), std::string::npos) << message;
}

struct DamageCase {
  const char* what;
  std::string header, data, expected;
};

TEST(Safetensors, DamagedHeadersAreRefused) {
  const std::string tensor = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";
  const std::string eight(8, '\0');
  const std::vector<DamageCase> cases{
      {"not JSON", "{\"a\":", "", "its header is not JSON"},
      {"a list", "[1]", "", "its header is no JSON object"},
      {"a name twice", "{\"a\":{" + tensor + "},\"a\":{" + tensor + "}}", eight,
       "'a' occurs twice"},
      {"a key twice", "{\"a\":{" + tensor + ",\"dtype\":\"F32\"}}", eight, "'dtype' occurs twice"},
      {"no object", R"({"a":3})", "", "tensor 'a': is described by 3"},
      {"unknown dtype", R"({"a":{"dtype":"Q4","shape":[2],"data_offsets":[0,8]}})", eight,
       "dtype 'Q4' is not supported"},
      {"no dtype", R"({"a":{"shape":[2],"data_offsets":[0,8]}})", eight, "key 'dtype' is missing"},
      {"no shape", R"({"a":{"dtype":"F32","data_offsets":[0,8]}})", eight,
       "key 'shape' is missing"},
      {"shape is text", R"({"a":{"dtype":"F32","shape":"2","data_offsets":[0,8]}})", eight,
       "'shape' is no list"},
      {"negative size", R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", eight,
       "'shape' has -2"},
      {"half a size", R"({"a":{"dtype":"F32","shape":[2.5],"data_offsets":[0,8]}})", eight,
       "'shape' has 2.5"},
      {"one offset", R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}})", eight,
       "no begin and end"},
      {"end before begin", R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", eight,
       "no begin and end"},
      {"too short", "{\"a\":{" + tensor + "}}", "1234",
       "ends at byte 8 of the data, but the file has only 4"},
      {"too long", "{\"a\":{" + tensor + "}}", eight + "1234",
       "has 12 bytes of data, its tensors only 8"},
      {"wrong shape", R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", eight,
       "needs 12 bytes"},
      {"overflow", R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}})",
       eight, "too many elements"},
      {"overlap", "{\"a\":{" + tensor + R"(},"b":{"dtype":"U8","shape":[2],"data_offsets":[7,9]}})",
       eight + "1",
       "tensor 'b': begins at byte 7 of the data, inside the tensor before it, which ends at 8"},
      {"hole", R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})", "123",
       "not right after"},
      {"metadata number", R"({"__metadata__":{"a":1}})", "", "metadata 'a' is no text"},
      {"metadata list", R"({"__metadata__":[]})", "", "its metadata are no JSON object"},
  };
  const TempFolder folder;
  for (const DamageCase& c : cases) {
    write_raw(folder / "model.safetensors", c.header, c.data);
    const std::string message =
        message_of<UserError>([&] { SafetensorsReader reader(folder / "model.safetensors"); });
    EXPECT_NE(message.find(c.expected), std::string::npos) << c.what << ": " << message;
    EXPECT_NE(message.find("model.safetensors"), std::string::npos) << c.what << ": " << message;
  }
}

TEST(Safetensors, AFileIsHashedWhileItIsWritten) {
  const TempFolder folder;
  const std::vector<TensorSpec> specs{{"a", at::kDouble, {3}},
                                      {"b", at::kFloat, {0}},
                                      {"c", at::kFloat, {5}},
                                      {"d", at::kByte, {7}}};
  SafetensorsWriter writer(folder / "a", specs, {}, FileHash::kYes);
  for (const TensorSpec& spec : specs) writer.write(spec.name, at::ones(spec.shape, spec.dtype));
  writer.close();
  EXPECT_EQ(writer.sha256(), sha256_of_file(folder / "a"));
  EXPECT_EQ(writer.num_bytes(), std::filesystem::file_size(folder / "a"));
  SafetensorsWriter narrow_first(folder / "b", {{"a", at::kByte, {1}}, {"b", at::kFloat, {1}}}, {},
                                 FileHash::kYes);
  EXPECT_THROW(narrow_first.write("a", at::ones({1}, at::kByte)), InternalError);
}

TEST(Safetensors, EveryTruncationIsRefused) {
  const TempFolder folder;
  {
    SafetensorsWriter writer(folder / "whole", {{"a", at::kFloat, {2}}, {"b", at::kHalf, {3}}},
                             {{"format", "pt"}});
    writer.write("a", at::ones({2}));
    writer.write("b", at::ones({3}, at::kHalf));
    writer.close();
  }
  const std::string content = read_file(folder / "whole");
  std::filesystem::copy_file(folder / "whole", folder / "part");
  for (std::size_t size = content.size(); size-- > 0;) {
    std::filesystem::resize_file(folder / "part", size);
    EXPECT_THROW(SafetensorsReader(folder / "part"), UserError) << size;
  }
  std::string other = content;
  other[3] = '\x7f';  // the header's length
  write_file_atomic(folder / "part", other);
  const std::string message =
      message_of<UserError>([&] { SafetensorsReader reader(folder / "part"); });
  EXPECT_NE(message.find("announces a header of"), std::string::npos) << message;
}

}  // namespace
}  // namespace gimbal
