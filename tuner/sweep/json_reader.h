// JSON that people write, read with complaints they can use: where it is, what was expected.
#pragma once

#include <filesystem>
#include <initializer_list>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace cudadent {

// Throw Error(invalid_argument) that names the origin, and the line when the text is not JSON. Comments are
// allowed.
nlohmann::json parse_json(std::string_view text, const std::string& origin);
nlohmann::json read_json(const std::filesystem::path& file);

// One object of such a text. Everything throws Error(invalid_argument) that names the place. Keeps a
// reference to the JSON.
class JsonReader {
 public:
  // `place` is for messages: "sweep.json: problems[2]". Throws when `json` is not an object.
  JsonReader(const nlohmann::json& json, std::string place);

  [[nodiscard]] const nlohmann::json& json() const noexcept { return json_; }
  [[nodiscard]] const std::string& place() const noexcept { return place_; }
  [[nodiscard]] bool has(const char* name) const;
  // Complains about every name that is not among these.
  void allow(std::initializer_list<std::string_view> names) const;
  [[nodiscard]] std::string text(const char* name) const;
  [[nodiscard]] std::string text(const char* name, const char* otherwise) const;
  [[nodiscard]] double number(const char* name) const;
  [[nodiscard]] JsonReader object(const char* name) const;
  [[nodiscard]] std::vector<JsonReader> list(const char* name) const;  // of objects
  [[noreturn]] void fail(const std::string& complaint) const;

 private:
  [[nodiscard]] const nlohmann::json& at(const char* name, const char* expected) const;

  const nlohmann::json& json_;
  std::string place_;
};

}  // namespace cudadent
