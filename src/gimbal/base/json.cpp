#include "gimbal/base/json.h"

#include <string_view>

#include "gimbal/base/file.h"

namespace gimbal {

Json read_json(const std::filesystem::path& path) {
  const std::string text = read_file(path);
  try {
    return Json::parse(text);
  } catch (const nlohmann::json::parse_error& error) {
    // "[json.exception.parse_error.101] parse error at line 2, column 3: ..." -> from "parse
    // error".
    const std::string_view what = error.what();
    const std::size_t bracket = what.find("] ");
    throw UserError(concat(path.string(), ": is not valid JSON: ",
                           bracket == std::string_view::npos ? what : what.substr(bracket + 2)));
  }
}

}  // namespace gimbal
