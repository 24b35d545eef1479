#include "gimbal/checkpoint/sharded/rank_file.h"

#include <algorithm>
#include <cstdio>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/checkpoint/safetensors.h"

namespace gimbal {
namespace {

std::string rank_name(int rank, const char* ending) {
  char name[48];
  std::snprintf(name, sizeof(name), "rank-%05d.%s", rank, ending);
  return name;
}

std::vector<PlacedPiece> written_ones(std::vector<PlacedPiece> pieces) {
  std::erase_if(pieces, [](const PlacedPiece& piece) { return !piece.writes; });
  return pieces;
}

// An entry without pieces says that a tensor without values exists.
void add_to_index(const std::vector<PlacedPiece>& pieces, const std::string& file,
                  SavedTensors& index) {
  for (const PlacedPiece& placed : pieces) {
    SavedTensor tensor{placed.shape, placed.values.scalar_type(), {}};
    if (placed.piece.numel > 0) tensor.pieces.push_back({placed.piece, file});
    GIMBAL_CHECK(index.emplace(placed.name, std::move(tensor)).second, "two pieces of '",
                 placed.name, "' on one rank");
  }
}

}  // namespace

RankPieces pieces_to_write(const std::vector<FlatShard>& shards,
                           const std::vector<OptimizerTensors>& optimizer) {
  return {written_ones(parameter_pieces(shards)),
          written_ones(optimizer_pieces(shards, optimizer))};
}

RankFile write_rank_file(const std::filesystem::path& folder, int rank, const RankPieces& pieces,
                         const std::atomic<bool>& stop) {
  RankFile out;
  out.file = rank_name(rank, "safetensors");
  add_to_index(pieces.parameters, out.file, out.index.parameters);
  add_to_index(pieces.optimizer, out.file, out.index.optimizer);

  std::vector<const PlacedPiece*> order;
  for (const PlacedPiece& piece : pieces.parameters) order.push_back(&piece);
  for (const PlacedPiece& piece : pieces.optimizer) order.push_back(&piece);
  std::erase_if(order, [](const PlacedPiece* piece) { return piece->piece.numel == 0; });
  // As the writer lays out the data: what is written in order can be hashed on the way.
  std::stable_sort(order.begin(), order.end(), [](const PlacedPiece* a, const PlacedPiece* b) {
    return a->values.element_size() > b->values.element_size();
  });
  std::vector<TensorSpec> specs;
  for (const PlacedPiece* piece : order)
    specs.push_back({piece->name, piece->values.scalar_type(), {piece->piece.numel}});
  SafetensorsWriter writer(folder / out.file, specs, {{"format", "pt"}}, FileHash::kYes);
  for (const PlacedPiece* piece : order) {
    if (stop) throw InterruptedSave();
    writer.write(piece->name, piece->values);
  }
  writer.close();
  out.bytes = writer.num_bytes();
  out.sha256 = writer.sha256();
  return out;
}

std::filesystem::path rank_file_path(const std::filesystem::path& folder, int rank) {
  return folder / rank_name(rank, "safetensors");
}

std::filesystem::path writing_note_path(const std::filesystem::path& folder, int rank) {
  return folder / rank_name(rank, "writing");
}

std::filesystem::path done_note_path(const std::filesystem::path& folder, int rank) {
  return folder / rank_name(rank, "done.json");
}

void write_done_note(const std::filesystem::path& folder, int rank, const RankFile& file) {
  Json json = to_json(file.index);
  json["file"] = file.file;
  json["bytes"] = file.bytes;
  json["sha256"] = file.sha256;
  write_file_atomic(done_note_path(folder, rank), json.dump());
}

RankFile read_done_note(const std::filesystem::path& folder, int rank) {
  const std::filesystem::path path = done_note_path(folder, rank);
  const std::string where = path.string();
  const Json json = read_json(path);
  return {json_get<std::string>(json, "file", where), json_get<std::uint64_t>(json, "bytes", where),
          json_get<std::string>(json, "sha256", where), checkpoint_index_from_json(json, where)};
}

}  // namespace gimbal
