// What the checkpoint folder reads and writes, for the Python tests:
//   checkpoint_tool dump FILE                     a safetensors file as JSON
//   checkpoint_tool copy FILE OUT                 reads a safetensors file, writes it anew
//   checkpoint_tool resave FOLDER OUT SHARD_BYTES reads a model folder, writes it anew
//   checkpoint_tool fingerprints FOLDER           tokenizer and processor fingerprints
//   checkpoint_tool save FILE RUN DP_REPLICATE DP_SHARD TP   a checkpoint of several ranks
//   checkpoint_tool verify CHECKPOINT             whether it is complete and undamaged
//   checkpoint_tool assemble CHECKPOINT OUT       its parameters whole in one safetensors file
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/base/json.h"
#include "gimbal/base/sha256.h"
#include "gimbal/checkpoint/hf_folder.h"
#include "gimbal/checkpoint/run_checkpoint.h"
#include "sharded.h"

namespace {

using namespace gimbal;

std::vector<TensorSpec> specs_of(const auto& source) {
  std::vector<TensorSpec> specs;
  for (const std::string& name : source.names()) {
    const at::Tensor tensor = source.tensor(name);
    specs.push_back({name, tensor.scalar_type(), tensor.sizes().vec()});
  }
  return specs;
}

Json dump(const SafetensorsReader& reader) {
  Json out{{"metadata", reader.metadata()}, {"tensors", Json::object()}};
  for (const TensorSpec& spec : specs_of(reader)) {
    Sha256 hash;
    hash.update(reader.tensor(spec.name).const_data_ptr(),
                static_cast<std::size_t>(spec.num_bytes()));
    out["tensors"][spec.name] = {
        {"dtype", safetensors_dtype(spec.dtype)}, {"shape", spec.shape}, {"sha256", hash.finish()}};
  }
  return out;
}

int run(const std::vector<std::string>& args) {
  const std::string command = args.empty() ? "" : args[0];
  if (command == "dump" && args.size() == 2) {
    std::cout << dump(SafetensorsReader(args[1])).dump() << "\n";
  } else if (command == "copy" && args.size() == 3) {
    const SafetensorsReader reader(args[1]);
    const std::vector<TensorSpec> specs = specs_of(reader);
    SafetensorsWriter writer(args[2], specs, reader.metadata());
    for (const TensorSpec& spec : specs) writer.write(spec.name, reader.tensor(spec.name));
    writer.close();
  } else if (command == "resave" && args.size() == 4) {
    const HfWeights weights(args[1]);
    const std::vector<TensorSpec> specs = specs_of(weights);
    save_hf_folder(
        args[2], args[1], read_file(args[1] + "/config.json"), specs,
        [&](std::size_t i) { return weights.tensor(specs[i].name); }, std::stoll(args[3]));
  } else if (command == "fingerprints" && args.size() == 2) {
    std::cout << Json{{"tokenizer", tokenizer_sha256(args[1])},
                      {"processor", processor_sha256(args[1])}}
                     .dump()
              << "\n";
  } else if (command == "save" && args.size() == 6) {
    save_sharded(args[1], args[2], std::stoi(args[3]), std::stoi(args[4]), std::stoi(args[5]));
  } else if (command == "verify" && args.size() == 2) {
    std::cout << to_json(verify_checkpoint(args[1])).dump() << "\n";
  } else if (command == "assemble" && args.size() == 3) {
    assemble(args[1], args[2]);
  } else {
    std::cerr
        << "usage: checkpoint_tool dump FILE | copy FILE OUT | resave FOLDER OUT SHARD_BYTES "
           "| fingerprints FOLDER | save FILE RUN DP_REPLICATE DP_SHARD TP | verify CHECKPOINT "
           "| assemble CHECKPOINT OUT\n";
    return 2;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run({argv + 1, argv + argc});
  } catch (const gimbal::UserError& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 2;
  }
}
