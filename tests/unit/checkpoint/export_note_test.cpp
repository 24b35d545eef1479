#include "gimbal/checkpoint/export_note.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "unit/base/temp_folder.h"

namespace gimbal {
namespace {

using testing::message_of;
using testing::TempFolder;

TEST(ExportNote, ReadsBackAndAllowsReplacing) {
  const TempFolder folder;
  EXPECT_FALSE(check_export_folder(folder / "new"));
  make_folders(folder / "hf");
  EXPECT_FALSE(check_export_folder(folder / "hf")) << "an empty folder";
  write_file_atomic(folder / "hf/model.safetensors", "m");
  write_file_atomic(folder / "hf/config.json", "{}");
  write_export_note(folder / "hf", 40);
  const auto note = check_export_folder(folder / "hf");
  ASSERT_TRUE(note);
  EXPECT_EQ(note->step, 40);
  EXPECT_EQ(note->files, (std::vector<std::string>{"config.json", "model.safetensors"}));
  std::filesystem::remove(folder / "hf/config.json");
  EXPECT_TRUE(check_export_folder(folder / "hf")) << "nothing that a new export would destroy";
}

TEST(ExportNote, LeavesAloneWhatIsNoExport) {
  const TempFolder folder;
  const auto refused = [&](const char* name) {
    return message_of<UserError>([&] { check_export_folder(folder / name); });
  };
  const auto expect_words = [](const std::string& message, const std::string& words) {
    EXPECT_NE(message.find(words), std::string::npos) << message;
  };
  write_file_atomic(folder / "file", "x");
  expect_words(refused("file"), "exists and is no export of gimbal");
  make_folders(folder / "model");
  write_file_atomic(folder / "model/config.json", "{}");
  expect_words(refused("model"), "exists and is no export of gimbal (gimbal_export.json)");
  for (const char* text : {"no JSON", "[]", "{\"format\": \"other\", \"step\": 1, \"files\": []}",
                           "{\"format\": \"gimbal-export\", \"version\": 1, \"step\": \"one\"}",
                           "{\"format\": \"gimbal-export\", \"step\": 1, \"files\": []}"}) {
    write_file_atomic(folder / "model/gimbal_export.json", text);
    expect_words(refused("model"), "exists and is no export of gimbal");
  }
  write_file_atomic(folder / "model/gimbal_export.json",
                    "{\"format\": \"gimbal-export\", \"version\": 2, \"step\": 1, \"files\": []}");
  expect_words(refused("model"),
               "gimbal_export.json is of version 2, and this gimbal knows version 1 only");
  std::filesystem::remove(folder / "model/gimbal_export.json");
  write_export_note(folder / "model", 7);
  make_folders(folder / "model/notes");
  expect_words(refused("model"), "the export of step 7 has not written 'notes', which would be");
}

TEST(ExportNote, ARunExportsBesideWhatIsInTheWay) {
  const TempFolder folder;
  const std::filesystem::path usual = folder / "hf";
  EXPECT_EQ(choose_export_folder(usual, 9).folder, usual) << "nothing is there";
  make_folders(usual);
  write_export_note(usual, 4);
  const ExportTarget free = choose_export_folder(usual, 9);
  EXPECT_EQ(free.folder, usual);
  EXPECT_EQ(free.obstacle, "");
  ASSERT_TRUE(free.earlier);
  EXPECT_EQ(free.earlier->step, 4);

  write_file_atomic(usual / "notes.md", "mine");
  const std::string obstacle =
      "'" + usual.string() +
      "': the export of step 4 has not written 'notes.md', which would be lost";
  const auto expect_beside = [&](const char* name) {
    const ExportTarget beside = choose_export_folder(usual, 9);
    EXPECT_EQ(beside.folder, folder / name);
    EXPECT_EQ(beside.obstacle, obstacle);
    return beside.earlier;
  };
  EXPECT_FALSE(expect_beside("hf.step-9"));
  write_file_atomic(folder / "hf.step-9", "somebody's");
  EXPECT_FALSE(expect_beside("hf.step-9.1"));
  make_folders(folder / "hf.step-9.1/work");
  make_folders(folder / "hf.step-9.2");
  write_export_note(folder / "hf.step-9.2", 9);
  const auto earlier = expect_beside("hf.step-9.2");
  ASSERT_TRUE(earlier) << "an export of this step that may be replaced";
  EXPECT_EQ(earlier->step, 9);
}

}  // namespace
}  // namespace gimbal
