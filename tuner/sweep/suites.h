// Named groups of problems: the layers of a model, for any number of tokens. They are data, in
// kernel_templates/suites/ and in the suites/ of the user's template folders.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace cudadent {

struct Suite {
  struct Layer {
    std::string label;
    std::string op;
    nlohmann::json problem;  // values by name; "$tokens" is what the sweep gives for tokens
  };
  std::string name, doc;
  std::string source;  // of the figures
  std::vector<Layer> layers;
};

class Suites {
 public:
  // The built-in ones, and those of the folders' suites/, which replace others of the same name. Throws
  // Error(invalid_argument) that names the file and what is wrong in it.
  explicit Suites(const std::vector<std::filesystem::path>& template_folders);
  void add(const nlohmann::json& suite, const std::string& origin);

  // Throws Error(invalid_argument) that lists those known.
  [[nodiscard]] const Suite& find(std::string_view name) const;
  [[nodiscard]] const std::map<std::string, Suite, std::less<>>& all() const noexcept {
    return suites_;
  }

 private:
  std::map<std::string, Suite, std::less<>> suites_;
};

}  // namespace cudadent
