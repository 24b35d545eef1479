// The names that enum values have in recipes, and back.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "gimbal/config/recipe.h"

namespace gimbal {

template <typename E>
struct EnumNames;

template <>
struct EnumNames<DType> {
  static constexpr std::pair<DType, const char*> kNames[] = {
      {DType::kFloat32, "float32"}, {DType::kBFloat16, "bfloat16"}, {DType::kFloat64, "float64"}};
};
template <>
struct EnumNames<WeightInit> {
  static constexpr std::pair<WeightInit, const char*> kNames[] = {
      {WeightInit::kPretrained, "pretrained"}, {WeightInit::kRandom, "random"}};
};
template <>
struct EnumNames<Recompute> {
  static constexpr std::pair<Recompute, const char*> kNames[] = {
      {Recompute::kKeep, "keep"},
      {Recompute::kAttention, "attention"},
      {Recompute::kMlp, "mlp"},
      {Recompute::kFull, "full"}};
};
template <>
struct EnumNames<ScheduleKind> {
  static constexpr std::pair<ScheduleKind, const char*> kNames[] = {
      {ScheduleKind::kConstant, "constant"},
      {ScheduleKind::kLinear, "linear"},
      {ScheduleKind::kCosine, "cosine"}};
};
template <>
struct EnumNames<BalanceMethod> {
  static constexpr std::pair<BalanceMethod, const char*> kNames[] = {
      {BalanceMethod::kGimbal, "gimbal"},
      {BalanceMethod::kIsf, "isf"},
      {BalanceMethod::kBestFitDecreasing, "bfd"},
      {BalanceMethod::kRandom, "random"},
      {BalanceMethod::kLength, "length"}};
};
template <>
struct EnumNames<OversizeChoice> {
  static constexpr std::pair<OversizeChoice, const char*> kNames[] = {
      {OversizeChoice::kError, "error"},
      {OversizeChoice::kReject, "reject"},
      {OversizeChoice::kAlone, "alone"}};
};
template <>
struct EnumNames<DeviceKind> {
  static constexpr std::pair<DeviceKind, const char*> kNames[] = {
      {DeviceKind::kAuto, "auto"}, {DeviceKind::kCpu, "cpu"}, {DeviceKind::kCuda, "cuda"}};
};
template <>
struct EnumNames<PipelineChoice> {
  static constexpr std::pair<PipelineChoice, const char*> kNames[] = {
      {PipelineChoice::kGpipe, "gpipe"},
      {PipelineChoice::kOneFOneB, "1f1b"},
      {PipelineChoice::kInterleaved, "interleaved"},
      {PipelineChoice::kZeroBubble, "zb-h1"}};
};
template <>
struct EnumNames<WeightsChoice> {
  static constexpr std::pair<WeightsChoice, const char*> kNames[] = {
      {WeightsChoice::kKeep, "keep"}, {WeightsChoice::kReshard, "reshard"}};
};

/// The recipe's word for the value.
template <typename E>
const char* enum_name(E value) {
  for (const auto& [known, name] : EnumNames<E>::kNames) {
    if (known == value) return name;
  }
  return "?";
}

/// The value of the recipe's word; nothing for an unknown word.
template <typename E>
std::optional<E> enum_value(std::string_view word) {
  for (const auto& [value, name] : EnumNames<E>::kNames) {
    if (word == name) return value;
  }
  return std::nullopt;
}

/// All words of the enum with `separator` between them.
template <typename E>
std::string enum_choices(const char* separator) {
  std::string all;
  for (const auto& entry : EnumNames<E>::kNames) {
    if (!all.empty()) all += separator;
    all += entry.second;
  }
  return all;
}

}  // namespace gimbal
