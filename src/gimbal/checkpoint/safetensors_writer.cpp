#include <algorithm>
#include <functional>
#include <numeric>
#include <optional>
#include <set>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/base/json.h"
#include "gimbal/base/sha256.h"
#include "gimbal/checkpoint/safetensors.h"
#include "gimbal/checkpoint/safetensors_dtype.h"

namespace gimbal {
namespace {

constexpr std::size_t kHeaderAlign =
    64;  // data begins at a cache line; the header is padded with spaces

// Where each tensor's data begins. Wide elements come first, so that every tensor is aligned to its
// element size.
std::vector<std::size_t> place_tensors(const std::vector<TensorSpec>& specs) {
  std::vector<std::size_t> order(specs.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return c10::elementSize(specs[a].dtype) > c10::elementSize(specs[b].dtype);
  });
  std::vector<std::size_t> begins(specs.size());
  std::size_t end = 0;
  for (const std::size_t i : order) {
    begins[i] = end;
    end += static_cast<std::size_t>(specs[i].num_bytes());
  }
  return begins;
}

}  // namespace

std::string safetensors_dtype(at::ScalarType dtype) {
  for (const auto& [text, known] : kSafetensorsDtypes) {
    if (known == dtype) return std::string(text);
  }
  GIMBAL_CHECK(false, "dtype ", c10::toString(dtype), " has no name in safetensors files");
}

std::int64_t TensorSpec::numel() const {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

std::int64_t TensorSpec::num_bytes() const {
  return numel() * static_cast<std::int64_t>(c10::elementSize(dtype));
}

struct SafetensorsWriter::State {
  std::filesystem::path path;
  std::vector<TensorSpec> specs;
  std::vector<std::size_t> begins;
  OutputFile file;
  std::optional<Sha256> hash;
  std::size_t hashed_bytes = 0;
  std::size_t data_begin = 0;
  std::size_t num_written = 0;

  void write_at(std::size_t offset, const void* data, std::size_t num_bytes) {
    if (hash) {
      GIMBAL_CHECK_EQ(offset, hashed_bytes, "only what is written in order can be hashed");
      hash->update(data, num_bytes);
      hashed_bytes += num_bytes;
    }
    file.write_at(offset, data, num_bytes);
  }
};

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path,
                                     const std::vector<TensorSpec>& specs,
                                     const std::map<std::string, std::string>& metadata,
                                     FileHash hash)
    : state_(new State{path, specs, place_tensors(specs), OutputFile(path), std::nullopt}) {
  if (hash == FileHash::kYes) state_->hash.emplace();
  std::set<std::string> names{"__metadata__"};
  std::string text = "{";
  if (!metadata.empty()) text += "\"__metadata__\":" + Json(metadata).dump();
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const TensorSpec& spec = specs[i];
    GIMBAL_CHECK(names.insert(spec.name).second, "two tensors named '", spec.name, "'");
    const std::size_t end = state_->begins[i] + static_cast<std::size_t>(spec.num_bytes());
    const Json entry{{"dtype", safetensors_dtype(spec.dtype)},
                     {"shape", spec.shape},
                     {"data_offsets", {state_->begins[i], end}}};
    text += concat(text.size() > 1 ? "," : "", Json(spec.name).dump(), ":", entry.dump());
  }
  text += "}";
  std::uint64_t length = text.size() + sizeof(length);
  length = (length + kHeaderAlign - 1) / kHeaderAlign * kHeaderAlign - sizeof(length);
  text.resize(length, ' ');
  state_->write_at(0, &length, sizeof(length));
  state_->write_at(sizeof(length), text.data(), text.size());
  state_->data_begin = sizeof(length) + length;
}

SafetensorsWriter::~SafetensorsWriter() = default;

void SafetensorsWriter::write(const std::string& name, const at::Tensor& values) {
  GIMBAL_CHECK(state_->num_written < state_->specs.size(), "'", name, "' is one tensor too many");
  const TensorSpec& spec = state_->specs[state_->num_written];
  GIMBAL_CHECK_EQ(name, spec.name, "tensors out of order");
  GIMBAL_CHECK(values.scalar_type() == spec.dtype && values.sizes() == at::IntArrayRef(spec.shape),
               "'", name, "' is ", values.toString(), values.sizes(), " instead of ",
               safetensors_dtype(spec.dtype), at::IntArrayRef(spec.shape));
  const at::Tensor flat = values.detach().to(at::kCPU).contiguous();
  state_->write_at(state_->data_begin + state_->begins[state_->num_written], flat.const_data_ptr(),
                   static_cast<std::size_t>(spec.num_bytes()));
  ++state_->num_written;
}

void SafetensorsWriter::close() {
  GIMBAL_CHECK_EQ(state_->num_written, state_->specs.size(), "tensors written to ",
                  state_->path.string());
  state_->file.close();
}

std::uint64_t SafetensorsWriter::num_bytes() const {
  std::uint64_t bytes = state_->data_begin;
  for (const TensorSpec& spec : state_->specs)
    bytes += static_cast<std::uint64_t>(spec.num_bytes());
  return bytes;
}

std::string SafetensorsWriter::sha256() {
  GIMBAL_CHECK(state_->hash.has_value(), "no hash was asked for");
  GIMBAL_CHECK_EQ(state_->num_written, state_->specs.size(), "an unfinished file");
  return state_->hash->finish();
}

}  // namespace gimbal
