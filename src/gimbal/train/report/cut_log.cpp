#include "gimbal/train/report/cut_log.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>
#include <string_view>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/base/json.h"

namespace gimbal {
namespace {

namespace fs = std::filesystem;

/// Of a log without a tail to drop the last lines are in here.
constexpr std::uintmax_t kFirstTailBytes = std::uintmax_t{1} << 16;

struct KeptLines {
  std::string text;
  std::optional<std::int64_t> last_step;
  bool in_order = true;  // the steps of all lines, dropped ones too
};

KeptLines lines_until(std::string_view text, std::int64_t step) {
  KeptLines kept;
  std::int64_t before = std::numeric_limits<std::int64_t>::min();
  while (!text.empty()) {
    const std::size_t size = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, size);
    text.remove_prefix(std::min(size + 1, text.size()));
    const Json parsed = Json::parse(line.begin(), line.end(), nullptr, /*allow_exceptions=*/false);
    if (!parsed.is_object()) continue;
    const auto found = parsed.find("step");
    if (found != parsed.end() && found->is_number()) {
      const auto at = found->get<std::int64_t>();
      if (at < before) kept.in_order = false;
      before = at;
      if (at > step) continue;
      kept.last_step = std::max(at, kept.last_step.value_or(at));
    }
    kept.text.append(line) += '\n';
  }
  return kept;
}

std::string read_tail(const fs::path& path, std::uintmax_t begin, std::uintmax_t size) {
  std::string text(static_cast<std::size_t>(size - begin), '\0');
  std::ifstream in(path, std::ios::binary);
  in.seekg(static_cast<std::streamoff>(begin));
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  GIMBAL_USER_CHECK(in, "cannot read '", path.string(), "'");
  return text;
}

/// Where `before` is from `begin` to the end of the file, there is `after` then. In the usual case
/// that only cuts.
void replace_tail(const fs::path& path, std::uintmax_t begin, std::string_view before,
                  std::string_view after) {
  if (before == after) return;
  const auto same = static_cast<std::size_t>(
      std::mismatch(before.begin(), before.end(), after.begin(), after.end()).first -
      before.begin());
  if (same < after.size()) {
    std::fstream out(path, std::ios::binary | std::ios::in | std::ios::out);
    out.seekp(static_cast<std::streamoff>(begin + same));
    out.write(after.data() + same, static_cast<std::streamsize>(after.size() - same));
    out.close();
    GIMBAL_USER_CHECK(out, "cannot write '", path.string(),
                      "'. Is the disk full, or the run folder not writable?");
  }
  std::error_code error;
  fs::resize_file(path, begin + after.size(), error);
  GIMBAL_USER_CHECK(!error, "cannot write '", path.string(), "': ", error.message());
}

}  // namespace

std::optional<std::int64_t> cut_log(const fs::path& path, std::int64_t step) {
  std::error_code error;
  const std::uintmax_t size = fs::file_size(path, error);
  GIMBAL_USER_CHECK(!error, "cannot read '", path.string(), "': ", error.message());
  for (std::uintmax_t tail_bytes = std::min(size, kFirstTailBytes);;
       tail_bytes = std::min(size, 2 * tail_bytes)) {
    std::uintmax_t begin = size - tail_bytes;
    const bool is_whole = begin == 0;
    std::string tail = read_tail(path, begin, size);
    if (!is_whole) {
      // The first line has its begin before the tail.
      const std::size_t part = std::min(tail.find('\n'), tail.size() - 1) + 1;
      tail.erase(0, part);
      begin += part;
    }
    KeptLines kept = lines_until(tail, step);
    if (!kept.in_order) {
      kept = lines_until(read_file(path), step);
      write_file_atomic(path, kept.text);
      return kept.last_step;
    }
    if (!is_whole && !kept.last_step) continue;
    replace_tail(path, begin, tail, kept.text);
    return kept.last_step;
  }
}

}  // namespace gimbal
