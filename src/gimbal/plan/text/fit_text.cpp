// "Will it fit?" in words.
#include <algorithm>

#include "gimbal/base/byte_text.h"
#include "gimbal/base/error.h"
#include "gimbal/plan/fit_check.h"
#include "gimbal/plan/text/figures.h"

namespace gimbal {
namespace {

std::string sample_name(const SampleTable& samples, std::uint32_t sample) {
  return samples.describe ? samples.describe(sample) : concat("sample ", sample);
}

constexpr std::size_t kListedInFit = 10;

// "a.csv line 3, a.csv line 9 and 12 more".
std::string listed_samples(const std::vector<std::uint32_t>& samples, const SampleTable& table) {
  std::string text;
  for (std::size_t i = 0; i < std::min(samples.size(), kListedInFit); ++i) {
    text += (text.empty() ? "" : ", ") + sample_name(table, samples[i]);
  }
  if (samples.size() > kListedInFit) {
    text += " and " + count_text(samples.size() - kListedInFit) + " more";
  }
  return text;
}

}  // namespace

std::string fit_text(const FitCheck& check, const SampleTable& samples) {
  std::string text = "It fits: the largest peak is ";
  if (check.num_packs_over > 0) {
    text = "It does not fit: " + count_text(check.num_packs_over) + " of " +
           count_text(check.num_packs) + " packs need more than there is. The peak is ";
  } else if (!check.fits) {
    text = "It does not fit: packs as full as the caps allow, which other epochs may have, need " +
           bytes_text(check.full_peak_bytes) + ". The peak of this epoch is ";
  }
  text += bytes_text(check.peak_bytes) + " of " + bytes_text(check.capacity_bytes);
  if (check.capacity_bytes > 0) {
    text += " (" + percent_text(check.peak_bytes / check.capacity_bytes) + ")";
  }
  text += concat(", on pipeline rank ", check.worst_rank, ", where stage ", check.worst_stage,
                 " holds most, in pack ", check.worst_pack, " (",
                 count_text(static_cast<std::uint64_t>(check.worst_work.text_rows)), " text rows");
  if (check.worst_work.vision_rows > 0) {
    text += ", " + count_text(static_cast<std::uint64_t>(check.worst_work.vision_rows)) +
            " vision rows";
  }
  text += ").\n";
  std::vector<std::vector<std::string>> rows;
  for (const FitCheck::Part& part : check.parts) {
    rows.push_back(
        {"  " + part.name, bytes_text(part.bytes), percent_text(part.bytes / check.peak_bytes)});
  }
  text += aligned_rows(rows, 1);
  if (!check.worst_samples.empty()) {
    text += "The pack has " + listed_samples(check.worst_samples, samples) + ".\n";
  }
  const bool told = !check.fits && check.num_packs_over == 0;
  if (!told && check.full_peak_bytes > check.peak_bytes) {
    text += "Packs as full as the caps allow, which other epochs may have, need " +
            bytes_text(check.full_peak_bytes) + ".\n";
  }
  if (check.fits) return text;
  if (check.misfits.empty()) {
    return text + "Every sample fits alone: lower the caps, recompute more, or share the model " +
           "between more devices.\n";
  }
  text += count_text(check.misfits.size()) +
          (check.misfits.size() == 1 ? " sample does not fit" : " samples do not fit") +
          " even alone in a pack:\n";
  for (std::size_t i = 0; i < std::min(check.misfits.size(), kListedInFit); ++i) {
    const FitCheck::Misfit& misfit = check.misfits[i];
    text += "  " + sample_name(samples, misfit.sample) + ": " + bytes_text(misfit.bytes) + "; " +
            misfit.reason + "\n";
  }
  if (check.misfits.size() > kListedInFit) {
    text += "  and " + count_text(check.misfits.size() - kListedInFit) + " more\n";
  }
  return text;
}

}  // namespace gimbal
