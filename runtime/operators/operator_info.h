// What an operator takes, for those who call it by name: bindings and help texts.
#pragma once

#include <cudadent/cudadent.h>

#include "runtime/language/manifest.h"

namespace cudadent {

// `options` must be complete (see complete_options).
OperatorInfo describe_operator(const OperatorManifest& manifest, const Values& options);

}  // namespace cudadent
