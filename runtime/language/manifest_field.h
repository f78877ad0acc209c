// Reading a manifest's JSON, so that every error names file, field and reason.
#pragma once

#include <cudadent/cudadent.h>

#include <cstddef>
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

// What all fields of a manifest have in common.
struct ManifestContext {
  std::string origin;  // the file, for messages
  Words words;         // that expressions may use without quotes
};

// A place in a manifest: the JSON there, the manifest it is in and the way to it. Those outlive it.
// Everything here throws Error(invalid_manifest) when the manifest is not as it should be.
class Field {
 public:
  Field(const Json& json, const ManifestContext& context, std::string path)
      : json_(json), context_(context), path_(std::move(path)) {}

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

  // The same place, where expressions may use other words.
  [[nodiscard]] Field in(const ManifestContext& context) const { return {json_, context, path_}; }

  [[nodiscard]] std::string text() const;
  // A member that is for people: a string, or a list of its lines; empty where there is none.
  [[nodiscard]] std::string prose_at(const std::string& key) const;
  [[nodiscard]] std::string text_or(const std::string& key, const std::string& otherwise) const;
  [[nodiscard]] std::vector<std::string> texts() const;

  [[nodiscard]] bool flag() const;
  [[nodiscard]] bool flag_or(const std::string& key, bool otherwise) const;

  [[nodiscard]] Value scalar() const;
  // At least one, none twice. A value is a word among words, which become an enumeration, or a number
  // among numbers.
  [[nodiscard]] std::vector<Value> values() const;

  // An expression is a string, a list of its lines, or a choice {"choose": [[condition, value], …],
  // "default": value} of expressions; a number or flag is a constant.
  [[nodiscard]] Expression expression() const;
  [[nodiscard]] bool is_choice() const { return json_.is_object() && has("choose"); }
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
  [[nodiscard]] Expression parsed(const std::string& text) const;
  [[nodiscard]] std::string joined_lines() const;
  [[nodiscard]] std::string choice() const;
  [[nodiscard]] std::string part_of_choice() const;

  const Json& json_;
  const ManifestContext& context_;
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

// Names of the values and the words of a manifest are distinct, so that no expression is ambiguous.
void check_words(const Field& field, const Words& words, const Names& known);

[[noreturn]] void fail_used_twice(const Field& field, const std::string& name);

}  // namespace cudadent
