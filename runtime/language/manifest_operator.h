// What reading a template's manifest needs to know of reading its operator's.
#pragma once

#include "runtime/language/manifest.h"
#include "runtime/language/manifest_field.h"

namespace cudadent {

// The names that expressions over a problem's values may use.
Names problem_names(const OperatorManifest& op);

// The words that expressions over a problem's values may use without quotes: data types and options' values.
Words words_of(const OperatorManifest& op);
void add_words(const std::vector<Value>& values, Words& words);

}  // namespace cudadent
