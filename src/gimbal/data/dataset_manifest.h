// manifest.json of a dataset folder (docs/dataset_format.md) as plain values.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "gimbal/data/dataset.h"

namespace gimbal {

struct DatasetManifest {
  struct Counts {
    std::uint64_t samples = 0;
    std::uint64_t tokens = 0;
    std::uint64_t loss_tokens = 0;
    std::uint64_t loss_spans = 0;
    std::uint64_t vision_rows = 0;
    std::uint64_t media_refs = 0;
    std::uint64_t media = 0;
  };
  struct File {
    std::uint64_t bytes = 0;
    std::string sha256;
  };

  Counts counts;
  std::vector<DatasetSource> sources;
  std::filesystem::path media_root;  // absolute, or relative to the dataset folder
  DatasetModelInfo model;
  ImageProcessorConfig image_processor;
  std::map<std::string, File> files;
};

/// Throws UserError when the folder or its manifest is missing, unfinished, of another format
/// version, or has a missing or wrong key.
DatasetManifest read_dataset_manifest(const std::filesystem::path& folder);

/// Reads the `image_processor` object of a manifest. `where` names the file in messages.
ImageProcessorConfig read_image_processor(const std::filesystem::path& json_file);

}  // namespace gimbal
