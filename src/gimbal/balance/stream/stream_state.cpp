#include "gimbal/balance/stream/stream_state.h"

#include <bit>
#include <cstring>
#include <string_view>
#include <type_traits>

#include "gimbal/base/error.h"
#include "gimbal/base/rng.h"

namespace gimbal {
namespace {

static_assert(std::endian::native == std::endian::little, "the state is written in little-endian");

constexpr std::string_view kStreamStateMagic = "GIMBALSP";
constexpr std::uint64_t kStreamStateVersion = 1;

class ByteWriter {
 public:
  void number(std::uint64_t value) { raw(&value, sizeof value); }
  void text(std::string_view value) {
    number(value.size());
    bytes_.append(value);
  }
  template <typename T>
  void list(const std::vector<T>& values) {
    static_assert(std::is_arithmetic_v<T>);
    number(values.size());
    raw(values.data(), values.size() * sizeof(T));
  }
  void raw(const void* data, std::size_t size) {
    if (size > 0) bytes_.append(static_cast<const char*>(data), size);
  }
  std::string take() { return std::move(bytes_); }
  std::string_view so_far() const { return bytes_; }

 private:
  std::string bytes_;
};

// The checksum has been found right before the fields are read, so what does not fit is a defect.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : bytes_(bytes) {}

  std::uint64_t number() {
    std::uint64_t value = 0;
    raw(&value, sizeof value);
    return value;
  }
  std::string text() {
    const std::uint64_t size = number();
    GIMBAL_CHECK_LE(size, bytes_.size(), "stream state");
    std::string value(bytes_.substr(0, size));
    bytes_.remove_prefix(size);
    return value;
  }
  template <typename T>
  std::vector<T> list() {
    const std::uint64_t size = number();
    GIMBAL_CHECK_LE(size, bytes_.size() / sizeof(T), "stream state");
    std::vector<T> values(size);
    raw(values.data(), size * sizeof(T));
    return values;
  }
  bool at_end() const { return bytes_.empty(); }

 private:
  void raw(void* data, std::size_t size) {
    GIMBAL_CHECK_LE(size, bytes_.size(), "stream state");
    if (size > 0) std::memcpy(data, bytes_.data(), size);
    bytes_.remove_prefix(size);
  }

  std::string_view bytes_;
};

}  // namespace

std::string StreamState::to_bytes(std::uint64_t fingerprint) const {
  ByteWriter out;
  out.raw(kStreamStateMagic.data(), kStreamStateMagic.size());
  out.number(kStreamStateVersion);
  out.number(fingerprint);
  for (const std::uint64_t n : {samples_in, samples_out, samples_rejected, plans, way,
                                std::uint64_t{finished}, planned_samples}) {
    out.number(n);
  }
  out.list(ids);
  out.list(overtaken);
  out.list(alone);
  out.list(rows);
  out.number(planned.size());
  for (const StreamSlot& slot : planned) {
    out.number(slot.size());
    for (const auto& pack : slot) out.list(pack);
  }
  out.number(rejected.size());
  for (const auto& [id, reason] : rejected) {
    out.number(id);
    out.text(reason);
  }
  out.number(hash_name(out.so_far()));
  return out.take();
}

StreamState StreamState::from_bytes(const std::string& bytes, std::uint64_t fingerprint) {
  constexpr std::size_t kHead = 3 * sizeof(std::uint64_t), kSum = sizeof(std::uint64_t);
  const std::string_view all = bytes;
  GIMBAL_USER_CHECK(
      all.size() >= kHead + kSum && all.substr(0, kStreamStateMagic.size()) == kStreamStateMagic,
      "stream state: these ", bytes.size(),
      " bytes are not the state of a stream packer; give what save() returned");
  ByteReader head(all.substr(kStreamStateMagic.size(), kHead - kStreamStateMagic.size()));
  const std::uint64_t version = head.number();
  GIMBAL_USER_CHECK(version == kStreamStateVersion, "stream state: written in version ", version,
                    ", this program reads version ", kStreamStateVersion,
                    "; go on with the program that wrote it, or start the stream anew");
  const std::string_view covered = all.substr(0, all.size() - kSum);
  GIMBAL_USER_CHECK(ByteReader(all.substr(covered.size())).number() == hash_name(covered),
                    "stream state: damaged or cut short (the checksum differs); use an earlier "
                    "state, or start the stream anew");
  GIMBAL_USER_CHECK(head.number() == fingerprint,
                    "stream state: saved under other options (streams, caps, costs, packs per "
                    "slot, window, policy or seed); use those, or start the stream anew");
  ByteReader in(covered.substr(kHead));
  StreamState state;
  std::uint64_t finished = 0;
  for (std::uint64_t* n : {&state.samples_in, &state.samples_out, &state.samples_rejected,
                           &state.plans, &state.way, &finished, &state.planned_samples}) {
    *n = in.number();
  }
  state.finished = finished != 0;
  state.ids = in.list<std::uint64_t>();
  state.overtaken = in.list<std::uint64_t>();
  state.alone = in.list<std::uint8_t>();
  state.rows = in.list<std::uint32_t>();
  for (std::uint64_t slots = in.number(); slots > 0; --slots) {
    StreamSlot& slot = state.planned.emplace_back();
    for (std::uint64_t packs = in.number(); packs > 0; --packs) {
      slot.push_back(in.list<std::uint64_t>());
    }
  }
  for (std::uint64_t left = in.number(); left > 0; --left) {
    const std::uint64_t id = in.number();
    state.rejected.emplace_back(id, in.text());
  }
  GIMBAL_CHECK(in.at_end(), "stream state has bytes left over");
  return state;
}

}  // namespace gimbal
