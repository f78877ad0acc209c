// What reading a template's manifest needs to know of reading its operator's.
#pragma once

#include "runtime/language/manifest.h"
#include "runtime/language/manifest_field.h"

namespace cudadent {

// The names that expressions over a problem's values may use.
Names problem_names(const OperatorManifest& op);

}  // namespace cudadent
