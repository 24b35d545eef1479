#include "gimbal/balance/stream/stream_packer.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "gimbal/balance/stream/window_plan.h"
#include "gimbal/base/error.h"
#include "gimbal/base/rng.h"

namespace gimbal {
namespace {

// Batches that are packed in one way before the ways are tried anew: the mix may have changed.
constexpr std::uint64_t kPlansPerTrial = 32;

StreamPackerOptions checked_stream_options(StreamPackerOptions options) {
  constexpr std::uint64_t kMostSamples = std::uint64_t{1} << 31;
  constexpr int kMostStreams = 8;
  GIMBAL_USER_CHECK(options.num_streams >= 1 && options.num_streams <= kMostStreams,
                    "stream packer: num_streams is ", options.num_streams,
                    "; it must be from 1 to ", kMostStreams);
  const auto streams = static_cast<std::size_t>(options.num_streams);
  GIMBAL_USER_CHECK(options.costs.size() == streams, "stream packer: ", options.costs.size(),
                    " costs for ", streams, " streams; give one per stream");
  GIMBAL_USER_CHECK(options.caps.rows.size() <= streams,
                    "stream packer: ", options.caps.rows.size(), " caps on rows for ", streams,
                    " streams; give at most one per stream");
  GIMBAL_USER_CHECK(options.names.empty() || options.names.size() == streams,
                    "stream packer: ", options.names.size(), " names for ", streams,
                    " streams; give one per stream, or none");
  GIMBAL_USER_CHECK(options.packs_per_slot >= 1 && options.packs_per_slot <= kMostSamples,
                    "stream packer: packs_per_slot is ", options.packs_per_slot,
                    "; it must be from 1 to 2^31");
  GIMBAL_USER_CHECK(options.window >= 1 && options.window <= kMostSamples,
                    "stream packer: window is ", options.window, "; it must be from 1 to 2^31");
  return options;
}

}  // namespace

StreamPacker::StreamPacker(StreamPackerOptions options)
    : options_(checked_stream_options(std::move(options))),
      probe_rows_(static_cast<std::size_t>(options_.num_streams)),
      probe_(SampleSizes{probe_rows_, options_.num_streams, {}, options_.names}, options_.caps,
             options_.costs),
      batch_(std::max(options_.packs_per_slot, options_.window - options_.window / 8)) {}

void StreamPacker::push(std::uint64_t id, std::span<const std::uint32_t> rows) {
  GIMBAL_USER_CHECK(!state_.finished, "stream packer: sample ", id,
                    " was pushed after finish(); push all samples first");
  GIMBAL_USER_CHECK(rows.size() == probe_rows_.size(), "stream packer: sample ", id, " has ",
                    rows.size(), " sizes; the packer has ", probe_rows_.size(), " streams");
  std::copy(rows.begin(), rows.end(), probe_rows_.begin());
  const bool fits = probe_.fits_alone(0);
  if (!fits && options_.oversize != OversizePolicy::kAlone) {
    const Screening screening = screen_samples(
        probe_, options_.oversize, [id](std::uint32_t) { return concat("sample with id ", id); });
    GIMBAL_CHECK_EQ(screening.rejected.size(), 1U, "rejected");
    state_.rejected.emplace_back(id, screening.rejected[0].reason);
    ++state_.samples_in;
    ++state_.samples_rejected;
    return;
  }
  state_.ids.push_back(id);
  state_.overtaken.push_back(0);
  state_.alone.push_back(fits ? 0 : 1);
  state_.rows.insert(state_.rows.end(), rows.begin(), rows.end());
  ++state_.samples_in;
}

void StreamPacker::finish() { state_.finished = true; }

std::optional<StreamSlot> StreamPacker::next_slot() {
  if (!state_.finished && state_.held() < batch_) return std::nullopt;
  if (state_.planned.empty()) {
    if (state_.ids.empty()) return std::nullopt;
    plan();
  }
  StreamSlot slot = std::move(state_.planned.back());
  state_.planned.pop_back();
  for (const auto& pack : slot) {
    state_.planned_samples -= pack.size();
    state_.samples_out += pack.size();
  }
  return slot;
}

// Packs the first samples, a batch, and takes out what leaves. Samples that came after them wait,
// so that it does not matter when slots are taken. What stays has been overtaken by an eighth of
// the window at most, and a batch is the rest of it, so no sample is overtaken by more than a
// window.
void StreamPacker::plan() {
  const std::size_t size = std::min<std::size_t>(state_.ids.size(), batch_);
  const auto streams = static_cast<std::size_t>(options_.num_streams);
  const SampleSizes sizes{
      std::span(state_.rows).first(size * streams), options_.num_streams, {}, options_.names};
  const PackLimits limits(sizes, options_.caps, options_.costs);
  StreamWindow window{limits,
                      options_.costs,
                      std::span(state_.alone).first(size),
                      std::span(state_.overtaken).first(size),
                      options_.packs_per_slot,
                      options_.window - std::min(options_.window, batch_),
                      size < batch_,
                      state_.way};
  const CounterRng rng(options_.seed, state_.plans);
  if (state_.plans % kPlansPerTrial == 0) window.way = state_.way = best_window_way(window, rng);
  ++state_.plans;
  const Packs packs = plan_window(window, rng);
  for (std::size_t p = 0; p < packs.size(); ++p) {
    if (p % options_.packs_per_slot == 0) state_.planned.emplace_back();
    auto& pack = state_.planned.back().emplace_back();
    for (const std::uint32_t sample : packs[p]) pack.push_back(state_.ids[sample]);
  }
  std::reverse(state_.planned.begin(), state_.planned.end());
  state_.planned_samples = packs.samples.size();

  std::vector<std::uint8_t> leaves(state_.ids.size(), 0);
  for (const std::uint32_t sample : packs.samples) {
    GIMBAL_CHECK(leaves[sample] == 0, "sample ", sample, " leaves twice");
    leaves[sample] = 1;
  }
  std::uint64_t later = 0;
  for (std::size_t i = size; i-- > 0;) {
    state_.overtaken[i] += later;
    later += leaves[i];
  }
  std::size_t to = 0;
  for (std::size_t i = 0; i < state_.ids.size(); ++i) {
    if (leaves[i] != 0) continue;
    state_.ids[to] = state_.ids[i];
    state_.overtaken[to] = state_.overtaken[i];
    state_.alone[to] = state_.alone[i];
    std::copy_n(state_.rows.begin() + static_cast<std::ptrdiff_t>(i * streams), streams,
                state_.rows.begin() + static_cast<std::ptrdiff_t>(to * streams));
    ++to;
  }
  state_.ids.resize(to);
  state_.overtaken.resize(to);
  state_.alone.resize(to);
  state_.rows.resize(to * streams);
}

std::vector<std::pair<std::uint64_t, std::string>> StreamPacker::take_rejected() {
  return std::exchange(state_.rejected, {});
}

std::string StreamPacker::save() const { return state_.to_bytes(fingerprint()); }

void StreamPacker::load(const std::string& state) {
  state_ = StreamState::from_bytes(state, fingerprint());
}

// Of everything that decides what the packer gives.
std::uint64_t StreamPacker::fingerprint() const {
  std::uint64_t hash = 0;
  const auto add = [&hash](std::uint64_t value) { hash = mix_bits(hash ^ value); };
  add(static_cast<std::uint64_t>(options_.num_streams));
  for (int k = 0; k < options_.num_streams; ++k) add(options_.caps.of(k));
  add(options_.caps.samples);
  add(std::bit_cast<std::uint64_t>(options_.caps.cost));
  for (const StreamCost& cost : options_.costs) {
    add(std::bit_cast<std::uint64_t>(cost.per_row));
    add(std::bit_cast<std::uint64_t>(cost.per_pair));
  }
  add(options_.packs_per_slot);
  add(options_.window);
  add(static_cast<std::uint64_t>(options_.oversize));
  add(options_.seed);
  return hash;
}

}  // namespace gimbal
