// A model as data for Python: its description and what it costs at a given size of work.
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <array>

#include "bindings/bind.h"
#include "gimbal/arch/describe.h"
#include "gimbal/config/enums.h"

namespace py = pybind11;

namespace gimbal::python {
namespace {

using WorkValues = std::array<double, 5>;  // in the order of WorkSize

WorkSize work_of(const WorkValues& v) { return {v[0], v[1], v[2], v[3], v[4]}; }

Recompute level_of(const std::string& word) {
  const auto level = enum_value<Recompute>(word);
  GIMBAL_USER_CHECK(level.has_value(), "recompute level '", word, "' is not known; levels are ",
                    enum_choices<Recompute>(", "));
  return *level;
}

const BlockDesc& block_at(const ModelDesc& model, std::size_t index) {
  if (index >= model.blocks.size()) throw py::index_error("no such block");
  return model.blocks[index];
}

const char* kind_word(BlockKind kind) {
  switch (kind) {
    case BlockKind::kVisionEmbed:
      return "vision_embed";
    case BlockKind::kVisionLayer:
      return "vision_layer";
    case BlockKind::kProjector:
      return "projector";
    case BlockKind::kTextEmbed:
      return "text_embed";
    case BlockKind::kTextLayer:
      return "text_layer";
    case BlockKind::kTextNorm:
      return "text_norm";
    case BlockKind::kTextHead:
      return "text_head";
  }
  GIMBAL_CHECK(false, "unknown kind of block");
}

py::dict part_dict(const PartDesc& part) {
  py::dict d;
  d["name"] = part.name;
  d["product_flops_per_row"] = part.product_flops_per_row;
  d["attention_flops_per_row"] = part.attention_flops_per_row;
  d["attention_flops_per_pair"] = part.attention_flops_per_pair;
  d["input_values_per_row"] = part.input_values_per_row;
  d["saved_values_per_row"] = part.saved_values_per_row;
  return d;
}

py::dict block_dict(const BlockDesc& block) {
  py::dict d;
  d["name"] = block.name;
  d["kind"] = kind_word(block.kind);
  d["cost_class"] = block.cost_class;
  d["num_parameters"] = block.num_parameters;
  d["num_expert_parameters"] = block.num_expert_parameters;
  py::list parts;
  for (const PartDesc& part : block.parts) parts.append(part_dict(part));
  d["parts"] = parts;
  d["output_values_per_row"] = block.output_values_per_row;
  d["carried_values_per_vision_row"] = block.carried_values_per_vision_row;
  d["tensor_reductions"] = block.tensor_reductions;
  d["exchanged_values_per_row"] = block.exchanged_values_per_row;
  d["dispatched_values_per_row"] = block.dispatched_values_per_row;
  d["unused"] = block.unused;
  py::list levels;
  for (const Recompute level : recompute_levels(block)) levels.append(enum_name(level));
  d["recompute_levels"] = levels;
  return d;
}

py::dict sizes_dict(const ModelDesc& model) {
  py::dict d;
  d["tokens_per_vision_row"] = model.tokens_per_vision_row;
  d["vocab_size"] = model.vocab_size;
  d["max_positions"] = model.max_positions;
  d["tied_embeddings"] = model.tied_embeddings;
  d["text_heads"] = model.text_heads;
  d["text_kv_heads"] = model.text_kv_heads;
  d["text_ffn"] = model.text_ffn;
  d["vision_heads"] = model.vision_heads;
  d["vision_ffn"] = model.vision_ffn;
  d["num_experts"] = model.num_experts;
  return d;
}

py::list blocks_list(const ModelDesc& model) {
  py::list all;
  for (const BlockDesc& block : model.blocks) all.append(block_dict(block));
  return all;
}

// Per block; frozen[i] says whether block i is frozen.
std::vector<double> backward_of(const ModelDesc& model, const WorkValues& work,
                                const std::vector<bool>& frozen) {
  const std::vector<GradientNeed> needs = gradient_needs(model, frozen);
  std::vector<double> flops;
  for (std::size_t i = 0; i < needs.size(); ++i)
    flops.push_back(backward_flops(model.blocks[i], work_of(work), needs[i]));
  return flops;
}

}  // namespace

void bind_arch(py::module_& m) {
  m.def("known_model_types", &known_model_types);
  m.def(
      "describe_model",
      [](const std::string& config, const std::string& where) {
        return describe_model(Json::parse(config), where);
      },
      py::arg("config"), py::arg("where"));
  m.def("describe_model_file", &describe_model_file, py::arg("path"));
  py::class_<ModelDesc>(m, "ModelDesc")
      .def_readonly("type", &ModelDesc::type)
      .def_readonly("vision_row", &ModelDesc::vision_row)
      .def_property_readonly("num_parameters", &ModelDesc::num_parameters)
      .def_property_readonly("sizes", &sizes_dict)
      .def_property_readonly("blocks", &blocks_list)
      .def(
          "forward_flops",
          [](const ModelDesc& model, std::size_t block, const WorkValues& work) {
            return forward_flops(block_at(model, block), work_of(work));
          },
          py::arg("block"), py::arg("work"))
      .def("backward_flops", &backward_of, py::arg("work"), py::arg("frozen"))
      .def(
          "recompute_flops",
          [](const ModelDesc& model, std::size_t block, const WorkValues& work,
             const std::string& level) {
            return recompute_flops(block_at(model, block), work_of(work), level_of(level));
          },
          py::arg("block"), py::arg("work"), py::arg("level"))
      .def(
          "saved_values",
          [](const ModelDesc& model, std::size_t block, const WorkValues& work,
             const std::string& level) {
            return saved_values(block_at(model, block), work_of(work), level_of(level));
          },
          py::arg("block"), py::arg("work"), py::arg("level"))
      .def(
          "cut_values",
          [](const ModelDesc& model, std::size_t block, const WorkValues& work) {
            block_at(model, block);
            return cut_values(model, block, work_of(work));
          },
          py::arg("block"), py::arg("work"));
}

}  // namespace gimbal::python
