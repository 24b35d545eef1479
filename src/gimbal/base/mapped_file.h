// A file mapped read-only into memory; pages are shared by all processes that map it.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace gimbal {

class MappedFile {
 public:
  MappedFile() = default;
  /// Throws UserError when the file cannot be opened or mapped. An empty file gives an empty span.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  std::span<const std::byte> bytes() const { return {data_, size_}; }

  /// The content as an array of T. Throws UserError naming the file when the size is no multiple of
  /// sizeof(T).
  template <typename T>
  std::span<const T> as() const {
    check_record_size(sizeof(T));
    return {reinterpret_cast<const T*>(data_), size_ / sizeof(T)};
  }

 private:
  void check_record_size(std::size_t record_bytes) const;

  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::filesystem::path path_;
};

}  // namespace gimbal
