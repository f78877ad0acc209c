// Recorded tuning spaces in the formats of other tuners: T4 results, and Kernel Tuner's cache files. Both hold
// the trials of one problem; times are in milliseconds.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "cache/interchange.h"

namespace cudadent {

// Of trials of one problem on one kind of device. The template is one parameter of several when more than
// one took part; a parameter that a template does not have is "none". What the formats have no word for is
// kept in members of our own, so that from_exchange() gives the same statuses.
nlohmann::json to_t4(const std::vector<TrialRecord>& trials);
nlohmann::ordered_json to_kernel_tuner(const std::vector<TrialRecord>& trials);

// What such a file does not say of itself.
struct ExchangeOrigin {
  std::string op;  // a name for the kernel; empty: what the file says, else the file's name
  std::string device_kind;  // empty: what the file says, else "unknown"
  std::string file;         // for messages, and to tell spaces of one name apart
};

bool is_t4(const nlohmann::json& json);
bool is_kernel_tuner(const nlohmann::json& json);

// The trials of either format, as those of an operator that has no templates here: to look at and to replay,
// never to launch. Throws Error(invalid_argument) that names the file and the place.
Contents from_exchange(const nlohmann::json& json, const ExchangeOrigin& origin);

}  // namespace cudadent
