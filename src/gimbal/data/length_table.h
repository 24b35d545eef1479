// Sample sizes from tables: CSV files with a header, what `python -m gimbal.balance.tables` prints,
// or a dataset folder's index.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gimbal {

class Dataset;

inline constexpr std::size_t kMaxTableStreams = 8;

/// N samples x K streams with where they come from.
struct LengthTable {
  std::vector<std::string> streams;       // [K], from the header
  std::vector<std::uint32_t> rows;        // [N * K]
  std::vector<std::uint64_t> pairs;       // [N * K]; empty: rows^2
  std::vector<std::uint32_t> sources;     // [N], index into source_names
  std::vector<std::string> source_names;  // unique: the files' stems, or the dataset's sources
  std::vector<double> source_weights;     // per source; 1 for files
  /// A file that was read: its name as given, its first sample, and how its samples are counted.
  struct File {
    std::string name;
    std::uint64_t first_sample;
    const char* unit;          // "line", "row"
    std::uint64_t first_unit;  // of the first sample: 2 for a CSV file, whose header is line 1
  };
  std::vector<File> files;
  std::shared_ptr<const Dataset> dataset;  // of a dataset folder; names its samples

  std::size_t num_samples() const { return streams.empty() ? 0 : rows.size() / streams.size(); }
  /// "docvqa.csv line 12" of a sample.
  std::string describe_sample(std::size_t sample) const;
};

/// Reads the files as one table, in the given order; each file is a source. All must name the same
/// streams; the order of columns may differ. A column NAME.pairs gives what attends in stream NAME
/// (StreamCost::per_pair). Throws UserError that names file, line and column for what is not a
/// whole number from 0 to 2^32 - 1 (pairs: 2^64 - 1).
LengthTable read_length_csv(std::span<const std::filesystem::path> files);

/// The sizes of a dataset folder (streams text, vision; audio when there is any). The pairs of
/// media are counted within each media item.
LengthTable read_dataset_lengths(const std::filesystem::path& folder);

// The parts of the above, for files of several kinds: add them one by one, then name the sources.

/// Adds a CSV file as one source.
void add_length_csv(LengthTable& table, const std::filesystem::path& file);

/// Adds a binary table as one source: "GBTABLE1", uint32 K, uint64 N, K names (uint32 length,
/// UTF-8), N * K uint32 rows; little-endian. `file` is where it comes from. Throws UserError when
/// it is cut short or is no such table.
void add_length_binary(LengthTable& table, std::string_view bytes,
                       const std::filesystem::path& file);

/// Names the sources by the stems of their files; where stems are equal, by as many folders as it
/// takes.
void name_length_sources(LengthTable& table);

/// Where a file's columns go in the table. A table without streams takes over those of the file.
/// `where` ("a.csv:1") begins the messages. Throws UserError for names that cannot be streams and
/// for other streams than the table has.
std::vector<std::size_t> match_length_streams(LengthTable& table,
                                              std::span<const std::string> names,
                                              const std::string& where);

}  // namespace gimbal
