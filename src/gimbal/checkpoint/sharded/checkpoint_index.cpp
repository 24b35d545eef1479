#include "gimbal/checkpoint/sharded/checkpoint_index.h"

#include <filesystem>
#include <limits>

#include "gimbal/base/error.h"
#include "gimbal/checkpoint/safetensors.h"

namespace gimbal {
namespace {

Json piece_to_json(const SavedPiece& saved) {
  const auto& [piece, file] = saved;
  Json json{{"file", file}, {"begin", piece.begin}, {"numel", piece.numel}};
  if (piece.part.dim >= 0) {
    json["dim"] = piece.part.dim;
    json["part_begin"] = piece.part.begin;
    json["part_size"] = piece.part.size;
  }
  return json;
}

Json tensors_to_json(const SavedTensors& tensors) {
  Json json = Json::object();
  for (const auto& [name, tensor] : tensors) {
    Json pieces = Json::array();
    for (const SavedPiece& piece : tensor.pieces) pieces.push_back(piece_to_json(piece));
    json[name] = {{"shape", tensor.shape},
                  {"dtype", safetensors_dtype(tensor.dtype)},
                  {"pieces", std::move(pieces)}};
  }
  return json;
}

std::int64_t get_size(const Json& json, const char* key, const std::string& where) {
  const Json value = json_get<Json>(json, key, where);
  GIMBAL_USER_CHECK(value.is_number_integer() && value.get<std::int64_t>() >= 0, where, ": key '",
                    key, "' is no whole number of at least 0");
  return value.get<std::int64_t>();
}

std::vector<std::int64_t> get_shape(const Json& json, const std::string& where) {
  const auto shape = json_get<std::vector<std::int64_t>>(json, "shape", where);
  std::int64_t numel = 1;
  for (const std::int64_t size : shape) {
    GIMBAL_USER_CHECK(size >= 0 && !__builtin_mul_overflow(numel, size, &numel), where,
                      ": has no possible shape");
  }
  return shape;
}

SavedPiece piece_from_json(const Json& json, const std::string& where) {
  SavedPiece saved;
  saved.file = json_get<std::string>(json, "file", where);
  GIMBAL_USER_CHECK(
      !saved.file.empty() && std::filesystem::path(saved.file).filename() == saved.file, where,
      ": is said to be in '", saved.file, "', which is no plain file name");
  saved.piece.begin = get_size(json, "begin", where);
  saved.piece.numel = get_size(json, "numel", where);
  if (json.contains("dim")) {
    const std::int64_t dim = get_size(json, "dim", where);
    GIMBAL_USER_CHECK(dim <= std::numeric_limits<int>::max(), where, ": has no dim ", dim);
    saved.piece.part = {static_cast<int>(dim), get_size(json, "part_begin", where),
                        get_size(json, "part_size", where)};
  }
  return saved;
}

SavedTensors tensors_from_json(const Json& json, const char* key, const std::string& where) {
  const Json all = json_get<Json>(json, key, where);
  GIMBAL_USER_CHECK(all.is_object(), where, ": '", key, "' is no JSON object");
  SavedTensors tensors;
  for (const auto& [name, entry] : all.items()) {
    const std::string place = concat(where, ": '", name, "'");
    GIMBAL_USER_CHECK(entry.is_object(), place, ": is described by ", entry.dump());
    SavedTensor& tensor = tensors[name];
    tensor.shape = get_shape(entry, place);
    tensor.dtype = safetensors_scalar_type(json_get<std::string>(entry, "dtype", place), place);
    const Json pieces = json_get<Json>(entry, "pieces", place);
    GIMBAL_USER_CHECK(pieces.is_array(), place, ": key 'pieces' is no list");
    for (const Json& piece : pieces) tensor.pieces.push_back(piece_from_json(piece, place));
  }
  return tensors;
}

}  // namespace

std::int64_t SavedTensor::num_bytes() const {
  return numel_of(shape) * static_cast<std::int64_t>(c10::elementSize(dtype));
}

PieceMap SavedTensor::piece_map(const std::string& where) const {
  std::vector<TensorPiece> places;
  for (const SavedPiece& saved : pieces) places.push_back(saved.piece);
  return PieceMap(shape, places, where);
}

void add_pieces(SavedTensors& all, const SavedTensors& of_rank) {
  for (const auto& [name, tensor] : of_rank) {
    const auto [it, is_new] = all.emplace(name, tensor);
    if (is_new) continue;
    SavedTensor& known = it->second;
    GIMBAL_CHECK(known.shape == tensor.shape && known.dtype == tensor.dtype, "two ranks have '",
                 name, "' in unlike shapes or dtypes");
    known.pieces.insert(known.pieces.end(), tensor.pieces.begin(), tensor.pieces.end());
  }
}

Json to_json(const CheckpointIndex& index) {
  return {{"parameters", tensors_to_json(index.parameters)},
          {"optimizer", tensors_to_json(index.optimizer)}};
}

CheckpointIndex checkpoint_index_from_json(const Json& json, const std::string& where) {
  GIMBAL_USER_CHECK(json.is_object(), where, ": is no index of a checkpoint");
  return {tensors_from_json(json, "parameters", where),
          tensors_from_json(json, "optimizer", where)};
}

}  // namespace gimbal
