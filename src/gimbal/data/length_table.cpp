#include "gimbal/data/length_table.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "gimbal/base/error.h"
#include "gimbal/data/dataset.h"

namespace gimbal {
namespace {

namespace fs = std::filesystem;

std::string joined_names(std::span<const std::string> names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ",") + name;
  return text;
}

// The name of a source: the stem, with `depth` folders before it.
std::string source_name(const fs::path& file, int depth) {
  fs::path name = file.stem();
  fs::path folder = file.parent_path();
  for (int i = 0; i < depth && folder.has_filename(); ++i, folder = folder.parent_path()) {
    name = folder.filename() / name;
  }
  return name.string();
}

// Reads a binary table front to back.
class TableBytes {
 public:
  TableBytes(std::string_view bytes, const fs::path& file) : bytes_(bytes), file_(file) {}

  const char* take(std::size_t count) {
    GIMBAL_USER_CHECK(count <= bytes_.size(), file_.string(),
                      ": the table that Python sent ends early; try again, or give a CSV file");
    const char* begin = bytes_.data();
    bytes_.remove_prefix(count);
    return begin;
  }
  template <typename T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof(T)), sizeof(T));
    return value;
  }
  std::size_t left() const { return bytes_.size(); }

 private:
  std::string_view bytes_;
  fs::path file_;
};

}  // namespace

std::string LengthTable::describe_sample(std::size_t sample) const {
  if (dataset) return dataset->describe_sample(sample);
  // The last file that begins at or before the sample; files without samples begin where the next
  // one does.
  const auto after = std::upper_bound(
      files.begin(), files.end(), sample,
      [](std::size_t value, const File& file) { return value < file.first_sample; });
  GIMBAL_CHECK(sample < num_samples() && after != files.begin(), "sample ", sample);
  const File& file = *(after - 1);
  return concat(file.name, " ", file.unit, " ", sample - file.first_sample + file.first_unit);
}

std::vector<std::size_t> match_length_streams(LengthTable& table,
                                              std::span<const std::string> names,
                                              const std::string& where) {
  GIMBAL_USER_CHECK(names.size() <= kMaxTableStreams, where, ": names ", names.size(),
                    " streams, the most is ", kMaxTableStreams,
                    "; leave out the columns that are no sizes");
  for (std::size_t i = 0; i < names.size(); ++i) {
    GIMBAL_USER_CHECK(std::find(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(i),
                                names[i]) == names.begin() + static_cast<std::ptrdiff_t>(i),
                      where, ": column ", names[i], " occurs twice; leave one of them out");
  }
  if (table.streams.empty()) table.streams.assign(names.begin(), names.end());
  std::vector<std::size_t> places;
  for (const std::string& name : names) {
    const auto place = std::find(table.streams.begin(), table.streams.end(), name);
    if (place == table.streams.end()) break;
    places.push_back(static_cast<std::size_t>(place - table.streams.begin()));
  }
  GIMBAL_USER_CHECK(places.size() == names.size() && names.size() == table.streams.size(), where,
                    ": names the streams ", joined_names(names), ", but ",
                    table.files.empty() ? "before" : table.files.front().name, " has ",
                    joined_names(table.streams), "; all files must have the same streams");
  return places;
}

void add_length_binary(LengthTable& table, std::string_view bytes, const fs::path& file) {
  TableBytes input(bytes, file);
  GIMBAL_USER_CHECK(bytes.starts_with("GBTABLE1"), file.string(),
                    ": Python sent no table of lengths; try again, or give a CSV file");
  input.take(8);
  const auto num_streams = input.number<std::uint32_t>();
  const auto num_samples = input.number<std::uint64_t>();
  GIMBAL_USER_CHECK(num_streams >= 1, file.string(),
                    ": has no columns; it must have one per stream");
  std::vector<std::string> names;
  for (std::uint32_t i = 0; i < num_streams; ++i) {
    const auto length = input.number<std::uint32_t>();
    names.emplace_back(input.take(length), length);
    GIMBAL_USER_CHECK(!names.back().ends_with(".pairs"), file.string(), ": column ", names.back(),
                      ": pairs are read from CSV files only; leave the column out, or write the "
                      "table as CSV");
  }
  const std::vector<std::size_t> places = match_length_streams(table, names, file.string());
  const std::size_t row_bytes = names.size() * sizeof(std::uint32_t);
  GIMBAL_USER_CHECK(input.left() % row_bytes == 0 && input.left() / row_bytes == num_samples,
                    file.string(), ": the table that Python sent has ", input.left(),
                    " bytes of sizes instead of ", num_samples, " x ", row_bytes,
                    "; try again, or give a CSV file");

  const std::size_t before = table.num_samples();
  table.files.push_back({file.string(), before, "row", 1});
  const char* values = input.take(input.left());
  table.rows.resize((before + num_samples) * names.size());
  std::uint32_t* out = table.rows.data() + before * names.size();
  for (std::uint64_t i = 0; i < num_samples; ++i, out += names.size(), values += row_bytes) {
    for (std::size_t k = 0; k < names.size(); ++k) {
      std::memcpy(out + places[k], values + k * sizeof(std::uint32_t), sizeof(std::uint32_t));
    }
  }
  if (!table.pairs.empty()) {
    for (std::size_t i = table.pairs.size(); i < table.rows.size(); ++i) {
      table.pairs.push_back(std::uint64_t{table.rows[i]} * table.rows[i]);
    }
  }
  table.sources.resize(before + num_samples, static_cast<std::uint32_t>(table.files.size() - 1));
}

void name_length_sources(LengthTable& table) {
  const std::size_t count = table.files.size();
  table.source_names.assign(count, {});
  table.source_weights.assign(count, 1.0);
  // Names that are equal get one folder more, until no folder is left; the same file once more
  // gets a number.
  constexpr int kMostFolders = 64;
  for (int depth = 0; depth <= kMostFolders; ++depth) {
    std::map<std::string, std::size_t> times;
    for (const std::string& name : table.source_names) ++times[name];
    for (std::size_t i = 0; i < count; ++i) {
      if (times[table.source_names[i]] > 1 || depth == 0) {
        table.source_names[i] = source_name(table.files[i].name, depth);
      }
    }
  }
  std::map<std::string, std::size_t> seen;
  for (std::string& name : table.source_names) {
    const std::size_t number = ++seen[name];
    if (number > 1) name += concat("#", number);
  }
}

LengthTable read_length_csv(std::span<const fs::path> files) {
  GIMBAL_USER_CHECK(!files.empty(), "no file of lengths is given; give one CSV file or more");
  LengthTable table;
  for (const fs::path& file : files) add_length_csv(table, file);
  name_length_sources(table);
  return table;
}

LengthTable read_dataset_lengths(const fs::path& folder) {
  LengthTable table;
  auto dataset = std::make_shared<const Dataset>(folder);
  const auto samples = dataset->samples();
  const bool audio = std::any_of(samples.begin(), samples.end(),
                                 [](const SampleRecord& record) { return record.audio_rows > 0; });
  table.streams = {"text", "vision"};
  if (audio) table.streams.emplace_back("audio");
  const std::size_t streams = table.streams.size();
  table.rows.reserve(samples.size() * streams);
  table.pairs.reserve(samples.size() * streams);
  table.sources.reserve(samples.size());
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const SampleRecord& record = samples[i];
    std::uint64_t media_pairs = 0;
    for (const std::uint32_t item : dataset->media_refs(i)) {
      const std::uint64_t rows = dataset->media(item).rows;
      media_pairs += rows * rows;
    }
    const std::uint64_t text = record.num_tokens;
    table.rows.push_back(record.num_tokens);
    table.rows.push_back(record.vision_rows);
    table.pairs.push_back(text * text);
    table.pairs.push_back(media_pairs);
    if (audio) {
      table.rows.push_back(record.audio_rows);
      table.pairs.push_back(std::uint64_t{record.audio_rows} * record.audio_rows);
    }
    table.sources.push_back(record.source);
  }
  for (const DatasetSource& source : dataset->sources()) {
    table.source_names.push_back(source.name);
    table.source_weights.push_back(source.weight);
  }
  table.files.push_back({folder.string(), 0, "sample", 0});
  table.dataset = std::move(dataset);
  return table;
}

}  // namespace gimbal
