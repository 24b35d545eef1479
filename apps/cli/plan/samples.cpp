#include "apps/cli/plan/samples.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "apps/cli/balance/names.h"
#include "gimbal/balance/screen.h"
#include "gimbal/base/error.h"
#include "gimbal/data/dataset.h"

namespace gimbal::cli {
namespace {

// Where the streams of a model are in a table of lengths.
struct StreamColumns {
  std::size_t text = 0;
  std::optional<std::size_t> vision, loss;
};

StreamColumns match_columns(const LengthTable& lengths, const ModelDesc& model) {
  const std::string& file = lengths.files.front().name;
  std::optional<std::size_t> text;
  StreamColumns columns;
  const auto take = [&](std::optional<std::size_t>& place, std::size_t k, const char* stream) {
    GIMBAL_USER_CHECK(!place, file, ": columns ", place ? lengths.streams[*place] : "", " and ",
                      lengths.streams[k], " are both stream ", stream, "; leave one of them out");
    place = k;
  };
  for (std::size_t k = 0; k < lengths.streams.size(); ++k) {
    const std::string& name = lengths.streams[k];
    if (name == "text" || name == "tokens") {
      take(text, k, "text");
    } else if (name == "loss") {
      take(columns.loss, k, "loss");
    } else if (name == "vision" || name == "tiles" || name == "patches") {
      GIMBAL_USER_CHECK(
          name == "vision" || name == model.vision_row + "s" || model.vision_row.empty(), file,
          ": column ", name, ": the vision rows of a ", model.type, " model are ", model.vision_row,
          "s; give their numbers");
      take(columns.vision, k, "vision");
    } else {
      throw UserError(concat(file, ": column ", name, ": is no stream of a ", model.type,
                             " model; columns are text (or tokens), vision (or tiles, patches) "
                             "and loss"));
    }
  }
  GIMBAL_USER_CHECK(text.has_value(), file, ": has no column text (or tokens); it has ",
                    joined(lengths.streams));
  columns.text = *text;
  return columns;
}

std::vector<double> resolve_weights(const LengthTable& lengths,
                                    const std::map<std::string, double>& weights) {
  std::vector<double> resolved = lengths.source_weights;
  for (const auto& [name, weight] : weights) {
    resolved[index_of("data.weights", name, "source", lengths.source_names)] = weight;
  }
  return resolved;
}

// Entries of the table, each as often as its source's weight says. Parts of a sample are spread
// evenly: the j-th of a source occurs floor((j + 1) w) - floor(j w) times.
std::vector<std::uint32_t> drawn_entries(const LengthTable& lengths,
                                         const std::vector<double>& weights) {
  std::vector<std::uint32_t> entries;
  std::vector<std::uint64_t> seen(weights.size());
  for (std::size_t i = 0; i < lengths.num_samples(); ++i) {
    const std::uint32_t source = lengths.sources[i];
    const auto j = static_cast<double>(seen[source]++);
    const double times = std::floor((j + 1) * weights[source]) - std::floor(j * weights[source]);
    entries.insert(entries.end(), static_cast<std::size_t>(times), static_cast<std::uint32_t>(i));
  }
  return entries;
}

// The table forgets where samples come from when it is screened, so the names go along.
void name_samples(PlanSamples& samples) {
  samples.table.describe = [lengths = samples.lengths,
                            entries = samples.entries](std::uint32_t sample) {
    return lengths->describe_sample(entries[sample]);
  };
}

void check_entry(const LengthTable& lengths, std::uint32_t entry, const ModelDesc& model,
                 std::uint32_t text, std::uint32_t vision) {
  GIMBAL_USER_CHECK(vision == 0 || !model.vision_row.empty(), lengths.describe_sample(entry),
                    ": has ", vision, " vision rows, but ", model.type,
                    " is a model of text alone; leave the column out");
  const double visual_tokens = model.tokens_per_vision_row * vision;
  GIMBAL_USER_CHECK(visual_tokens <= text, lengths.describe_sample(entry), ": has ", text,
                    " text rows, but its ", vision, " vision rows become ", visual_tokens,
                    " visual tokens; text rows count visual tokens too");
}

}  // namespace

PlanSamples plan_samples(std::shared_ptr<const LengthTable> lengths, const ModelDesc& model,
                         const std::map<std::string, double>& weights) {
  GIMBAL_USER_CHECK(lengths->num_samples() > 0,
                    lengths->files.empty() ? "--lengths" : lengths->files.front().name,
                    ": holds no samples; a plan needs their sizes");
  const StreamColumns columns = match_columns(*lengths, model);
  PlanSamples samples;
  samples.entries = drawn_entries(*lengths, resolve_weights(*lengths, weights));
  GIMBAL_USER_CHECK(!samples.entries.empty(),
                    "data.weights: leave no sample to plan for; give a source a weight above 0");
  const std::size_t streams = lengths->streams.size();
  SampleTable& table = samples.table;
  table.origin = lengths->files.front().name;
  if (lengths->files.size() > 1) {
    table.origin += concat(" and ", lengths->files.size() - 1, " more");
  }
  bool any_vision = false;
  for (const std::uint32_t entry : samples.entries) {
    const std::size_t at = entry * streams;
    const std::uint32_t text = lengths->rows[at + columns.text];
    const std::uint32_t vision = columns.vision ? lengths->rows[at + *columns.vision] : 0;
    check_entry(*lengths, entry, model, text, vision);
    any_vision = any_vision || vision > 0;
    table.text_rows.push_back(text);
    table.vision_rows.push_back(vision);
    if (lengths->dataset) {
      table.loss_rows.push_back(lengths->dataset->sample(entry).num_loss_tokens);
    } else if (columns.loss) {
      table.loss_rows.push_back(lengths->rows[at + *columns.loss]);
    }
    if (model.vision_row == "patch" && columns.vision) {
      const double rows = vision;
      table.vision_pairs.push_back(lengths->pairs.empty()
                                       ? rows * rows
                                       : static_cast<double>(lengths->pairs[at + *columns.vision]));
    }
  }
  if (!any_vision) {
    table.vision_rows.clear();
    table.vision_pairs.clear();
  }
  samples.lengths = std::move(lengths);
  name_samples(samples);
  return samples;
}

std::size_t screen_plan_samples(PlanSamples& samples, const std::vector<std::uint64_t>& caps,
                                OversizePolicy policy) {
  SampleTable& table = samples.table;
  const std::size_t streams = table.vision_rows.empty() ? 1 : 2;
  std::vector<std::uint32_t> rows;
  for (std::size_t i = 0; i < table.size(); ++i) {
    rows.push_back(table.text_rows[i]);
    if (streams > 1) rows.push_back(table.vision_rows[i]);
  }
  const std::vector<std::string> names{"text", "vision"};
  SampleSizes sizes;
  sizes.rows = rows;
  sizes.num_streams = static_cast<int>(streams);
  sizes.names = {names.data(), streams};
  PackCaps pack_caps;
  pack_caps.rows = caps;
  pack_caps.rows.resize(streams);
  if (std::all_of(pack_caps.rows.begin(), pack_caps.rows.end(),
                  [](std::uint64_t cap) { return cap == 0; })) {
    return 0;
  }
  const std::vector<StreamCost> costs(streams);
  const Screening screening =
      screen_samples(PackLimits(sizes, pack_caps, costs), policy, table.describe);
  if (screening.rejected.empty()) return 0;
  std::vector<bool> rejected(table.size());
  for (const Rejection& rejection : screening.rejected) rejected[rejection.sample] = true;
  const auto keep = [&](auto& values) {
    if (values.empty()) return;
    std::size_t kept = 0;
    for (std::size_t i = 0; i < rejected.size(); ++i) {
      if (!rejected[i]) values[kept++] = values[i];
    }
    values.resize(kept);
  };
  keep(table.vision_rows);
  keep(table.vision_pairs);
  keep(table.loss_rows);
  keep(samples.entries);
  keep(table.text_rows);
  GIMBAL_USER_CHECK(table.size() > 0, table.origin,
                    ": every sample is above a cap, and "
                    "balance.oversize is reject: raise balance.text_cap or balance.vision_cap");
  name_samples(samples);
  return screening.rejected.size();
}

}  // namespace gimbal::cli
