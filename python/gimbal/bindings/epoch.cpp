#include <chrono>
#include <memory>
#include <mutex>

#include "bindings/bind.h"
#include "bindings/callbacks.h"
#include "bindings/options.h"

namespace py = pybind11;

namespace gimbal::python {
namespace {

// What share of a progress bar the patterns take when they have to be solved.
constexpr double kPatternShare = 0.8;

// One packed epoch with what its arrays and its report refer to.
class Epoch {
 public:
  Epoch(std::shared_ptr<const Problem> problem, SamplerOptions options, std::uint64_t epoch,
        const Progress& progress)
      : problem_(std::move(problem)), epoch_(epoch) {
    const auto begin = std::chrono::steady_clock::now();
    const bool patterns_given = options.patterns != nullptr;
    options.caps = problem_->caps;
    options.costs = problem_->costs;
    options.pattern_options.progress = progress.part(0, kPatternShare);
    if (!progress.report(0)) return;
    sampler_ = std::make_unique<Sampler>(problem_->sizes.view(), std::move(options));
    if (sampler_->options().method == PackMethod::kGimbal) patterns_ = sampler_->patterns();
    if (patterns_ != nullptr && !patterns_given) pattern_seconds_ = patterns_->seconds;
    if (!progress.report(kPatternShare)) return;
    order_ = &sampler_->epoch(epoch);
    source_counts_ = sampler_->source_counts(epoch);
    total_seconds_ =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    progress.report(1);
  }

  const Packs& packs() const { return order_->packs(); }
  const Screening& screening() const { return sampler_->screening(); }
  const std::vector<std::uint64_t>& source_counts() const { return source_counts_; }
  // Null when the method has none.
  std::shared_ptr<const PatternSet> patterns() const { return patterns_; }
  double pattern_seconds() const { return pattern_seconds_; }
  double total_seconds() const { return total_seconds_; }

  BalanceReport report(std::uint64_t ranks) {
    // Python threads may ask at the same time, and the sampler is not made for that.
    const std::lock_guard lock(mutex_);
    return sampler_->report(epoch_, ranks);
  }

  // The report of other packs of the same samples.
  BalanceReport measure(const Packs& packs, std::uint64_t ranks) {
    const SamplerOptions& options = sampler_->options();
    const SampleSizes sizes = problem_->sizes.view();
    const BalanceReport own = report(ranks);
    BalanceReport result =
        measure_balance({.packs = packs,
                         .sizes = sizes,
                         .costs = options.costs,
                         .caps = options.caps,
                         .sources = options.sources,
                         .ranks = ranks,
                         .packs_per_step = options.packs_per_step,
                         .padded_stream = is_padded(options.method) ? options.length_stream : -1,
                         .seed = options.seed});
    GIMBAL_CHECK_EQ(result.samples_packed, own.samples_packed, "samples of other packs");
    result.samples_in = own.samples_in;
    result.samples_rejected = own.samples_rejected;
    result.packs_lower_bound = own.packs_lower_bound;
    result.seconds = own.seconds;
    return result;
  }

 private:
  std::shared_ptr<const Problem> problem_;
  std::uint64_t epoch_;
  std::mutex mutex_;
  std::unique_ptr<Sampler> sampler_;
  std::shared_ptr<const PatternSet> patterns_;
  const EpochOrder* order_ = nullptr;
  std::vector<std::uint64_t> source_counts_;
  double pattern_seconds_ = 0;
  double total_seconds_ = 0;
};

std::unique_ptr<Epoch> pack(const Problem& problem, PackMethod method, OversizePolicy oversize,
                            std::uint64_t seed, std::uint64_t epoch, std::uint64_t packs_per_step,
                            std::uint64_t packs_per_slot, std::uint64_t samples_per_group,
                            int length_stream, int isf_rounds,
                            const std::optional<Array32>& sources,
                            std::vector<double> source_weights,
                            std::shared_ptr<PatternSet> patterns, double pattern_seconds,
                            const py::object& describe, const py::object& progress_function) {
  SamplerOptions options;
  options.method = method;
  options.oversize = oversize;
  options.seed = seed;
  options.packs_per_step = packs_per_step;
  options.packs_per_slot = packs_per_slot;
  options.samples_per_group = samples_per_group;
  options.length_stream = length_stream;
  options.isf_rounds = isf_rounds;
  if (sources) options.sources.assign(sources->data(), sources->data() + sources->size());
  options.source_weights = std::move(source_weights);
  options.patterns = std::move(patterns);
  options.pattern_options.max_seconds = pattern_seconds;
  options.describe = describe_function(describe);
  const Progress progress(progress_function);
  std::unique_ptr<Epoch> result;
  // It refers to numpy arrays, so the last reference to it must go with the GIL held, whatever is
  // thrown meanwhile.
  const auto held = std::make_shared<const Problem>(problem);
  {
    const py::gil_scoped_release release;
    result = std::make_unique<Epoch>(held, std::move(options), epoch, progress);
  }
  progress.raise_if_stopped();
  return result;
}

// The patterns that `pack` would solve on first use.
std::shared_ptr<PatternSet> solve(const Problem& problem, OversizePolicy oversize,
                                  std::uint64_t seed, const std::optional<Array32>& sources,
                                  std::vector<double> source_weights, double max_seconds,
                                  const py::object& describe, const py::object& progress_function) {
  const Progress progress(progress_function);
  SamplerOptions options;
  options.caps = problem.caps;
  options.costs = problem.costs;
  options.oversize = oversize;
  options.seed = seed;
  if (sources) options.sources.assign(sources->data(), sources->data() + sources->size());
  options.source_weights = std::move(source_weights);
  options.pattern_options.max_seconds = max_seconds;
  options.pattern_options.progress = progress.part(0, 1);
  options.describe = describe_function(describe);
  std::shared_ptr<const PatternSet> patterns;
  {
    const py::gil_scoped_release release;
    if (progress.report(0)) {
      Sampler sampler(problem.sizes.view(), std::move(options));
      patterns = sampler.patterns();
      progress.report(1);
    }
  }
  progress.raise_if_stopped();
  GIMBAL_CHECK(patterns != nullptr, "no patterns");
  return std::const_pointer_cast<PatternSet>(patterns);
}

py::dict report_dict(const Epoch& self, const BalanceReport& r) {
  py::dict d;
  d["samples_in"] = r.samples_in;
  d["samples_packed"] = r.samples_packed;
  d["samples_rejected"] = r.samples_rejected;
  d["packs"] = r.packs;
  d["packs_lower_bound"] = r.packs_lower_bound;
  d["steps"] = r.steps;
  d["slots"] = r.slots;
  d["fill"] = r.fill;
  d["waste"] = r.waste;
  d["cost_waste"] = r.cost_waste;
  d["order_correlation"] = r.order_correlation;
  d["source_mix_ratio"] = r.source_mix_ratio;
  d["pad_ratio"] = r.pad_ratio;
  d["dist_ratio"] = r.dist_ratio;
  d["pattern_seconds"] = self.pattern_seconds();
  d["pack_seconds"] = r.seconds;
  d["total_seconds"] = self.total_seconds();
  return d;
}

py::dict report(Epoch& self, std::uint64_t ranks) {
  BalanceReport r;
  {
    const py::gil_scoped_release release;
    r = self.report(ranks);
  }
  return report_dict(self, r);
}

py::dict measure(Epoch& self, const Array64& offsets, const Array32& samples, std::uint64_t ranks) {
  BalanceReport r;
  {
    const py::gil_scoped_release release;
    Packs packs;
    packs.offsets.assign(offsets.data(), offsets.data() + offsets.size());
    packs.samples.assign(samples.data(), samples.data() + samples.size());
    r = self.measure(packs, ranks);
  }
  return report_dict(self, r);
}

py::list rejections(const std::vector<Rejection>& list) {
  py::list result;
  for (const Rejection& r : list) result.append(py::make_tuple(r.sample, r.reason));
  return result;
}

}  // namespace

void bind_epoch(py::module_& m) {
  py::enum_<PackMethod>(m, "Method")
      .value("gimbal", PackMethod::kGimbal)
      .value("isf", PackMethod::kIsf)
      .value("bfd", PackMethod::kBestFitDecreasing)
      .value("random", PackMethod::kRandom)
      .value("length", PackMethod::kLength);
  py::enum_<OversizePolicy>(m, "Oversize")
      .value("error", OversizePolicy::kError)
      .value("reject", OversizePolicy::kReject)
      .value("alone", OversizePolicy::kAlone);
  py::class_<Problem>(m, "Problem")
      .def(py::init<Array32, std::optional<Array64>, std::vector<std::string>,
                    std::vector<std::uint64_t>, std::uint64_t, double,
                    const std::vector<std::pair<double, double>>&>(),
           py::arg("rows").noconvert(), py::arg("pairs").noconvert(), py::arg("names"),
           py::arg("row_caps"), py::arg("samples_per_pack"), py::arg("cost_cap"), py::arg("costs"));
  py::class_<Epoch>(m, "Epoch")
      .def_property_readonly("offsets",
                             [](const py::object& self) {
                               const auto& packs = self.cast<const Epoch&>().packs();
                               return read_only_view(packs.offsets.data(), packs.offsets.size(),
                                                     self);
                             })
      .def_property_readonly("samples",
                             [](const py::object& self) {
                               const auto& packs = self.cast<const Epoch&>().packs();
                               return read_only_view(packs.samples.data(), packs.samples.size(),
                                                     self);
                             })
      .def_property_readonly(
          "rejected", [](const Epoch& self) { return rejections(self.screening().rejected); })
      .def_property_readonly(
          "alone", [](const Epoch& self) { return rejections(self.screening().oversize); })
      .def_property_readonly("source_counts", &Epoch::source_counts)
      .def_property_readonly(
          "patterns",
          [](const Epoch& self) { return std::const_pointer_cast<PatternSet>(self.patterns()); })
      .def("report", &report, py::arg("ranks"))
      .def("measure", &measure, py::arg("offsets"), py::arg("samples"), py::arg("ranks"));
  m.def("pack", &pack, py::arg("problem"), py::kw_only(), py::arg("method"), py::arg("oversize"),
        py::arg("seed"), py::arg("epoch"), py::arg("packs_per_step"), py::arg("packs_per_slot"),
        py::arg("samples_per_group"), py::arg("length_stream"), py::arg("isf_rounds"),
        py::arg("sources"), py::arg("source_weights"), py::arg("patterns"),
        py::arg("pattern_seconds"), py::arg("describe"), py::arg("progress"));
  m.def("solve_patterns", &solve, py::arg("problem"), py::kw_only(), py::arg("oversize"),
        py::arg("seed"), py::arg("sources"), py::arg("source_weights"), py::arg("max_seconds"),
        py::arg("describe"), py::arg("progress"));
}

}  // namespace gimbal::python
