// The generated part of a specialization's source: its constants, as a person would write them.
#pragma once

#include <string>

#include "runtime/language/device.h"
#include "runtime/language/manifest.h"
#include "runtime/operators/problem.h"

namespace cudadent {

// `visible` holds every value of evaluate_let().
std::string generate_prelude(const KernelTemplate& kernel, const Problem& problem,
                             const Values& visible, const Device& device);

// What the backend wants behind a template's source: on the host one exported entry for each kernel.
std::string generate_tail(const KernelTemplate& kernel);

}  // namespace cudadent
