// The safetensors file format: an 8-byte header length, a JSON header, then raw little-endian data.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gimbal/base/mapped_file.h"

namespace gimbal {

/// A file mapped read-only. Tensors are views of the mapping: no copy.
class SafetensorsReader {
 public:
  /// Validates the whole header: lengths, dtypes, shapes, and that the tensors cover the data
  /// without overlap or hole. Throws UserError that names file, tensor and numbers.
  explicit SafetensorsReader(const std::filesystem::path& path);

  /// In alphabetical order.
  std::vector<std::string> names() const;
  bool contains(const std::string& name) const;
  /// A view of the file, valid while the reader lives; reading it reads the disk, writing it is a
  /// fault. A tensor that the file does not align to its element size is copied. Throws UserError
  /// when there is no such tensor.
  at::Tensor tensor(const std::string& name) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  struct Entry {
    at::ScalarType dtype;
    std::vector<std::int64_t> shape;
    std::size_t begin, end;  // in the data part
  };
  void read_header();
  void check_cover() const;

  std::filesystem::path path_;
  MappedFile file_;
  std::size_t data_begin_ = 0;
  std::map<std::string, Entry> entries_;
  std::map<std::string, std::string> metadata_;
};

/// What a tensor will be, before its values exist.
struct TensorSpec {
  std::string name;
  at::ScalarType dtype;
  std::vector<std::int64_t> shape;

  std::int64_t numel() const;
  std::int64_t num_bytes() const;
};

/// Whether a file's SHA-256 is taken while it is written.
enum class FileHash { kNo, kYes };

/// Writes tensors one at a time, so that no second copy of the whole file is in memory. All of
/// `specs` have to be written, in their order; for a hash wide elements come first, because the
/// data lie in that order. Every failed write throws UserError with the path.
class SafetensorsWriter {
 public:
  SafetensorsWriter(const std::filesystem::path& path, const std::vector<TensorSpec>& specs,
                    const std::map<std::string, std::string>& metadata,
                    FileHash hash = FileHash::kNo);
  ~SafetensorsWriter();
  /// `values` has the dtype and shape of the next spec, on any device, with any strides.
  void write(const std::string& name, const at::Tensor& values);
  /// Flushes to the disk.
  void close();
  std::uint64_t num_bytes() const;
  /// After close(), of a writer with FileHash::kYes.
  std::string sha256();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The format's name of a dtype, such as "BF16". Throws InternalError for one that the format
/// lacks.
std::string safetensors_dtype(at::ScalarType dtype);

/// The other way. Throws UserError that begins with `where` and lists the known names.
at::ScalarType safetensors_scalar_type(const std::string& name, const std::string& where);

}  // namespace gimbal
