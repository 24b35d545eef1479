#include "gimbal/schedule/text.h"

#include <array>
#include <charconv>
#include <optional>
#include <string_view>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

constexpr std::string_view kKindLetters = "FBIW";  // in the order of ActionKind
constexpr const char* kNoActions = "-";            // a rank that runs nothing
constexpr const char* kHeaderForm = "NAME ranks=R stages=S micro_batches=M";

struct TextLine {
  std::size_t number = 0;  // from 1
  std::vector<std::string_view> words;
};

/// Lines with words; what follows a '#' is a comment.
std::vector<TextLine> lines_of(std::string_view text) {
  std::vector<TextLine> lines;
  std::size_t number = 0;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    std::string_view rest = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    rest = rest.substr(0, rest.find('#'));
    TextLine line{++number, {}};
    constexpr const char* kSpaces = " \t\r";
    for (std::size_t at = rest.find_first_not_of(kSpaces); at != std::string_view::npos;
         at = rest.find_first_not_of(kSpaces)) {
      rest = rest.substr(at);
      line.words.push_back(rest.substr(0, rest.find_first_of(kSpaces)));
      rest = rest.substr(line.words.back().size());
    }
    if (!line.words.empty()) lines.push_back(std::move(line));
  }
  return lines;
}

/// Takes the digits at the front of `text`; nothing when there are none or they do not fit.
std::optional<int> take_number(std::string_view& text) {
  if (text.empty() || text.front() < '0' || text.front() > '9') return std::nullopt;
  int value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc()) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(parsed.ptr - text.data()));
  return value;
}

std::optional<Action> read_action(std::string_view word) {
  const std::optional<int> stage = take_number(word);
  if (!stage || word.empty()) return std::nullopt;
  const std::size_t kind = kKindLetters.find(word.front());
  if (kind == std::string_view::npos) return std::nullopt;
  word.remove_prefix(1);
  const std::optional<int> micro_batch = take_number(word);
  if (!micro_batch || !word.empty()) return std::nullopt;
  return Action{*stage, static_cast<ActionKind>(kind), *micro_batch};
}

int header_number(std::string_view word, std::string_view key, const std::string& place) {
  std::string_view rest = word;
  GIMBAL_USER_CHECK(rest.substr(0, key.size()) == key && rest.substr(key.size(), 1) == "=", place,
                    "found '", word, "', expected ", key, "=NUMBER; the first line is '",
                    kHeaderForm, "'");
  rest.remove_prefix(key.size() + 1);
  const std::optional<int> number = take_number(rest);
  GIMBAL_USER_CHECK(number && *number >= 1 && rest.empty(), place, "found '", word, "', expected ",
                    key, "= and a whole number of at least 1");
  return *number;
}

void read_header(const TextLine& line, const std::string& place, Schedule& schedule) {
  GIMBAL_USER_CHECK(line.words.size() == 4, place, "found ", line.words.size(),
                    " words, expected the first line '", kHeaderForm, "'");
  schedule.name = line.words[0];
  schedule.num_ranks = header_number(line.words[1], "ranks", place);
  schedule.num_stages = header_number(line.words[2], "stages", place);
  schedule.num_micro_batches = header_number(line.words[3], "micro_batches", place);
  GIMBAL_USER_CHECK(schedule.num_stages % schedule.num_ranks == 0, place, schedule.num_stages,
                    " stages on ", schedule.num_ranks,
                    " ranks; stages must be a multiple of ranks");
  GIMBAL_USER_CHECK(kMostSchedulePairs / schedule.num_stages >= schedule.num_micro_batches, place,
                    schedule.num_stages, " stages x ", schedule.num_micro_batches,
                    " micro-batches are more than ", kMostSchedulePairs);
}

}  // namespace

std::string to_string(const Action& action) {
  return std::to_string(action.stage) + kKindLetters[static_cast<std::size_t>(action.kind)] +
         std::to_string(action.micro_batch);
}

std::string format_schedule(const Schedule& schedule) {
  std::string text =
      concat(schedule.name, " ranks=", schedule.num_ranks, " stages=", schedule.num_stages,
             " micro_batches=", schedule.num_micro_batches, "\n");
  for (const std::vector<Action>& actions : schedule.ranks) {
    if (actions.empty()) text += kNoActions;
    for (std::size_t i = 0; i < actions.size(); ++i) {
      if (i > 0) text += ' ';
      text += to_string(actions[i]);
    }
    text += '\n';
  }
  return text;
}

Schedule parse_schedule(const std::string& text, const std::string& where) {
  const std::vector<TextLine> lines = lines_of(text);
  const auto place = [&](const TextLine& line) { return concat(where, ":", line.number, ": "); };
  GIMBAL_USER_CHECK(!lines.empty(), where, ": is empty; the first line is '", kHeaderForm, "'");
  Schedule schedule;
  read_header(lines.front(), place(lines.front()), schedule);
  GIMBAL_USER_CHECK(lines.size() - 1 == static_cast<std::size_t>(schedule.num_ranks), where,
                    ": found ", lines.size() - 1, " lines of actions, expected one for each of ",
                    schedule.num_ranks, " ranks ('", kNoActions, "' for a rank without any)");
  for (std::size_t i = 1; i < lines.size(); ++i) {
    const TextLine& line = lines[i];
    std::vector<Action>& actions = schedule.ranks.emplace_back();
    if (line.words.size() == 1 && line.words.front() == kNoActions) continue;
    actions.reserve(line.words.size());
    for (const std::string_view word : line.words) {
      const std::optional<Action> action = read_action(word);
      GIMBAL_USER_CHECK(action, place(line), "found '", word,
                        "', expected STAGE, one of F B I W, and MICRO-BATCH, such as 2F0");
      actions.push_back(*action);
    }
  }
  return schedule;
}

}  // namespace gimbal
