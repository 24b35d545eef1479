#include "gimbal/train/stop/out_of_memory.h"

#include <c10/util/Exception.h>

#include <new>

#include "gimbal/base/error.h"

namespace gimbal {

bool is_out_of_memory(const std::exception& error) {
  const std::string text = error.what();
  return dynamic_cast<const std::bad_alloc*>(&error) != nullptr ||
         dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr ||
         text.find("can't allocate memory") != std::string::npos ||
         text.find("not enough memory") != std::string::npos ||
         text.find("out of memory") != std::string::npos;
}

std::string out_of_memory_message(const Dataset& dataset, const Batch& batch,
                                  const std::string& detail) {
  std::string samples;
  for (const std::uint32_t sample : batch.samples) {
    const SampleRecord& record = dataset.sample(sample);
    samples += concat("\n  ", dataset.describe_sample(sample), ": ", record.num_tokens, " tokens, ",
                      record.vision_rows, " vision rows");
  }
  return concat("out of memory in a micro-batch of ", batch.num_tokens(),
                " tokens with these samples:", samples,
                "\nLower balance.text_cap or balance.vision_cap, raise balance.micro_batches, or "
                "set model.recompute=full.\n(",
                detail.substr(0, detail.find('\n')), ")");
}

}  // namespace gimbal
