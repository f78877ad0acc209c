// The tensors of an operator's manifest: shapes, strides, and what decides between several of them.
#pragma once

#include "runtime/language/manifest.h"
#include "runtime/language/manifest_field.h"

namespace cudadent {

// Reads "tensors" into `op`, whose dtypes and options are there already, with the dimensions and strides
// that they name.
void parse_tensors(const Field& field, OperatorManifest& op);

}  // namespace cudadent
