#include "apps/cli/balance/input.h"

#include <filesystem>

#include "apps/cli/process.h"
#include "gimbal/base/error.h"

namespace gimbal::cli {
namespace {

namespace fs = std::filesystem;

bool python_reads(const fs::path& file) {
  const std::string ending = file.extension().string();
  return ending == ".parquet" || ending == ".npy";
}

}  // namespace

LengthTable read_balance_input(const std::vector<std::string>& files) {
  LengthTable table;
  for (const std::string& name : files) {
    const fs::path file(name);
    GIMBAL_USER_CHECK(fs::exists(file), name,
                      ": no such file; give CSV, Parquet or .npy files, or a dataset folder");
    if (fs::is_directory(file)) {
      GIMBAL_USER_CHECK(fs::exists(file / "manifest.json"), name,
                        ": is a folder without manifest.json; give CSV, Parquet or .npy files, or "
                        "a finished dataset folder (gimbal prepare)");
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
