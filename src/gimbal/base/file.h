// Whole files: reading, and writing so that a reader sees the old content or the new one, never a
// part.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "gimbal/base/error.h"

namespace gimbal {

/// The system has refused something with a file; the message has the path and the reason.
class FileError : public UserError {
 public:
  FileError(const std::string& message, int code) : UserError(message), code_(code) {}
  /// As errno says it.
  int code() const { return code_; }

 private:
  int code_;
};

/// The content. Throws FileError when the file cannot be read.
std::string read_file(const std::filesystem::path& path);

/// Calls `use` with the content, block by block. Throws FileError when the file cannot be read.
void read_blocks(const std::filesystem::path& path,
                 const std::function<void(const char* data, std::size_t size_bytes)>& use);

/// Writes to a temporary name beside `path`, syncs, renames. Throws FileError (path, reason) and
/// leaves no temporary file behind.
void write_file_atomic(const std::filesystem::path& path, std::string_view content);

/// Returns when the file's content is on the disk, whoever has written it. Throws FileError.
void sync_file(const std::filesystem::path& path);

/// An output file that reports every failure (full disk, no permission) as FileError with its path.
class OutputFile {
 public:
  explicit OutputFile(const std::filesystem::path& path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(const void* data, std::size_t size_bytes);
  void write_at(std::size_t offset, const void* data, std::size_t size_bytes);
  /// Flushes to the disk and closes.
  void close();

 private:
  std::filesystem::path path_;
  int fd_ = -1;
};

/// A folder that becomes visible under its final name only when commit() is called; removed when it
/// is not.
class AtomicFolder {
 public:
  explicit AtomicFolder(std::filesystem::path final_path);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  /// Removes what a killed process has left beside `final_path`. A folder that it was replacing,
  /// and has not replaced, is put back. Throws FileError.
  static void clear_leftovers(const std::filesystem::path& final_path);

  const std::filesystem::path& final_path() const { return final_; }
  /// Where to write the files.
  const std::filesystem::path& path() const { return temporary_; }
  /// Syncs the folder and renames it. An existing final folder is replaced.
  void commit();

 private:
  std::filesystem::path final_;
  std::filesystem::path temporary_;
  bool committed_ = false;
};

/// Makes the folder and its parents. Throws UserError when that fails.
void make_folders(const std::filesystem::path& path);

}  // namespace gimbal
