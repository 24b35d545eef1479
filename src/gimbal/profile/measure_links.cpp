#include "gimbal/profile/measure_links.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/ones.h>

#include <algorithm>
#include <chrono>
#include <functional>

#include "gimbal/cost/fit.h"

namespace gimbal {
namespace {

constexpr int kRepeats = 6;

/// The best of several runs. All ranks repeat equally often, so that none waits for ever.
Seconds best_seconds(Comm& comm, const std::function<void()>& work) {
  Seconds best = 0;
  for (int i = 0; i < kRepeats; ++i) {
    comm.barrier("link measurement");
    const auto begin = std::chrono::steady_clock::now();
    work();
    const Seconds seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    best = i == 0 ? seconds : std::min(best, seconds);
  }
  return best;
}

/// Makes the result of asynchronous work visible to the host.
void wait_for(const at::Tensor& tensor) { tensor.flatten()[0].item<float>(); }

/// Calls in which every rank sends to the others at the same time.
void measure_exchanges(Comm& comm, const at::Tensor& tensor, std::vector<LinkSample>& samples) {
  const std::int64_t part = tensor.numel() / comm.size();
  const auto ranks = static_cast<double>(comm.size());
  const double part_bytes = 4.0 * static_cast<double>(part);
  const at::Tensor whole = tensor.narrow(0, 0, part * comm.size());
  const at::Tensor received = at::empty_like(whole);
  samples.push_back({"reduce_scatter", part_bytes * ranks,
                     best_seconds(comm,
                                  [&] {
                                    const at::Tensor out = received.narrow(0, 0, part);
                                    comm.reduce_scatter_sum(out, whole, "links")->wait();
                                    wait_for(out);
                                  }),
                     ranks - 1, part_bytes});
  const std::vector<std::int64_t> rows(static_cast<std::size_t>(comm.size()), part);
  samples.push_back({"all_to_all", part_bytes * ranks,
                     best_seconds(comm,
                                  [&] {
                                    comm.all_to_all(received, whole, rows, rows, "links")->wait();
                                    wait_for(received);
                                  }),
                     ranks - 1, part_bytes});
  const int next = (comm.rank() + 1) % comm.size();
  const int previous = (comm.rank() + comm.size() - 1) % comm.size();
  samples.push_back({"send_receive", part_bytes * ranks,
                     best_seconds(comm,
                                  [&] {
                                    const auto work =
                                        comm.rank() % 2 == 0
                                            ? comm.send(whole, next, "links")
                                            : comm.receive(received, previous, "links");
                                    const auto other =
                                        comm.rank() % 2 == 0
                                            ? comm.receive(received, previous, "links")
                                            : comm.send(whole, next, "links");
                                    work->wait();
                                    other->wait();
                                    wait_for(received);
                                  }),
                     1, part_bytes * ranks});
}

void measure_size(Comm& comm, std::int64_t numel, std::vector<LinkSample>& samples) {
  const at::TensorOptions options = at::TensorOptions().dtype(at::kFloat).device(comm.device());
  const at::Tensor tensor = at::ones({numel}, options);
  const double bytes = 4.0 * static_cast<double>(numel);
  const auto ranks = static_cast<double>(comm.size());
  samples.push_back({"all_reduce", bytes,
                     best_seconds(comm,
                                  [&] {
                                    comm.all_reduce_sum(tensor, "links")->wait();
                                    wait_for(tensor);
                                  }),
                     2 * (ranks - 1), bytes / ranks});
  samples.push_back({"all_gather", bytes * ranks,
                     best_seconds(comm, [&] { wait_for(comm.all_gather(tensor, "links")); }),
                     ranks - 1, bytes});
  // A sum that has run over changes no size; the values need not be kept.
  samples.push_back({"broadcast", bytes,
                     best_seconds(comm,
                                  [&] {
                                    comm.broadcast(tensor, 0, "links")->wait();
                                    wait_for(tensor);
                                  }),
                     1, bytes});
  measure_exchanges(comm, tensor, samples);
}

}  // namespace

LinkMeasurements fit_link(std::vector<LinkSample> samples) {
  LinkMeasurements result;
  std::vector<Measurement> measurements;
  for (const LinkSample& sample : samples)
    measurements.push_back({sample.step_bytes, 0, sample.seconds / sample.steps});
  const FittedLine fitted = fit_line(measurements);
  result.link.latency = fitted.line.base;
  result.link.bytes_per_second = fitted.line.per_row > 0 ? 1 / fitted.line.per_row : 0;
  result.residual = fitted.residual;
  result.samples = std::move(samples);
  return result;
}

LinkMeasurements measure_links(Comm& comm, std::int64_t largest_bytes) {
  if (comm.size() == 1) return {};
  std::vector<LinkSample> samples;
  for (std::int64_t bytes = 4096; bytes <= largest_bytes; bytes *= 8)
    measure_size(comm, bytes / 4, samples);
  const auto count = static_cast<std::int64_t>(samples.size());
  const at::Tensor seconds = at::empty({count}, at::kDouble);
  for (std::int64_t i = 0; i < count; ++i)
    seconds.mutable_data_ptr<double>()[i] = samples[static_cast<std::size_t>(i)].seconds;
  const at::Tensor shared = seconds.to(comm.device());
  comm.broadcast(shared, 0, "link times")->wait();
  const at::Tensor common = shared.to(at::kCPU);
  for (std::int64_t i = 0; i < count; ++i)
    samples[static_cast<std::size_t>(i)].seconds = common.const_data_ptr<double>()[i];
  return fit_link(std::move(samples));
}

LinkTable link_table(const LinkCost& link, int num_processes, int per_node) {
  LinkTable table;
  table.devices_per_node = per_node;
  if (num_processes > 1) table.inside_node = link;
  if (num_processes > per_node) table.between_nodes = link;
  return table;
}

}  // namespace gimbal
