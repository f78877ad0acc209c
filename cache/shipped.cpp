#include "cache/shipped.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>

#include "cache/formats/portable.h"
#include "runtime/base/environment.h"
#include "runtime/base/files.h"

namespace cudadent {

namespace {

namespace fs = std::filesystem;

using Key = std::tuple<const std::string&, const std::string&, const std::string&>;

Key key_of(const WinnerRecord& record) {
  return {record.problem.op, record.problem.device_kind, record.problem.tuning_key};
}

std::vector<WinnerRecord> winners_in(const EmbeddedFile& file) {
  const std::string name(file.path);
  const auto document = nlohmann::json::parse(file.text, nullptr, false);
  if (document.is_discarded())
    throw Error(ErrorCode::invalid_argument, fmt::format("{}: not JSON", name));
  auto winners = from_portable(document, name).winners;
  for (auto& winner : winners) {
    winner.layer = name;
    winner.shipped = true;
  }
  return winners;
}

std::string text_of(const fs::path& file) {
  if (auto text = read_file(file)) return *std::move(text);
  throw Error(ErrorCode::cache_failed, fmt::format("cannot read {}", file.string()));
}

std::shared_ptr<const ShippedWinners> winners_of_folder(const fs::path& folder) {
  std::vector<std::pair<std::string, std::string>> texts;
  try {
    for (const auto& entry : fs::directory_iterator(folder))
      if (entry.path().extension() == ".json")
        texts.emplace_back(entry.path().string(), text_of(entry.path()));
  } catch (const fs::filesystem_error& error) {
    throw Error(ErrorCode::cache_failed,
                fmt::format("CUDADENT_SHIPPED names {}, which is no folder that can be read: {}. "
                            "\"none\" stands for no winners",
                            folder.string(), error.code().message()));
  }
  if (texts.empty())
    throw Error(ErrorCode::cache_failed,
                fmt::format("CUDADENT_SHIPPED names {}, in which there is no .json file. \"none\" "
                            "stands for no winners",
                            folder.string()));
  std::vector<EmbeddedFile> files;
  for (const auto& [path, text] : texts) files.push_back({path, text});
  return std::make_shared<const ShippedWinners>(files);
}

std::shared_ptr<const ShippedWinners> embedded_winners() {
  static const auto winners = std::make_shared<const ShippedWinners>(shipped_files());
  return winners;
}

}  // namespace

ShippedWinners::ShippedWinners(std::span<const EmbeddedFile> files) {
  for (const auto& file : files)
    for (auto& winner : winners_in(file)) winners_.push_back(std::move(winner));
  std::stable_sort(winners_.begin(), winners_.end(), [](const auto& a, const auto& b) {
    return key_of(a) != key_of(b) ? key_of(a) < key_of(b) : a.created > b.created;
  });
}

std::span<const WinnerRecord> ShippedWinners::find(const std::string& op,
                                                   const std::string& tuning_key,
                                                   const std::string& device_kind) const {
  const Key key(op, device_kind, tuning_key);
  const auto first =
      std::lower_bound(winners_.begin(), winners_.end(), key,
                       [](const WinnerRecord& record, const Key& k) { return key_of(record) < k; });
  const auto last = std::find_if(first, winners_.end(),
                                 [&](const WinnerRecord& record) { return key_of(record) != key; });
  return {first, last};
}

ShippedSource shipped_source(const Environment& environment) {
  if (environment.shipped == "none") return {};
  if (environment.shipped.empty()) return embedded_winners;
  return [folder = fs::path(environment.shipped)] { return winners_of_folder(folder); };
}

}  // namespace cudadent
