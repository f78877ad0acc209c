// Recorded tuning spaces in the formats of other tuners: T4 results, and Kernel Tuner's cache files. Both hold
// the trials of one problem; times are in milliseconds.
#pragma once

#include <filesystem>
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

// The one way such files are read, whoever reads them: to import them, or to play a search on them.
//
// A file's text; decompressed when it is compressed with gzip. Throws Error(invalid_argument).
std::string read_exchange_text(const std::filesystem::path& file);
// Its JSON. Of a T4 or Kernel Tuner file that breaks off, as a run that was ended leaves it, what was written
// completely. `file` is for messages. Throws Error(invalid_argument).
nlohmann::json parse_exchange(const std::string& text, const std::string& file);

// The trials of either format, as those of an operator that has no templates here: to look at and to replay,
// never to launch. Times are milliseconds unless the file says otherwise; what carries no positive finite time
// failed. Throws Error(invalid_argument) that names the file and the place.
Contents from_exchange(const nlohmann::json& json, const ExchangeOrigin& origin);

}  // namespace cudadent
