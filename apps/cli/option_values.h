// The values of options, read strictly: messages name the option, what was found and what is
// expected.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

namespace gimbal::cli {

/// A whole number from `least` to `most`. Throws UserError.
std::uint64_t whole_number(const std::string& option, const std::string& text, std::uint64_t least,
                           std::uint64_t most);
/// A finite number of at least 0. Throws UserError.
double real_number(const std::string& option, const std::string& text);
/// A finite number above 0. Throws UserError.
double positive_number(const std::string& option, const std::string& text);
/// "80", "80G", "80GB", "80GiB": a number above 0, alone or with K, M, G or T for powers of 1024,
/// whatever of B and iB is behind. Throws UserError.
double byte_count(const std::string& option, const std::string& text);
/// "NAME=VALUE" as its two parts. A name may hold a "="; a value never does. Throws UserError that
/// says what `form` is expected.
std::pair<std::string, std::string> split_name(const std::string& option, const std::string& text,
                                               const std::string& form);

}  // namespace gimbal::cli
