#include "gimbal/train/evaluate.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <span>
#include <sstream>

#include "gimbal/balance/pack/methods.h"
#include "gimbal/base/file.h"
#include "gimbal/tensor/prefetch.h"
#include "gimbal/train/generate.h"
#include "gimbal/train/stop/stop_agreement.h"
#include "gimbal/train/tape/forward_runner.h"

namespace gimbal {
namespace {

constexpr std::size_t kMostSequences = 256;

/// One assistant turn to generate.
struct Turn {
  std::uint32_t sample;
  std::uint32_t span;
  std::uint32_t prompt_tokens;
};

std::vector<std::uint32_t> choose_samples(const Dataset& dataset, std::int64_t max_samples) {
  const std::size_t total = dataset.num_samples();
  const std::size_t count =
      max_samples == 0 ? total : std::min(total, static_cast<std::size_t>(max_samples));
  std::vector<std::uint32_t> chosen(count);
  for (std::size_t i = 0; i < count; ++i) chosen[i] = static_cast<std::uint32_t>(i * total / count);
  return chosen;
}

/// The reference answer: the span without end-of-sequence tokens at its end.
std::vector<std::int64_t> reference_tokens(const Dataset& dataset, const Turn& turn) {
  const LossSpan span = dataset.loss_spans(turn.sample)[turn.span];
  const auto tokens = dataset.tokens(turn.sample).subspan(span.begin, span.end - span.begin);
  std::vector<std::int64_t> reference(tokens.begin(), tokens.end());
  const auto& eos = dataset.model().eos_token_ids;
  while (!reference.empty() && std::find(eos.begin(), eos.end(), reference.back()) != eos.end())
    reference.pop_back();
  return reference;
}

/// The lines of all parts, sorted by sample and span: the same for any number of ranks.
std::string in_sample_order(const std::vector<std::string>& parts) {
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::string> sorted;
  for (const std::string& part : parts) {
    std::istringstream in(part);
    for (std::string line; std::getline(in, line);) {
      const Json row = Json::parse(line);
      sorted[{row.at("sample").get<std::uint32_t>(), row.at("span").get<std::uint32_t>()}] = line;
    }
  }
  std::string all;
  for (const auto& [place, line] : sorted) all += line + "\n";
  return all;
}

class Evaluation {
 public:
  Evaluation(const Dataset& dataset, const Model& model, ParameterStore& store,
             at::ScalarType dtype, Runtime& runtime, const EvaluateOptions& options,
             const Placement* placement)
      : dataset_(dataset),
        model_(model),
        runner_(placement == nullptr ? ForwardRunner(model, store)
                                     : ForwardRunner(model, store, *placement, dtype)),
        placement_(placement),
        dtype_(dtype),
        runtime_(runtime),
        options_(options),
        processor_(dataset.image_processor()),
        stop_(*runtime.comm),
        samples_(choose_samples(dataset, options.max_samples)) {}

  EvaluationResult run() {
    const auto start = std::chrono::steady_clock::now();
    const at::NoGradGuard no_grad;
    EvaluationResult result;
    result.samples = samples_.size();
    measure_loss(result);
    if (options_.generate && !result.interrupted) measure_answers(result);
    result.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return result;
  }

 private:
  void measure_loss(EvaluationResult& result);
  void measure_answers(EvaluationResult& result);
  std::vector<std::vector<Turn>> turn_groups() const;
  std::uint64_t generate_group(const std::vector<Turn>& group, std::string& lines);
  at::Tensor sum_over_ranks(at::Tensor values, const char* name) {
    values = values.to(runtime_.device);
    runtime_.comm->all_reduce_sum(values, name)->wait();
    return values.to(at::kCPU);
  }
  /// Among the ranks that have packs of their own.
  std::size_t rank() const {
    return static_cast<std::size_t>(placement_ == nullptr ? runtime_.comm->rank()
                                                          : placement_->mesh().data_rank());
  }
  std::size_t world() const {
    return static_cast<std::size_t>(placement_ == nullptr ? runtime_.comm->size()
                                                          : placement_->mesh().num_data_ranks());
  }
  /// Of the ranks that share a pack, one counts what all of them know.
  bool counts() const { return placement_ == nullptr || placement_->is_first_of_pack(); }
  TileChoice tiles_read() const {
    return placement_ == nullptr ? TileChoice(all_tiles) : placement_->tiles_read(model_);
  }
  /// How often each rank takes one of `total` things. In the last round some ranks have none left.
  std::size_t num_rounds(std::size_t total) const { return (total + world() - 1) / world(); }
  /// Whether this rank runs a pass in the round, maybe one of nothing for the sake of others.
  bool has_pass(std::size_t round, std::size_t total) const {
    return runner_.needs_equal_counts() || rank() + round * world() < total;
  }

  const Dataset& dataset_;
  const Model& model_;
  ForwardRunner runner_;
  const Placement* placement_;
  at::ScalarType dtype_;
  Runtime& runtime_;
  const EvaluateOptions& options_;
  ImageProcessor processor_;
  StopAgreement stop_;
  std::vector<std::uint32_t> samples_;
};

void Evaluation::measure_loss(EvaluationResult& result) {
  const std::vector<std::uint32_t> rows = sample_rows(dataset_);
  const SampleSizes sizes = sample_sizes(rows);
  // A sample above a cap has a pack of its own.
  PackCaps caps{{static_cast<std::uint64_t>(options_.text_cap),
                 static_cast<std::uint64_t>(options_.vision_cap)},
                0};
  for (const std::uint32_t sample : samples_) {
    const SampleRecord& record = dataset_.sample(sample);
    caps.rows[0] = std::max<std::uint64_t>(caps.rows[0], record.num_tokens);
    if (options_.vision_cap > 0)
      caps.rows[1] = std::max<std::uint64_t>(caps.rows[1], record.vision_rows);
  }
  const Packs packs = window_packs(PackLimits(sizes, caps, {}), samples_);

  const std::size_t num = packs.size();
  std::size_t next_round = 0;
  Prefetcher prefetcher(
      dataset_, processor_, static_cast<int>(options_.workers), 4,
      [&](std::vector<std::uint32_t>& out) {
        const std::size_t round = next_round++;
        if (round >= num_rounds(num) || !has_pass(round, num)) return false;
        out.clear();
        const std::size_t pack = rank() + round * world();
        if (pack < num) out.assign(packs[pack].begin(), packs[pack].end());
        return true;
      },
      tiles_read(), runtime_.device);
  double loss_sum = 0;
  double loss_tokens = 0;
  Batch batch;
  for (std::size_t round = 0; round < num_rounds(num); ++round) {
    result.interrupted = stop_.stops();
    if (result.interrupted) return;
    if (!prefetcher.next(batch)) continue;
    const Batch placed = to_device(batch, runtime_.device);
    const PassContext context{placed, PassKind::kLoss, nullptr, options_.loss_chunk_rows};
    const at::Tensor loss = runner_.run(context).loss;
    if (loss.defined() && (placement_ == nullptr || placement_->counts_loss()))
      loss_sum += loss.item<double>();
    if (counts()) loss_tokens += static_cast<double>(placed.loss_rows_Q.numel());
  }
  const at::Tensor sums =
      sum_over_ranks(at::tensor({loss_sum, loss_tokens}, at::kDouble), "evaluation loss");
  result.loss_tokens = static_cast<std::uint64_t>(sums[1].item<double>());
  result.loss = result.loss_tokens == 0 ? 0.0 : sums[0].item<double>() / sums[1].item<double>();
}

std::vector<std::vector<Turn>> Evaluation::turn_groups() const {
  std::vector<Turn> turns;
  for (const std::uint32_t sample : samples_) {
    const auto spans = dataset_.loss_spans(sample);
    for (std::uint32_t i = 0; i < spans.size(); ++i) turns.push_back({sample, i, spans[i].begin});
  }
  // Prompts of like length together: the cache of a group is as long as its longest prompt.
  std::stable_sort(turns.begin(), turns.end(),
                   [](const Turn& a, const Turn& b) { return a.prompt_tokens < b.prompt_tokens; });
  std::vector<std::vector<Turn>> groups;
  std::uint64_t tokens = 0;
  std::uint64_t tiles = 0;
  for (const Turn& turn : turns) {
    const std::uint64_t turn_tiles = dataset_.sample(turn.sample).vision_rows;
    const bool full = groups.empty() || groups.back().size() >= kMostSequences ||
                      tokens + turn.prompt_tokens > static_cast<std::uint64_t>(options_.text_cap) ||
                      (options_.vision_cap > 0 &&
                       tiles + turn_tiles > static_cast<std::uint64_t>(options_.vision_cap));
    if (full) {
      groups.emplace_back();
      tokens = tiles = 0;
    }
    groups.back().push_back(turn);
    tokens += turn.prompt_tokens;
    tiles += turn_tiles;
  }
  return groups;
}

std::uint64_t Evaluation::generate_group(const std::vector<Turn>& group, std::string& lines) {
  std::vector<std::uint32_t> samples, prompt_tokens;
  std::vector<std::vector<std::int64_t>> references;
  std::size_t longest = 0;
  for (const Turn& turn : group) {
    samples.push_back(turn.sample);
    prompt_tokens.push_back(turn.prompt_tokens);
    references.push_back(reference_tokens(dataset_, turn));
    longest = std::max(longest, references.back().size());
  }
  const Batch prompts = to_device(
      collate_prompts(dataset_, processor_, samples, prompt_tokens, tiles_read()), runtime_.device);
  GenerateOptions options;
  options.max_new_tokens =
      std::min(options_.max_new_tokens, static_cast<std::int64_t>(longest) + 1);
  options.eos_token_ids = dataset_.model().eos_token_ids;
  const std::vector<Answer> answers = generate(model_, runner_, prompts, dtype_, options);
  std::uint64_t matches = 0;
  for (std::size_t i = 0; i < group.size(); ++i) {
    const bool match = answers[i].ended && answers[i].tokens == references[i];
    matches += match ? 1 : 0;
    lines += Json{{"sample", group[i].sample},
                  {"span", group[i].span},
                  {"reference", references[i]},
                  {"predicted", answers[i].tokens},
                  {"match", match}}
                 .dump() +
             "\n";
  }
  return matches;
}

void Evaluation::measure_answers(EvaluationResult& result) {
  const std::vector<std::vector<Turn>> groups = turn_groups();
  std::string lines;
  double answers = 0;
  double matches = 0;
  const std::vector<Turn> nothing;
  for (std::size_t round = 0; round < num_rounds(groups.size()); ++round) {
    result.interrupted = stop_.stops();
    if (result.interrupted) return;
    if (!has_pass(round, groups.size())) continue;
    const std::size_t i = rank() + round * world();
    const std::vector<Turn>& group = i < groups.size() ? groups[i] : nothing;
    matches += static_cast<double>(generate_group(group, lines));
    answers += static_cast<double>(group.size());
  }
  if (!counts()) {
    answers = matches = 0;
    lines.clear();
  }
  const at::Tensor sums =
      sum_over_ranks(at::tensor({answers, matches}, at::kDouble), "evaluation answers");
  result.answers = static_cast<std::uint64_t>(sums[0].item<double>());
  result.matches = static_cast<std::uint64_t>(sums[1].item<double>());
  if (options_.predictions.empty()) return;
  const std::vector<std::string> parts = all_gather_bytes(*runtime_.comm, lines, "predictions");
  if (runtime_.is_main()) write_file_atomic(options_.predictions, in_sample_order(parts));
}

}  // namespace

EvaluateOptions evaluate_options(const Recipe& recipe) {
  EvaluateOptions options;
  options.text_cap =
      recipe.evaluate.text_cap > 0 ? recipe.evaluate.text_cap : recipe.balance.text_cap;
  options.vision_cap = recipe.balance.vision_cap;
  options.max_samples = recipe.evaluate.max_samples;
  options.max_new_tokens = recipe.evaluate.max_new_tokens;
  options.generate = recipe.evaluate.generate;
  options.loss_chunk_rows = recipe.train.loss_chunk_rows;
  options.workers = recipe.data.workers;
  return options;
}

Json to_json(const EvaluationResult& result, const EvaluateOptions& options) {
  Json json{{"loss", result.loss},
            {"loss_tokens", result.loss_tokens},
            {"samples", result.samples},
            {"seconds", result.seconds}};
  if (options.generate) {
    json["answers"] = result.answers;
    json["matches"] = result.matches;
    json["exact_match"] = result.exact_match();
  }
  return json;
}

RunLayout layout_for_evaluation(const Recipe& recipe, const Dataset& dataset,
                                const ModelDesc& model, int world_size) {
  // Cuts need the proportions of the work only.
  LayoutWork work;
  for (std::uint32_t i = 0; i < dataset.num_samples(); ++i)
    work.mean = work.mean + work_of_samples(dataset, std::span(&i, 1));
  work.frozen.assign(model.blocks.size(), true);
  work.levels.assign(model.blocks.size(), Recompute::kKeep);
  return make_run_layout(recipe.parallel, model, work, world_size, recipe.model.path);
}

EvaluationResult evaluate(const Dataset& dataset, const Model& model, ParameterStore& store,
                          at::ScalarType dtype, Runtime& runtime, const EvaluateOptions& options,
                          const Placement* placement) {
  // Ranks that hold other samples would add up losses of two datasets, or run unequally many passes
  // and wait for each other.
  check_same_on_all_ranks(*runtime.comm, dataset.fingerprint(), "evaluation dataset (data.eval)");
  return Evaluation(dataset, model, store, dtype, runtime, options, placement).run();
}

}  // namespace gimbal
