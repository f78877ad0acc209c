#include "tuner/sweep/suites.h"

#include <cudadent/cudadent.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "runtime/operators/template_library.h"
#include "tuner/sweep/json_reader.h"

namespace cudadent {

Suites::Suites(const std::vector<std::filesystem::path>& template_folders) {
  for (const auto& file : embedded_files())
    if (file.path.starts_with("suites/"))
      add(parse_json(file.text, std::string(file.path)), fmt::format("<built-in>/{}", file.path));
  for (const auto& folder : template_folders) {
    std::error_code none;
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(folder / "suites", none))
      if (entry.path().extension() == ".json") files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    for (const auto& file : files) add(read_json(file), file.string());
  }
}

void Suites::add(const nlohmann::json& json, const std::string& origin) {
  const JsonReader reader(json, origin);
  reader.allow({"suite", "doc", "source", "problems"});
  Suite suite{reader.text("suite"), reader.text("doc", ""), reader.text("source", ""), {}};
  for (const auto& layer : reader.list("problems")) {
    layer.allow({"label", "op", "problem"});
    suite.layers.push_back(
        {layer.text("label", ""), layer.text("op"), layer.object("problem").json()});
  }
  suites_[suite.name] = std::move(suite);
}

const Suite& Suites::find(std::string_view name) const {
  if (const auto found = suites_.find(name); found != suites_.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [known, suite] : suites_) names.push_back(known);
  throw Error(ErrorCode::invalid_argument,
              fmt::format("no suite \"{}\"; known: {}. Add one of your own under \"suites\" in the "
                          "sweep, or as suites/NAME.json in a template folder.",
                          name, fmt::join(names, ", ")));
}

}  // namespace cudadent
