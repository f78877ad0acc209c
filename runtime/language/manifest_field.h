// Reading a manifest's JSON, so that every error names file, field and reason.
#pragma once

#include <cudadent/cudadent.h>

#include <cstddef>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/language/expression.h"

namespace cudadent {

using Json = nlohmann::ordered_json;  // manifests are read in the order they are written
using Names = std::set<std::string>;

// Comments are allowed: manifests are written by people. A field that stands twice in one object is an
// error. Throws Error(invalid_manifest).
Json manifest_json(std::string_view text, const std::string& origin);
// Of what a manifest says, whatever its layout and comments, but for these fields.
std::string manifest_hash(Json json, std::initializer_list<const char*> without);

// A place in a manifest: the JSON there, the file it is in and the way to it. Those outlive it. Everything
// here throws Error(invalid_manifest) when the manifest is not as it should be.
class Field {
 public:
  Field(const Json& json, const std::string& origin, std::string path)
      : json_(json), origin_(origin), path_(std::move(path)) {}

  [[noreturn]] void fail(const std::string& reason) const;

  [[nodiscard]] const Json& json() const { return json_; }
  [[nodiscard]] bool has(const std::string& key) const { return json_.contains(key); }
  [[nodiscard]] Field at(const std::string& key) const;
  void allow_keys(const Names& keys) const;

  // Calls visit(key, field) for each member of an object.
  template <class Visit>
  void each_member(Visit visit) const {
    check_object();
    for (const auto& [key, value] : json_.items()) visit(key, at(key));
  }
  // Calls visit(field) for each element of an array.
  template <class Visit>
  void each_element(Visit visit) const {
    check_array();
    for (std::size_t i = 0; i < json_.size(); ++i) visit(element(i));
  }

  [[nodiscard]] std::string text() const;
  [[nodiscard]] std::string text_or(const std::string& key, const std::string& otherwise) const;
  [[nodiscard]] std::vector<std::string> texts() const;

  [[nodiscard]] bool flag() const;
  [[nodiscard]] bool flag_or(const std::string& key, bool otherwise) const;

  [[nodiscard]] Value scalar() const;
  // At least one, none twice. A value is a word among words, which become an enumeration, or a number
  // among numbers.
  [[nodiscard]] std::vector<Value> values() const;

  // A string is an expression, anything else a constant.
  [[nodiscard]] Expression expression() const;
  // The same, of known names only.
  [[nodiscard]] Expression expression(const Names& known) const;
  [[nodiscard]] std::vector<Expression> expressions(const Names& known) const;
  // Of a member; nothing where there is none.
  [[nodiscard]] std::optional<Expression> expression_at(const std::string& key,
                                                        const Names& known) const;
  [[nodiscard]] std::vector<Expression> expressions_at(const std::string& key,
                                                       const Names& known) const;

 private:
  void check_object() const;
  void check_array() const;
  [[nodiscard]] Field element(std::size_t i) const;

  const Json& json_;
  const std::string& origin_;
  std::string path_;
};

// Letters, digits and _.
bool is_word_letter(char letter);
bool is_word(std::string_view text);

// Names end up as identifiers in generated source, so they must be able to be one there.
void check_identifier(const Field& field, const std::string& name);
// The name of a constant in generated source: it must not hide what templates use.
void check_constant(const Field& field, const std::string& name);

void check_names(const Field& field, const Expression& expression, const Names& known);

[[noreturn]] void fail_used_twice(const Field& field, const std::string& name);

}  // namespace cudadent
