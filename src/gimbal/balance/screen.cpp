#include "gimbal/balance/screen.h"

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

constexpr std::size_t kListedSamples = 10;

// "9000 tokens, cap 4096", for every limit that the sample exceeds; empty when it fits.
std::string excess(const PackLimits& limits, std::uint32_t sample) {
  std::string text;
  for (int limit = 0; limit < limits.count(); ++limit) {
    if (limits.demand(sample, limit) <= limits.cap(limit)) continue;
    if (!text.empty()) text += "; ";
    text += limits.comparison(sample, limit);
  }
  return text;
}

[[noreturn]] void throw_oversize(const std::vector<Rejection>& found, std::uint64_t number,
                                 const std::function<std::string(std::uint32_t)>& describe) {
  std::string message = concat(
      "balance: ", number, number == 1 ? " sample does not fit" : " samples do not fit",
      " into a pack alone. Raise the cap (balance.text_cap, balance.vision_cap or --cap), leave ",
      number == 1 ? "it" : "them",
      " out (balance.oversize = \"reject\" in a recipe, --oversize reject on the command line, "
      "oversize=\"reject\" in Python), or give each a pack of its own (\"alone\" in place of "
      "\"reject\"):");
  for (const Rejection& sample : found) {
    message += concat("\n  ", describe ? describe(sample.sample) : concat("sample ", sample.sample),
                      ": ", sample.reason);
  }
  if (number > found.size()) message += concat("\n  and ", number - found.size(), " more");
  throw UserError(message);
}

}  // namespace

Screening screen_samples(const PackLimits& limits, OversizePolicy policy,
                         const std::function<std::string(std::uint32_t)>& describe) {
  Screening result;
  const std::size_t count = limits.sizes().num_samples();
  std::vector<Rejection> listed;  // kError
  std::uint64_t oversize = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const auto sample = static_cast<std::uint32_t>(i);
    if (limits.fits_alone(sample)) continue;
    ++oversize;
    if (policy == OversizePolicy::kError) {
      if (listed.size() < kListedSamples) listed.push_back({sample, excess(limits, sample)});
      continue;
    }
    const bool rejected = policy == OversizePolicy::kReject;
    if (result.fate.empty()) result.fate.resize(count, 0);
    result.fate[i] = rejected ? 1 : 2;
    (rejected ? result.rejected : result.oversize).push_back({sample, excess(limits, sample)});
  }
  if (!listed.empty()) throw_oversize(listed, oversize, describe);
  return result;
}

}  // namespace gimbal
