// What a manifest's hash is of. Measurements and winners are known by it, so it is the same as long as the same kernels
// do the same, however the manifest is laid out.
#pragma once

#include <string>

#include "runtime/language/manifest.h"

namespace cudadent {

// Of all that the manifest says but "doc", and what calls are refused ("in_place", "least", "most").
std::string manifest_hash(const OperatorManifest& op);
// Of all that the manifest says but "doc" and "prior". The operator is not in it.
std::string manifest_hash(const KernelTemplate& kernel);

}  // namespace cudadent
