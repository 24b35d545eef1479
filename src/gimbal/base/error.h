// The two kinds of error and the check macros that throw them.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace gimbal {

/// Something that the user can mend: config, data, file, environment. Says which file, key or
/// sample, and what to do.
class UserError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A defect of Gimbal.
class InternalError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

/// The values one after another, as operator<< prints them.
template <typename... Args>
std::string concat(Args&&... args) {
  std::ostringstream out;
  (out << ... << std::forward<Args>(args));
  return out.str();
}

[[noreturn]] void throw_internal(const char* file, int line, const char* condition,
                                 const std::string& message);

}  // namespace gimbal

/// Throws UserError with the concatenated message unless `cond` holds.
#define GIMBAL_USER_CHECK(cond, ...)                                       \
  do {                                                                     \
    if (!(cond)) throw ::gimbal::UserError(::gimbal::concat(__VA_ARGS__)); \
  } while (false)

/// Throws InternalError with place, condition and message unless `cond` holds.
#define GIMBAL_CHECK(cond, ...)                                                              \
  do {                                                                                       \
    if (!(cond))                                                                             \
      ::gimbal::throw_internal(__FILE__, __LINE__, #cond, ::gimbal::concat("" __VA_ARGS__)); \
  } while (false)

#define GIMBAL_CHECK_EQ(a, b, ...) GIMBAL_CHECK((a) == (b), "", (a), " vs ", (b), ". " __VA_ARGS__)
#define GIMBAL_CHECK_LE(a, b, ...) GIMBAL_CHECK((a) <= (b), "", (a), " vs ", (b), ". " __VA_ARGS__)
