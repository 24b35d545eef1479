#include "gimbal/train/build.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <csignal>
#include <thread>

#include "gimbal/base/error.h"
#include "gimbal/base/json.h"
#include "gimbal/base/log.h"
#include "gimbal/checkpoint/hf_folder.h"
#include "gimbal/plan/packed_work.h"
#include "gimbal/tensor/dtype.h"
#include "gimbal/train/layout/placement.h"
#include "gimbal/train/weights.h"

namespace gimbal {
namespace {

at::Device choose_device(DeviceKind kind, int local_rank) {
  const bool has_cuda = at::globalContext().hasCUDA();
  GIMBAL_USER_CHECK(
      kind != DeviceKind::kCuda || has_cuda,
      "train.device=cuda, but no CUDA device is usable here. Use train.device=auto or cpu.");
  if (kind == DeviceKind::kCpu || !has_cuda) return at::Device(at::kCPU);
  const auto visible = static_cast<int>(at::getNumGPUs());
  // A launcher may show each process a GPU of its own.
  if (visible == 1) return at::Device(at::kCUDA, 0);
  GIMBAL_USER_CHECK(local_rank < visible, "this process is number ", local_rank,
                    " on its machine (LOCAL_RANK), but only ", visible,
                    " CUDA devices are visible. Start at most one process per device, or set "
                    "train.device=cpu.");
  return at::Device(at::kCUDA, static_cast<at::DeviceIndex>(local_rank));
}

PackMethod pack_method(BalanceMethod method) {
  switch (method) {
    case BalanceMethod::kGimbal:
      return PackMethod::kGimbal;
    case BalanceMethod::kIsf:
      return PackMethod::kIsf;
    case BalanceMethod::kBestFitDecreasing:
      return PackMethod::kBestFitDecreasing;
    case BalanceMethod::kRandom:
      return PackMethod::kRandom;
    case BalanceMethod::kLength:
      return PackMethod::kLength;
  }
  throw InternalError("a balance.method without a packing method");
}

OversizePolicy oversize_policy(OversizeChoice choice) {
  switch (choice) {
    case OversizeChoice::kError:
      return OversizePolicy::kError;
    case OversizeChoice::kReject:
      return OversizePolicy::kReject;
    case OversizeChoice::kAlone:
      return OversizePolicy::kAlone;
  }
  throw InternalError("a balance.oversize without a policy");
}

}  // namespace

Runtime make_runtime(DeviceKind device, std::int64_t threads, double timeout_seconds) {
  Runtime runtime;
  runtime.launch = read_launch_info();
  if (!runtime.is_main()) init_log(LogLevel::kInfo, concat("[rank ", runtime.launch.rank, "]"));
  runtime.device = choose_device(device, runtime.launch.local_rank);
  const auto cores = static_cast<std::int64_t>(std::max(1U, std::thread::hardware_concurrency()));
  const std::int64_t processes = runtime.launch.local_world_size;
  if (threads == 0) threads = std::max<std::int64_t>(1, cores / processes);
  at::set_num_threads(static_cast<int>(threads));
  if (runtime.is_main() && runtime.device.is_cpu()) {
    const std::string warning = threads_warning(processes, threads, cores);
    if (!warning.empty()) log_warning(warning);
  }
  // A rank whose partner has died must report it, and not be ended by its closed socket.
  if (runtime.launch.world_size > 1) std::signal(SIGPIPE, SIG_IGN);
  runtime.groups =
      make_comm_world(runtime.launch, runtime.device,
                      std::chrono::milliseconds(static_cast<std::int64_t>(timeout_seconds * 1000)));
  runtime.comm = &runtime.groups->world();
  return runtime;
}

std::string threads_warning(std::int64_t processes, std::int64_t threads, std::int64_t cores) {
  if (processes == 1 || processes * threads <= cores) return "";
  const std::string have =
      concat(processes, " processes x ", threads, threads == 1 ? " thread" : " threads", " on ",
             cores, cores == 1 ? " core" : " cores", " wait for each other: ");
  const std::int64_t fitting = cores / processes;
  return have + (fitting > 0 ? concat("set train.threads=", fitting)
                             : concat("start at most ", cores, ", with train.threads=1"));
}

at::ScalarType compute_dtype(DType dtype) { return scalar_type(dtype); }

at::ScalarType master_dtype(DType dtype) {
  return dtype == DType::kFloat64 ? at::kDouble : at::kFloat;
}

at::ScalarType export_dtype(DType dtype) {
  return dtype == DType::kBFloat16 ? at::kBFloat16 : at::kFloat;
}

Model make_model_of_folder(const std::filesystem::path& folder, const Ports& ports) {
  const std::filesystem::path config = folder / "config.json";
  GIMBAL_USER_CHECK(std::filesystem::is_directory(folder), "model folder '", folder.string(),
                    "' does not exist");
  GIMBAL_USER_CHECK(std::filesystem::exists(config), "model folder '", folder.string(),
                    "' has no config.json. Give the folder of a Hugging Face model.");
  return make_model(read_json(config), config.string(), ports);
}

BuiltModel load_model(const std::filesystem::path& folder, DType dtype, Runtime& runtime,
                      const Placement* placement) {
  const Ports ports = placement == nullptr ? local_ports() : placement->ports();
  BuiltModel built{make_model_of_folder(folder, ports), folder, compute_dtype(dtype), nullptr};
  freeze_parameters(built.model, {"*"});
  StoreSetup setup;
  if (placement != nullptr) {
    setup = placement->store_setup(built.model);
  } else {
    setup.replicas = setup.whole_replicas = runtime.comm;
  }
  setup.master = master_dtype(dtype);
  setup.compute = built.compute;
  setup.device = runtime.device;
  setup.group_of = [](const Parameter&) { return 0; };
  built.store = make_sharded_store(built.model.blocks, setup);
  load_hf_weights(built.model, *built.store, folder);
  return built;
}

void check_dataset_fits(const Dataset& dataset, const Model& model,
                        const std::filesystem::path& folder) {
  const DatasetModelInfo& info = dataset.model();
  const std::string data = "dataset '" + dataset.folder().string() + "'";
  GIMBAL_USER_CHECK(info.vocab_size <= model.vocab_size, data, " was made with ", info.vocab_size,
                    " tokens, the model in '", folder.string(), "' has vocab_size ",
                    model.vocab_size, ". Run gimbal prepare with this model folder.");
  GIMBAL_USER_CHECK(dataset.num_samples() > 0, data,
                    " has no usable sample; its rejected.jsonl says why");
  const bool has_images =
      std::any_of(dataset.samples().begin(), dataset.samples().end(),
                  [](const SampleRecord& record) { return record.num_media > 0; });
  if (has_images) {
    GIMBAL_USER_CHECK(model.image_token_id >= 0, data, " has pictures, the model in '",
                      folder.string(), "' is a text model (model_type ", model.type, ").");
    GIMBAL_USER_CHECK(info.image_token_id == model.image_token_id &&
                          info.image_seq_length == model.image_seq_length,
                      data, " was made with image_token_id ", info.image_token_id,
                      " and image_seq_length ", info.image_seq_length, ", the model in '",
                      folder.string(), "' has ", model.image_token_id, " and ",
                      model.image_seq_length, ". Run gimbal prepare with this model folder.");
  }
  const std::string sha256 = tokenizer_sha256(folder);
  GIMBAL_USER_CHECK(
      info.tokenizer_sha256 == sha256, data, " was made with another tokenizer (fingerprint ",
      info.tokenizer_sha256.substr(0, 12), "...) than the one in '", folder.string(), "' (",
      sha256.substr(0, 12), "...). Run gimbal prepare with this model folder.");
}

void check_same_on_all_ranks(Comm& comm, const std::string& value, const std::string& what) {
  const std::vector<std::string> values = all_gather_bytes(comm, value, "check " + what);
  for (std::size_t rank = 1; rank < values.size(); ++rank) {
    GIMBAL_USER_CHECK(values[rank] == values[0], "rank ", rank, " has another ", what,
                      " than rank 0. All ranks have to see the same recipe and the same files.");
  }
}

SamplerOptions sampler_options(const Recipe& recipe, const Dataset& dataset,
                               const ModelDesc& desc) {
  SamplerOptions options;
  options.method = pack_method(recipe.balance.method);
  options.oversize = oversize_policy(recipe.balance.oversize);
  options.caps.rows = {static_cast<std::uint64_t>(recipe.balance.text_cap),
                       static_cast<std::uint64_t>(recipe.balance.vision_cap)};
  options.caps.samples = static_cast<std::uint64_t>(recipe.balance.samples_per_pack);
  options.samples_per_group = static_cast<std::uint64_t>(recipe.balance.samples_per_pack);
  options.costs = stream_costs(desc);
  options.packs_per_step = static_cast<std::uint64_t>(recipe.balance.packs_per_step);
  options.packs_per_slot = static_cast<std::uint64_t>(recipe.balance.packs_per_slot);
  options.describe = [&dataset](std::uint32_t sample) { return dataset.describe_sample(sample); };
  options.seed = static_cast<std::uint64_t>(recipe.train.seed);
  bool weighted = false;
  for (const DatasetSource& source : dataset.sources()) {
    const auto given = recipe.data.weights.find(source.name);
    options.source_weights.push_back(given == recipe.data.weights.end() ? source.weight
                                                                        : given->second);
    weighted = weighted || options.source_weights.back() != 1.0;
  }
  for (const auto& [name, weight] : recipe.data.weights) {
    const bool known =
        std::any_of(dataset.sources().begin(), dataset.sources().end(),
                    [&](const DatasetSource& source) { return source.name == name; });
    GIMBAL_USER_CHECK(known, "data.weights: dataset '", dataset.folder().string(),
                      "' has no source '", name, "'");
  }
  bool any_left = false;
  for (std::size_t i = 0; i < dataset.sources().size(); ++i) {
    any_left = any_left || (options.source_weights[i] > 0 && dataset.sources()[i].num_samples > 0);
  }
  GIMBAL_USER_CHECK(any_left, "data.weights: no source of dataset '", dataset.folder().string(),
                    "' has a weight above 0");
  if (!weighted) options.source_weights.clear();
  if (dataset.sources().size() < 2 && !weighted) return options;
  options.sources.reserve(dataset.num_samples());
  for (const SampleRecord& record : dataset.samples()) options.sources.push_back(record.source);
  return options;
}

}  // namespace gimbal
