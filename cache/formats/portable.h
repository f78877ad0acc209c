// Our own JSON: winners, trials and runs, to carry to another machine or to keep. Reading what was written
// gives the same records, to the last bit.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "cache/interchange.h"

namespace cudadent {

inline constexpr int portable_version = 1;

//   { "format": "cudadent", "version": 1, "problems": [ … ], "winners": [ … ], "trials": [ … ],
//     "runs": [ … ] }
// where the others name a problem by its place in the list. Seconds; numbers that JSON does not have are
// "NaN", "inf" and "-inf".
nlohmann::json to_portable(const Contents& contents);

// Throws Error(invalid_argument) that names the origin and the place for what is not of this format, of a
// newer version, or incomplete. Names it does not know are passed over.
Contents from_portable(const nlohmann::json& json, const std::string& origin);

}  // namespace cudadent
