#include "apps/cli/balance/input.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <string_view>

#include "apps/cli/process.h"
#include "gimbal/base/error.h"

namespace gimbal::cli {
namespace {

namespace fs = std::filesystem;

// As python/gimbal/balance/lengths.py has them (ARRAY_FILES, PARQUET_FILES), in any case.
constexpr std::array<std::string_view, 4> kPythonEndings{".npy", ".npz", ".parquet", ".pq"};

bool python_reads(const fs::path& file) {
  std::string ending = file.extension().string();
  std::transform(ending.begin(), ending.end(), ending.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return std::find(kPythonEndings.begin(), kPythonEndings.end(), ending) != kPythonEndings.end();
}

}  // namespace

LengthTable read_balance_input(const std::vector<std::string>& files) {
  LengthTable table;
  for (const std::string& name : files) {
    const fs::path file(name);
    GIMBAL_USER_CHECK(fs::exists(file), name,
                      ": no such file; give CSV, Parquet, .npy or .npz files, or a dataset folder");
    if (fs::is_directory(file)) {
      GIMBAL_USER_CHECK(fs::exists(file / "manifest.json"), name,
                        ": is a folder without manifest.json; give CSV, Parquet, .npy or .npz "
                        "files, or a finished dataset folder (gimbal prepare)");
      GIMBAL_USER_CHECK(files.size() == 1, name,
                        ": is a dataset folder, which is given alone; leave the other inputs out");
      return read_dataset_lengths(file);
    }
    if (python_reads(file)) {
      add_length_binary(table, run_python({"gimbal.balance.tables", name}), file);
    } else {
      add_length_csv(table, file);
    }
  }
  name_length_sources(table);
  return table;
}

}  // namespace gimbal::cli
