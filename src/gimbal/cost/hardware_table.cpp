// Built-in machines. Numbers are from public data sheets; what is assumed says so in the notes.
#include "gimbal/cost/hardware.h"

namespace gimbal {
namespace {

constexpr double kTera = 1e12, kGiga = 1e9, kGiB = 1024.0 * 1024.0 * 1024.0;

// With these shares the step time of published runs comes out within 10 %, also of one that the
// shares are not set from (tests/unit/cost/published_runs_test.cpp).
std::map<std::string, double> ampere_efficiency() {
  return {{"text_products", 0.70},
          {"vision_products", 0.55},
          {"text_attention", 0.40},
          {"vision_attention", 0.45},
          {"head", 0.70}};
}

std::map<std::string, double> hopper_efficiency() {
  return {{"text_products", 0.55},
          {"vision_products", 0.36},
          {"text_attention", 0.35},
          {"vision_attention", 0.35},
          {"head", 0.55}};
}

const char* const kProductNote =
    "Products of text layers: 0.70 of the peak. Dao, FlashAttention-2 (arXiv 2307.08691, table 1) "
    "trains GPT 2.7B with 2,048 tokens at 205 TFLOP/s of an A100 (0.66) for the whole step; what "
    "attention and memory-bound work take has a line of its own here.";
const char* const kVisionNote =
    "Products of vision layers: 0.55 of the peak. NVIDIA's NeMo guide gives 693 images/s for "
    "pre-training ViT g/14 on one DGX A100 (8 A100), which is 0.44 of the peak for the whole step. "
    "Widths such as 1408 or 3200 and 257 or 1,025 rows per image fill no whole tiles of a product, "
    "and a shard of them under tensor parallelism less so.";
const char* const kAttentionNote =
    "Attention: 0.40 (causal, short samples in one packed sequence) and 0.45 (whole tiles), below "
    "the 0.5 to 0.7 that FlashAttention-2 reaches for long sequences on an A100.";
const char* const kHopperNote =
    "Shares of the peak on Hopper: text products 0.55 (Llama 3, arXiv 2407.21783, table 4: 430 "
    "TFLOP/s, 0.43 of the peak with pipeline and tensor parallel waits); vision products 0.36 "
    "(NeMo guide: 1,428 images/s for ViT g/14 on 8 H100, 0.29 of the peak for the whole step); "
    "attention 0.35 (FlashAttention-2 on H100, about 350 TFLOP/s).";
const char* const kMemoryNote =
    "Memory-bound work runs at 0.8 of the data sheet's bandwidth. Reserved: 3 GB for context, "
    "libraries and communication buffers and 5 % for fragmentation; both are assumptions.";
const char* const kLinkNote =
    "Links: 0.78 of a direction of NVLink, as NCCL's all-reduce test reaches on A100 (about 235 of "
    "300 GB/s), 0.85 of the network; latencies of 3 and 8 microseconds; assumptions.";

void set_memory(Hardware& hardware, Bytes bytes) {
  hardware.memory_bytes = bytes;
  hardware.reserved_bytes = 3 * kGiga + 0.05 * bytes;
}

// `nvlink`: GB/s of one direction. `network`: Gbit/s of a device's port.
LinkTable nvlink_node(double nvlink, double network) {
  return {.inside_node = {.latency = 3e-6, .bytes_per_second = 0.78 * nvlink * kGiga},
          .between_nodes = {.latency = 8e-6, .bytes_per_second = 0.85 * network / 8 * kGiga},
          .devices_per_node = 8};
}

Hardware machine(const std::string& name, double bfloat16, double float32, double bandwidth,
                 Bytes memory) {
  Hardware hardware;
  hardware.name = name;
  hardware.peak_flops = {{"bfloat16", bfloat16 * kTera}, {"float32", float32 * kTera}};
  hardware.memory_bandwidth = bandwidth * kTera;
  set_memory(hardware, memory);
  hardware.launch_seconds = 30e-6;
  hardware.step_overhead = 1e-3;
  return hardware;
}

Hardware ampere(const std::string& name, double bandwidth, Bytes memory, double nvlink,
                const std::string& source) {
  Hardware hardware = machine(name, 312, 19.5, bandwidth, memory);
  hardware.links = nvlink_node(nvlink, 200);
  hardware.efficiency = ampere_efficiency();
  hardware.notes = {
      source,         "Network: one 200 Gbit/s port per device, as in DGX A100; an assumption.",
      kProductNote,   kVisionNote,
      kAttentionNote, kMemoryNote,
      kLinkNote};
  return hardware;
}

Hardware hopper_or_later(const std::string& name, double bfloat16, double float32, double bandwidth,
                         Bytes memory, double nvlink, const std::string& source) {
  Hardware hardware = machine(name, bfloat16, float32, bandwidth, memory);
  hardware.links = nvlink_node(nvlink, 400);
  hardware.efficiency = hopper_efficiency();
  hardware.notes = {source,
                    "Network: one 400 Gbit/s port per device, as in DGX H100; an assumption.",
                    kHopperNote, kMemoryNote, kLinkNote};
  return hardware;
}

Hardware rtx4090() {
  Hardware hardware = machine("rtx4090-24g", 165.2, 82.6, 1.008, 24 * kGiB);
  // PCIe 4.0 x16 without peer-to-peer: through the host's memory, there and back.
  hardware.links = {.inside_node = {.latency = 10e-6, .bytes_per_second = 12 * kGiga},
                    .between_nodes = {.latency = 15e-6, .bytes_per_second = 1.3 * kGiga},
                    .devices_per_node = 8};
  hardware.efficiency = ampere_efficiency();
  hardware.notes = {
      "NVIDIA Ada GPU architecture white paper: 165.2 TFLOP/s dense bfloat16 with float32 sums, "
      "82.6 TFLOP/s float32, 1,008 GB/s, 24 GB, PCIe 4.0 x16, no NVLink.",
      "Links: 12 GB/s between devices of a host, one 100 Gbit/s port for 8 devices; assumptions.",
      "Shares of the peak are those of A100; an assumption.", kMemoryNote};
  return hardware;
}

std::vector<Hardware> all_machines() {
  std::vector<Hardware> all;
  all.push_back(ampere("a100-40g", 1.555, 40 * kGiB, 300,
                       "NVIDIA A100 data sheet (SXM, 40 GB): 312 TFLOP/s dense bfloat16, 19.5 "
                       "TFLOP/s float32 (TF32, which Gimbal does not turn on: 156), 1,555 GB/s, "
                       "NVLink 600 GB/s both ways."));
  all.push_back(ampere("a100-80g", 2.039, 80 * kGiB, 300,
                       "NVIDIA A100 data sheet (SXM, 80 GB): 312 TFLOP/s dense bfloat16, 19.5 "
                       "TFLOP/s float32 (TF32, which Gimbal does not turn on: 156), 2,039 GB/s, "
                       "NVLink 600 GB/s both ways."));
  all.push_back(ampere("a800-80g", 2.039, 80 * kGiB, 200,
                       "NVIDIA A800 data sheet (SXM, 80 GB): as A100 80 GB, with NVLink of 400 "
                       "GB/s both ways."));
  all.push_back(hopper_or_later("h100-80g", 989.4, 66.9, 3.35, 80 * kGiB, 450,
                                "NVIDIA H100 data sheet (SXM5): 989 TFLOP/s dense bfloat16, 67 "
                                "TFLOP/s float32, 3.35 TB/s, NVLink 900 GB/s both ways."));
  all.push_back(hopper_or_later("h200-141g", 989.4, 66.9, 4.8, 141 * kGiB, 450,
                                "NVIDIA H200 data sheet (SXM): 989 TFLOP/s dense bfloat16, 67 "
                                "TFLOP/s float32, 141 GB (systems show 140 GiB), 4.8 TB/s, NVLink "
                                "900 GB/s both ways."));
  all.push_back(hopper_or_later("b200-192g", 2250, 80, 8.0, 192 * kGiga, 900,
                                "NVIDIA Blackwell technical brief and HGX B200: 2,250 TFLOP/s "
                                "dense bfloat16, 80 TFLOP/s float32, 192 GB (systems show 180 to "
                                "186), 8 TB/s, NVLink 1.8 TB/s both ways."));
  all.back().notes.push_back("Shares of the peak are those of H100; an assumption.");
  all.push_back(rtx4090());
  return all;
}

}  // namespace

const std::vector<Hardware>& known_hardware() {
  static const std::vector<Hardware> kMachines = all_machines();
  return kMachines;
}

}  // namespace gimbal
