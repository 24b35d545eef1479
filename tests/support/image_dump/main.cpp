// Decodes or processes pictures as the trainer does and writes the raw result, for comparison with
// Pillow and transformers.
//   image_dump decode IMAGE OUT.rgb
//   image_dump process PROCESSOR.json IMAGE GRID_COLUMNS GRID_ROWS OUT.f32
// Without arguments it reads such commands from stdin, one a line, words separated by tabs. Each is
// answered by one line: "ok WIDTH HEIGHT" (decoded picture) or "error MESSAGE".
#include <cstdint>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/data/dataset_manifest.h"
#include "gimbal/data/image.h"
#include "gimbal/tensor/image_processor.h"

namespace {

using gimbal::Image;

Image load(const std::string& path) {
  const std::string bytes = gimbal::read_file(path);
  return gimbal::decode_image(std::as_bytes(std::span(bytes)), path);
}

void write(const std::string& path, const void* data, std::size_t size_bytes) {
  gimbal::OutputFile file(path);
  file.write(data, size_bytes);
  file.close();
}

Image process(const std::vector<std::string>& words) {
  const gimbal::ImageProcessor processor(gimbal::read_image_processor(words[1]));
  Image image = load(words[2]);
  gimbal::MediaRecord media{};
  media.width = static_cast<std::uint32_t>(image.width);
  media.height = static_cast<std::uint32_t>(image.height);
  media.grid_columns = static_cast<std::uint32_t>(std::stoul(words[3]));
  media.grid_rows = static_cast<std::uint32_t>(std::stoul(words[4]));
  const bool thumbnail =
      processor.config().use_thumbnail && media.grid_columns * media.grid_rows > 1;
  media.rows = media.grid_columns * media.grid_rows + (thumbnail ? 1 : 0);
  const at::Tensor tiles = processor.process(image, media);
  write(words[5], tiles.const_data_ptr(), static_cast<std::size_t>(tiles.nbytes()));
  return image;
}

bool run(const std::vector<std::string>& words) {
  try {
    Image image;
    if (words.size() == 3 && words[0] == "decode") {
      image = load(words[1]);
      write(words[2], image.rgb.data(), image.rgb.size());
    } else if (words.size() == 6 && words[0] == "process") {
      image = process(words);
    } else {
      throw gimbal::UserError("unknown command");
    }
    std::cout << "ok " << image.width << ' ' << image.height << std::endl;
    return true;
  } catch (const std::exception& e) {
    std::cout << "error " << e.what() << std::endl;
    return false;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) return run({argv + 1, argv + argc}) ? 0 : 1;
  for (std::string line; std::getline(std::cin, line);) {
    std::vector<std::string> words;
    std::istringstream in(line);
    for (std::string word; std::getline(in, word, '\t');) words.push_back(word);
    run(words);
  }
}
