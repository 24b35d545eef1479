// CSV files of lengths: one pass over the mapped file, no copies.
#include <algorithm>
#include <charconv>
#include <limits>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/base/mapped_file.h"
#include "gimbal/data/length_table.h"

namespace gimbal {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kExample =
    "the first line must name the streams, for example: vision,tokens";
constexpr std::string_view kPairs = ".pairs";

struct CsvColumn {
  std::string name;   // as in the header
  std::size_t place;  // of the stream in the table
  bool pairs;
};

std::string_view trimmed(std::string_view text) {
  const auto blank = [](char c) { return c == ' ' || c == '\t'; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return text;
}

std::string_view without_return(std::string_view line) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

// At most 40 characters of what was found, without what would garble a terminal.
std::string shown(std::string_view text) {
  std::string out(text.substr(0, 40));
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return "'" + out + (text.size() > 40 ? "...'" : "'");
}

std::vector<std::string_view> split_fields(std::string_view line) {
  std::vector<std::string_view> fields;
  while (true) {
    const std::size_t comma = line.find(',');
    fields.push_back(trimmed(line.substr(0, comma)));
    if (comma == std::string_view::npos) return fields;
    line.remove_prefix(comma + 1);
  }
}

bool may_name_a_stream(std::string_view name) {
  if (name.empty() || (name.front() >= '0' && name.front() <= '9') || name.front() == '-' ||
      name.front() == '.') {
    return false;  // a number: the header is missing
  }
  return std::none_of(name.begin(), name.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f || c == '"' || c == '=' || c == ';';
  });
}

std::vector<CsvColumn> read_header(LengthTable& table, std::string_view line,
                                   const std::string& file) {
  const std::string where = file + ":1";
  const std::vector<std::string_view> fields = split_fields(line);
  GIMBAL_USER_CHECK(fields.size() > 1 || !fields[0].empty(), where, ": the line is empty; ",
                    kExample);
  std::vector<std::string> streams;
  for (const std::string_view field : fields) {
    GIMBAL_USER_CHECK(may_name_a_stream(field), where, ": ", shown(field),
                      " cannot name a stream (no number, no quotes, none of ; =); ", kExample);
    if (!field.ends_with(kPairs)) streams.emplace_back(field);
  }
  GIMBAL_USER_CHECK(!streams.empty(), where, ": has columns of pairs alone; ", kExample);
  const std::vector<std::size_t> places = match_length_streams(table, streams, where);

  std::vector<CsvColumn> columns;
  for (const std::string_view field : fields) {
    const bool pairs = field.ends_with(kPairs);
    const std::string stream(pairs ? field.substr(0, field.size() - kPairs.size()) : field);
    const auto at = std::find(streams.begin(), streams.end(), stream);
    GIMBAL_USER_CHECK(at != streams.end(), where, ": column ", field, " has no column ", stream,
                      " beside it; name the stream as ", stream);
    for (const CsvColumn& column : columns) {
      GIMBAL_USER_CHECK(column.name != field, where, ": column ", field,
                        " occurs twice; leave one of them out");
    }
    columns.push_back(
        {std::string(field), places[static_cast<std::size_t>(at - streams.begin())], pairs});
  }
  return columns;
}

// Says what is wrong with a line that does not parse.
[[noreturn]] void explain_line(std::string_view line, std::span<const CsvColumn> columns,
                               const std::string& file, std::uint64_t number) {
  const std::string where = concat(file, ":", number, ": ");
  GIMBAL_USER_CHECK(!trimmed(line).empty(), where,
                    "the line is empty; blank lines may stand at the end only");
  const std::vector<std::string_view> fields = split_fields(line);
  std::string header;
  for (const CsvColumn& column : columns) header += (header.empty() ? "" : ",") + column.name;
  GIMBAL_USER_CHECK(fields.size() == columns.size(), where, "has ", fields.size(),
                    fields.size() == 1 ? " field" : " fields", ", expected ", columns.size(), " (",
                    header, "); found ", shown(trimmed(line)));
  for (std::size_t i = 0; i < fields.size(); ++i) {
    std::uint64_t value = 0;
    const char* end = fields[i].data() + fields[i].size();
    const auto parsed = std::from_chars(fields[i].data(), end, value);
    const std::uint64_t most = columns[i].pairs ? std::numeric_limits<std::uint64_t>::max()
                                                : std::numeric_limits<std::uint32_t>::max();
    GIMBAL_USER_CHECK(parsed.ec == std::errc() && parsed.ptr == end && value <= most, where,
                      "column ", columns[i].name, ": found ", shown(fields[i]),
                      ", expected a whole number from 0 to ", most);
  }
  throw_internal(__FILE__, __LINE__, "line", concat(where, "is well-formed"));
}

const char* skip_blanks(const char* at, const char* end) {
  while (at != end && (*at == ' ' || *at == '\t')) ++at;
  return at;
}

// Parses the rows from `begin` into the table, which has room for all lines. Returns how many
// samples there were.
std::size_t read_rows(LengthTable& table, std::span<const CsvColumn> columns, std::string_view text,
                      const std::string& file, std::size_t before) {
  const std::size_t streams = table.streams.size();
  const char* at = text.data();
  const char* const end = at + text.size();
  std::uint32_t* rows = table.rows.data() + before * streams;
  std::uint64_t* pairs = table.pairs.empty() ? nullptr : table.pairs.data() + before * streams;
  std::vector<std::size_t> squared;  // streams whose pairs no column gives
  for (std::size_t k = 0; k < streams; ++k) {
    const auto gives = [&](const CsvColumn& column) { return column.pairs && column.place == k; };
    if (std::none_of(columns.begin(), columns.end(), gives)) squared.push_back(k);
  }
  std::size_t sample = 0;
  for (; at != end; ++sample, rows += streams) {
    const char* const line = at;
    const auto bad_line = [&]() {
      const char* stop = std::find(line, end, '\n');
      const std::string_view whole(line, static_cast<std::size_t>(stop - line));
      explain_line(without_return(whole), columns, file, sample + 2);
    };
    if (*at == '\n' || *at == '\r' || *at == ' ' || *at == '\t') {
      const std::string_view rest(at, static_cast<std::size_t>(end - at));
      if (rest.find_first_not_of(" \t\r\n") == std::string_view::npos) break;
    }
    for (std::size_t i = 0; i < columns.size(); ++i) {
      std::uint64_t value = 0;
      at = skip_blanks(at, end);
      const auto parsed = std::from_chars(at, end, value);
      if (parsed.ec != std::errc()) bad_line();
      at = skip_blanks(parsed.ptr, end);
      if (columns[i].pairs) {
        pairs[columns[i].place] = value;
      } else {
        if (value > std::numeric_limits<std::uint32_t>::max()) bad_line();
        rows[columns[i].place] = static_cast<std::uint32_t>(value);
      }
      if (i + 1 < columns.size()) {
        if (at == end || *at != ',') bad_line();
        ++at;
      }
    }
    if (at != end && *at == '\r') ++at;
    if (at != end && *at++ != '\n') bad_line();
    if (pairs == nullptr) continue;
    for (const std::size_t k : squared) pairs[k] = std::uint64_t{rows[k]} * rows[k];
    pairs += streams;
  }
  return sample;
}

}  // namespace

void add_length_csv(LengthTable& table, const fs::path& path) {
  const std::string file = path.string();
  GIMBAL_USER_CHECK(fs::exists(path), file, ": no such file; give a CSV file of lengths");
  GIMBAL_USER_CHECK(!fs::is_directory(path), file, ": is a folder, not a CSV file of lengths");
  MappedFile mapped;
  std::string read;  // of a pipe, which cannot be mapped
  std::string_view text;
  if (fs::is_regular_file(path)) {
    mapped = MappedFile(path);
    text = {reinterpret_cast<const char*>(mapped.bytes().data()), mapped.bytes().size()};
  } else {
    read = read_file(path);
    text = read;
  }
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);  // byte order mark
  GIMBAL_USER_CHECK(!text.empty(), file, ": is empty; ", kExample);

  const std::size_t header_end = std::min(text.find('\n'), text.size());
  const std::vector<CsvColumn> columns =
      read_header(table, without_return(text.substr(0, header_end)), file);
  text.remove_prefix(std::min(header_end + 1, text.size()));

  const std::size_t before = table.num_samples();
  const std::size_t streams = table.streams.size();
  const bool pairs =
      !table.pairs.empty() || std::any_of(columns.begin(), columns.end(),
                                          [](const CsvColumn& column) { return column.pairs; });
  const auto lines = static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) + 1;
  if (pairs && table.pairs.empty()) {
    table.pairs.reserve((before + lines) * streams);
    for (const std::uint32_t rows : table.rows) {
      table.pairs.push_back(std::uint64_t{rows} * rows);
    }
  }
  table.rows.resize((before + lines) * streams);
  if (pairs) table.pairs.resize((before + lines) * streams);
  const std::size_t count = read_rows(table, columns, text, file, before);
  table.rows.resize((before + count) * streams);
  if (pairs) table.pairs.resize((before + count) * streams);
  table.files.push_back({file, before, "line", 2});
  table.sources.resize(before + count, static_cast<std::uint32_t>(table.files.size() - 1));
}

}  // namespace gimbal
