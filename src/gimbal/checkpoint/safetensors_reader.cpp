#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "gimbal/base/error.h"
#include "gimbal/base/json.h"
#include "gimbal/checkpoint/safetensors.h"
#include "gimbal/checkpoint/safetensors_dtype.h"

namespace gimbal {
namespace {

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr char kDamaged[] = ". The file is damaged or incomplete; copy or download it again.";

// The header as JSON. A name that occurs twice is an error: a JSON object would keep the last one
// only.
Json parse_header(std::string_view text, const std::string& file) {
  std::vector<std::set<std::string>> seen;
  const auto callback = [&](int, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::object_start) seen.emplace_back();
    if (event == Json::parse_event_t::object_end) seen.pop_back();
    if (event == Json::parse_event_t::key) {
      const std::string key = value.get<std::string>();
      GIMBAL_USER_CHECK(seen.back().insert(key).second, file, ": '", key,
                        "' occurs twice in the header", kDamaged);
    }
    return true;
  };
  try {
    Json header = Json::parse(text.begin(), text.end(), callback);
    GIMBAL_USER_CHECK(header.is_object(), file, ": its header is no JSON object", kDamaged);
    return header;
  } catch (const nlohmann::json::exception& e) {
    throw UserError(concat(file, ": its header is not JSON: ", e.what(), kDamaged));
  }
}

// A list of numbers of at least 0.
std::vector<std::int64_t> parse_numbers(const Json& entry, const char* key,
                                        const std::string& where) {
  const auto numbers = json_get<Json>(entry, key, where);
  GIMBAL_USER_CHECK(numbers.is_array(), where, ": '", key, "' is no list", kDamaged);
  std::vector<std::int64_t> out;
  for (const Json& number : numbers) {
    GIMBAL_USER_CHECK(
        number.is_number_unsigned() && number.get<std::uint64_t>() <= std::uint64_t{1} << 62, where,
        ": '", key, "' has ", number.dump(), " where a size belongs", kDamaged);
    out.push_back(number.get<std::int64_t>());
  }
  return out;
}

// Bytes of a tensor; throws when they are more than any file has.
std::uint64_t bytes_of(at::ScalarType dtype, const std::vector<std::int64_t>& shape,
                       const std::string& where) {
  std::uint64_t bytes = c10::elementSize(dtype);
  for (const std::int64_t size : shape) {
    GIMBAL_USER_CHECK(!__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(size), &bytes),
                      where, ": its shape has too many elements", kDamaged);
  }
  return bytes;
}

std::string tensor_place(const std::filesystem::path& path, const std::string& name) {
  return concat(path.string(), ": tensor '", name, "'");
}

}  // namespace

at::ScalarType safetensors_scalar_type(const std::string& name, const std::string& where) {
  std::string known;
  for (const auto& [text, dtype] : kSafetensorsDtypes) {
    if (text == name) return dtype;
    known += concat(known.empty() ? "" : ", ", text);
  }
  throw UserError(concat(where, ": dtype '", name, "' is not supported. Supported: ", known, "."));
}

SafetensorsReader::SafetensorsReader(const std::filesystem::path& path) : path_(path), file_(path) {
  read_header();
  check_cover();
}

void SafetensorsReader::read_header() {
  const std::string file = path_.string();
  const auto bytes = file_.bytes();
  std::uint64_t header_bytes = 0;
  GIMBAL_USER_CHECK(bytes.size() >= sizeof(header_bytes), file, ": has ", bytes.size(),
                    " bytes, too few for a safetensors file", kDamaged);
  std::memcpy(&header_bytes, bytes.data(), sizeof(header_bytes));
  GIMBAL_USER_CHECK(
      header_bytes <= std::min<std::uint64_t>(kMaxHeaderBytes, bytes.size() - sizeof(header_bytes)),
      file, ": announces a header of ", header_bytes, " bytes in a file of ", bytes.size(),
      " bytes. It is no safetensors file, or damaged or incomplete; copy or download it again.");
  data_begin_ = sizeof(header_bytes) + header_bytes;
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + sizeof(header_bytes),
                              header_bytes);
  const Json header = parse_header(text, file);
  for (const auto& [name, entry] : header.items()) {
    const std::string where = tensor_place(path_, name);
    if (name == "__metadata__") {
      GIMBAL_USER_CHECK(entry.is_object(), file, ": its metadata are no JSON object", kDamaged);
      for (const auto& [key, value] : entry.items()) {
        GIMBAL_USER_CHECK(value.is_string(), file, ": metadata '", key, "' is no text", kDamaged);
        metadata_[key] = value.get<std::string>();
      }
      continue;
    }
    GIMBAL_USER_CHECK(entry.is_object(), where, ": is described by ", entry.dump(), kDamaged);
    const at::ScalarType dtype =
        safetensors_scalar_type(json_get<std::string>(entry, "dtype", where), where);
    std::vector<std::int64_t> shape = parse_numbers(entry, "shape", where);
    const std::vector<std::int64_t> offsets = parse_numbers(entry, "data_offsets", where);
    const std::size_t data_bytes = bytes.size() - data_begin_;
    GIMBAL_USER_CHECK(offsets.size() == 2 && offsets[0] <= offsets[1], where,
                      ": 'data_offsets' is no begin and end", kDamaged);
    const auto begin = static_cast<std::size_t>(offsets[0]),
               end = static_cast<std::size_t>(offsets[1]);
    GIMBAL_USER_CHECK(end <= data_bytes, where, ": ends at byte ", end,
                      " of the data, but the file has only ", data_bytes, kDamaged);
    const std::uint64_t needed = bytes_of(dtype, shape, where);
    GIMBAL_USER_CHECK(needed == end - begin, where, ": needs ", needed,
                      " bytes for its shape and dtype, but has ", end - begin, kDamaged);
    entries_.emplace(name, Entry{dtype, std::move(shape), begin, end});
  }
}

void SafetensorsReader::check_cover() const {
  std::vector<std::pair<const std::string*, const Entry*>> by_place;
  for (const auto& [name, entry] : entries_) by_place.emplace_back(&name, &entry);
  std::sort(by_place.begin(), by_place.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second->begin, a.second->end) < std::pair(b.second->begin, b.second->end);
  });
  std::size_t covered = 0;
  for (const auto& [name, entry] : by_place) {
    GIMBAL_USER_CHECK(entry->begin == covered, tensor_place(path_, *name), ": begins at byte ",
                      entry->begin, " of the data, ",
                      entry->begin < covered ? "inside" : "not right after",
                      " the tensor before it, which ends at ", covered, kDamaged);
    covered = entry->end;
  }
  const std::size_t data_bytes = file_.bytes().size() - data_begin_;
  GIMBAL_USER_CHECK(covered == data_bytes, path_.string(), ": has ", data_bytes,
                    " bytes of data, its tensors only ", covered, kDamaged);
}

std::vector<std::string> SafetensorsReader::names() const {
  std::vector<std::string> out;
  for (const auto& [name, entry] : entries_) out.push_back(name);
  return out;
}

bool SafetensorsReader::contains(const std::string& name) const { return entries_.count(name) > 0; }

at::Tensor SafetensorsReader::tensor(const std::string& name) const {
  const auto it = entries_.find(name);
  GIMBAL_USER_CHECK(it != entries_.end(), path_.string(), ": has no tensor '", name, "'");
  const Entry& entry = it->second;
  const auto options = at::TensorOptions().dtype(entry.dtype);
  if (entry.begin == entry.end) return at::empty(entry.shape, options);
  const std::byte* data = file_.bytes().data() + data_begin_ + entry.begin;
  if (reinterpret_cast<std::uintptr_t>(data) % c10::elementSize(entry.dtype) != 0) {
    at::Tensor copy = at::empty(entry.shape, options);
    std::memcpy(copy.mutable_data_ptr(), data, entry.end - entry.begin);
    return copy;
  }
  return at::from_blob(const_cast<std::byte*>(data), entry.shape, options);
}

}  // namespace gimbal
