#include "gimbal/parallel/comm/comm_health.h"

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "gimbal/base/error.h"
#include "gimbal/parallel/comm/comm_c10d.h"
#include "gimbal/parallel/comm/comm_life_sign.h"

namespace gimbal {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr const char* kFailureKey = "health/failure";
/// Of a rank whose collective has failed. Who looks dead is then more to the point.
constexpr const char* kNoticedFirst = " noticed first: ";
/// Beyond what an answer of the store should take.
constexpr milliseconds kPatience{1500};
/// How long a rank that serves the store stays for the others.
constexpr milliseconds kLongestStay{2500};

std::string life_key(int rank) { return concat("health/", rank); }

std::vector<std::uint8_t> to_bytes(const std::string& text) { return {text.begin(), text.end()}; }
std::string to_text(const std::vector<std::uint8_t>& bytes) { return {bytes.begin(), bytes.end()}; }

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

}  // namespace

/// What the thread and its owner share. The thread may outlive the owner, inside a call to a store
/// that does not answer.
struct Health::Shared {
  enum class Wish { kNone, kReport, kDiagnose, kEnd };

  HealthSetup setup;
  c10::intrusive_ptr<c10d::Store> store;  // for the thread alone

  std::mutex mutex;
  std::condition_variable changed;
  LifeSign sign;  // own
  Wish wish = Wish::kNone;
  bool news = false;         // to be written at once
  bool over = false;         // the thread has returned
  std::string store_error;   // that has ended it
  bool has_noticed = false;  // by a collective that has failed here
  RankReport answer;         // to kDiagnose
  std::optional<std::string> other_failure;

  void run();
  void serve(Wish wanted);
  /// What this rank writes; counts.
  LifeSign next_sign();
  void write_sign() { store->set(life_key(setup.rank), to_bytes(encode(next_sign()))); }
  void write_failure();
  void look_for_failure();
  std::vector<std::optional<LifeSign>> read_signs();
  void stay_for_others();
  std::string describe_store_error(const std::string& reason) const;
  /// Hands the wish to the thread; false when it is not fulfilled in time.
  bool ask(Wish wanted, milliseconds patience);
};

LifeSign Health::Shared::next_sign() {
  const std::string activity = setup.activity();
  const std::lock_guard lock(mutex);
  ++sign.count;
  if (sign.state == LifeState::kRunning) sign.activity = activity;
  return sign;
}

void Health::Shared::write_failure() {
  std::string text;
  {
    const std::lock_guard lock(mutex);
    if (sign.state != LifeState::kFailed) return;
    text = concat("rank ", setup.rank, " (", sign.place, ")",
                  has_noticed ? kNoticedFirst : " failed first: ", sign.activity);
  }
  // Only the first one counts.
  store->compareSet(kFailureKey, {}, to_bytes(text));
}

void Health::Shared::look_for_failure() {
  if (!store->check({kFailureKey})) return;
  const std::string text = to_text(store->get(kFailureKey));
  {
    const std::lock_guard lock(mutex);
    if (other_failure || text.starts_with(concat("rank ", setup.rank, " "))) return;
    other_failure = text;
    if (sign.state != LifeState::kRunning) return;
  }
  if (setup.on_failure) setup.on_failure();
}

std::vector<std::optional<LifeSign>> Health::Shared::read_signs() {
  std::vector<std::string> keys;
  for (int rank = 0; rank < setup.size; ++rank) keys.push_back(life_key(rank));
  std::vector<std::optional<LifeSign>> signs(keys.size());
  if (store->check(keys)) {
    const auto values = store->multiGet(keys);
    for (std::size_t i = 0; i < keys.size(); ++i) signs[i] = decode_life_sign(to_text(values[i]));
    return signs;
  }
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (store->check({keys[i]})) signs[i] = decode_life_sign(to_text(store->get(keys[i])));
  }
  return signs;
}

void Health::Shared::serve(Wish wanted) {
  write_sign();
  if (wanted == Wish::kReport || wanted == Wish::kDiagnose) write_failure();
  if (wanted == Wish::kDiagnose) {
    const auto before = read_signs();
    const auto begin = Clock::now();
    std::this_thread::sleep_for(setup.period * 5 / 2);
    const auto after = read_signs();
    look_for_failure();
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    const std::lock_guard lock(mutex);
    answer = describe_ranks(before, after, setup.rank, seconds);
  }
  if (wanted == Wish::kEnd && setup.rank == 0 && setup.rank_zero_serves) stay_for_others();
}

void Health::Shared::stay_for_others() {
  const auto deadline = Clock::now() + kLongestStay;
  std::vector<long> counts(static_cast<std::size_t>(setup.size), -1);
  std::vector<Clock::time_point> moved(counts.size(), Clock::now());
  for (bool all_gone = false; !all_gone && Clock::now() < deadline;) {
    const auto signs = read_signs();
    all_gone = true;
    for (std::size_t rank = 1; rank < signs.size(); ++rank) {
      if (!signs[rank] || signs[rank]->state == LifeState::kEnded ||
          signs[rank]->state == LifeState::kLeft)
        continue;
      if (signs[rank]->count != counts[rank]) {
        counts[rank] = signs[rank]->count;
        moved[rank] = Clock::now();
      }
      // A rank that reads the signs writes none for two and a half periods.
      if (Clock::now() - moved[rank] < setup.period * 3) all_gone = false;
    }
    if (!all_gone) std::this_thread::sleep_for(milliseconds(20));
  }
}

void Health::Shared::run() {
  try {
    for (bool goes_on = true; goes_on;) {
      Wish wanted = Wish::kNone;
      {
        std::unique_lock lock(mutex);
        changed.wait_for(lock, setup.period, [&] { return wish != Wish::kNone || news; });
        wanted = wish;
        news = false;
      }
      serve(wanted);
      if (wanted != Wish::kEnd) look_for_failure();
      goes_on = wanted != Wish::kEnd;
      const std::lock_guard lock(mutex);
      if (wish == wanted) wish = Wish::kNone;
      changed.notify_all();
    }
  } catch (const std::exception& e) {
    const std::lock_guard lock(mutex);
    store_error = first_line(reason_of(e));
  }
  const std::lock_guard lock(mutex);
  over = true;
  changed.notify_all();
}

bool Health::Shared::ask(Wish wanted, milliseconds patience) {
  std::unique_lock lock(mutex);
  wish = wanted;
  changed.notify_all();
  return changed.wait_for(lock, patience, [&] { return wish == Wish::kNone || over; }) && !over;
}

std::string Health::Shared::describe_store_error(const std::string& reason) const {
  if (setup.rank_zero_serves) {
    return concat("The store at ", setup.store_address, " ", reason,
                  ": rank 0, which serves it, has stopped or is stuck (killed, halted, ended, or "
                  "its machine or network is down). ");
  }
  return concat("The store at ", setup.store_address, " ", reason,
                ": torchrun's agent, which serves it, has stopped or is stuck. ");
}

Health::Health(HealthSetup setup, c10::intrusive_ptr<c10d::Store> store)
    : shared_(std::make_shared<Shared>()) {
  shared_->setup = std::move(setup);
  shared_->store = std::move(store);
  shared_->sign.place = "host " + shared_->setup.host;
  shared_->write_sign();
  std::thread([shared = shared_] { shared->run(); }).detach();
}

Health::~Health() {
  if (std::uncaught_exceptions() > 0) report_unwinding();
  {
    const std::lock_guard lock(shared_->mutex);
    LifeState& state = shared_->sign.state;
    state = state == LifeState::kRunning ? LifeState::kEnded : LifeState::kLeft;
    if (shared_->wish != Shared::Wish::kNone) return;  // the store does not answer
  }
  const bool stays = shared_->setup.rank == 0 && shared_->setup.rank_zero_serves;
  shared_->ask(Shared::Wish::kEnd, kPatience + (stays ? kLongestStay : milliseconds(0)));
}

void Health::set_coordinates(const std::string& text) {
  const std::lock_guard lock(shared_->mutex);
  const std::string host = "host " + shared_->setup.host;
  shared_->sign.place = text.empty() ? host : text + "; " + host;
  shared_->news = true;
  shared_->changed.notify_all();
}

std::optional<std::string> Health::other_failure() const {
  const std::lock_guard lock(shared_->mutex);
  return shared_->other_failure;
}

void Health::report_failure(const std::string& line) {
  {
    const std::lock_guard lock(shared_->mutex);
    if (shared_->sign.state != LifeState::kRunning) return;
    shared_->sign.state = LifeState::kFailed;
    shared_->sign.activity = first_line(line);
  }
  shared_->ask(Shared::Wish::kReport, kPatience);
}

void Health::report_unwinding() {
  report_failure("it ends with an error; see what it has printed");
}

std::string Health::diagnose(const std::string& line) {
  {
    const std::lock_guard lock(shared_->mutex);
    if (shared_->sign.state == LifeState::kRunning) {
      shared_->sign.state = LifeState::kFailed;
      shared_->sign.activity = first_line(line);
      shared_->has_noticed = true;
    }
  }
  const bool answered =
      shared_->ask(Shared::Wish::kDiagnose, shared_->setup.period * 5 / 2 + kPatience);
  const std::lock_guard lock(shared_->mutex);
  std::string text = answered ? shared_->answer.dead : "";
  if (const auto& other = shared_->other_failure;
      other && (text.empty() || other->find(kNoticedFirst) == std::string::npos)) {
    text += *other + ". ";
    text[text.size() - other->size() - 2] = 'R';
  }
  if (answered) return text + shared_->answer.others;
  return text + shared_->describe_store_error(
                    shared_->over ? "is gone (" + shared_->store_error + ")" : "does not answer");
}

}  // namespace gimbal
