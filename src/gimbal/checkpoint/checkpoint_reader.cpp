#include "gimbal/checkpoint/checkpoint_reader.h"

#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>

#include <cstring>

#include "gimbal/base/error.h"
#include "gimbal/checkpoint/sharded/state_file.h"

namespace gimbal {
namespace {

TensorPiece whole_tensor(const std::vector<std::int64_t>& shape) {
  return {{}, 0, numel_of(shape)};
}

}  // namespace

void MappedPieces::copy(const TensorPiece& wanted, const at::Tensor& out) const {
  if (wanted.numel == 0) return;
  GIMBAL_CHECK(out.dim() == 1 && out.numel() == wanted.numel && out.is_contiguous(),
               "values to read into are not flat");
  const c10::AutoGradMode no_grad(false);
  const at::Tensor host =
      out.is_cpu() ? out : at::empty({wanted.numel}, out.options().device(at::kCPU));
  auto* to = static_cast<std::byte*>(host.mutable_data_ptr());
  const auto size = static_cast<std::int64_t>(host.element_size());
  map_.for_each_copy(wanted, [&](const PieceCopy& run) {
    const auto* from = static_cast<const std::byte*>(pieces_[run.piece].const_data_ptr());
    std::memcpy(to + run.to * size, from + run.from * size,
                static_cast<std::size_t>(run.numel * size));
  });
  if (!out.is_cpu()) out.copy_(host);
}

CheckpointReader::CheckpointReader(const std::filesystem::path& checkpoint) : path_(checkpoint) {
  const StateFile state_file = read_state_file(path_);
  for (const auto& [name, expected] : state_file.files) check_file_size(path_ / name, expected);
  state_ = state_file.state;
  mesh_ = state_file.mesh;
  if (state_file.version == 1) {
    index_version_1(kModelFile, index_.parameters);
    index_version_1(kOptimizerFile, index_.optimizer);
    return;
  }
  const std::filesystem::path index = path_ / kIndexFile;
  check_file(index, state_file.files.at(kIndexFile));
  index_ = checkpoint_index_from_json(read_json(index), index.string());
  for (const SavedTensors* tensors : {&index_.parameters, &index_.optimizer}) {
    for (const auto& [name, tensor] : *tensors) {
      for (const SavedPiece& piece : tensor.pieces) {
        GIMBAL_USER_CHECK(state_file.files.count(piece.file) > 0, index.string(), ": '", name,
                          "' is said to be in '", piece.file,
                          "', which is none of the checkpoint's files");
      }
    }
  }
}

// Version 1: every tensor whole in one of two files.
void CheckpointReader::index_version_1(const char* file_name, SavedTensors& tensors) const {
  const SafetensorsReader& reader = file(file_name);
  for (const std::string& name : reader.names()) {
    const at::Tensor tensor = reader.tensor(name);
    SavedTensor& saved = tensors[name];
    saved.shape = tensor.sizes().vec();
    saved.dtype = tensor.scalar_type();
    if (tensor.numel() > 0) saved.pieces.push_back({whole_tensor(saved.shape), file_name});
  }
}

const SafetensorsReader& CheckpointReader::file(const std::string& name) const {
  auto& reader = files_[name];
  if (!reader) reader = std::make_unique<SafetensorsReader>(path_ / name);
  return *reader;
}

std::vector<std::string> CheckpointReader::names() const {
  std::vector<std::string> out;
  for (const auto& [name, tensor] : index_.parameters) out.push_back(name);
  return out;
}

MappedPieces CheckpointReader::open(const std::string& name, const SavedTensor& saved,
                                    const TensorPiece& wanted) const {
  MappedPieces mapped(saved.piece_map(concat(path_.string(), ": '", name, "'")));
  mapped.pieces_.resize(saved.pieces.size());
  mapped.map_.for_each_copy(wanted, [&](const PieceCopy& run) {
    at::Tensor& piece = mapped.pieces_[run.piece];
    if (piece.defined()) return;
    const SavedPiece& place = saved.pieces[run.piece];
    piece = file(place.file).tensor(name);
    GIMBAL_USER_CHECK(piece.scalar_type() == saved.dtype && piece.numel() == place.piece.numel,
                      (path_ / place.file).string(), ": '", name, "' has ", piece.numel(),
                      " values of ", safetensors_dtype(piece.scalar_type()),
                      ", the checkpoint's index says ", place.piece.numel, " of ",
                      safetensors_dtype(saved.dtype), "; the checkpoint is damaged");
  });
  return mapped;
}

at::Tensor CheckpointReader::tensor(const std::string& name) const {
  const auto it = index_.parameters.find(name);
  GIMBAL_USER_CHECK(it != index_.parameters.end(), path_.string(), ": has no parameter '", name,
                    "'");
  const SavedTensor& saved = it->second;
  const TensorPiece whole = whole_tensor(saved.shape);
  const MappedPieces mapped = open(name, saved, whole);
  if (mapped.pieces_.size() == 1) return mapped.pieces_.front().view(saved.shape);
  at::Tensor out = at::empty({whole.numel}, saved.dtype);
  mapped.copy(whole, out);
  return out.view(saved.shape);
}

}  // namespace gimbal
