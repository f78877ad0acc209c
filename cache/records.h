// Parts of records as the database keeps them: JSON and words, so that sqlite3 can show them.
#pragma once

#include <cudadent/cudadent.h>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/backends/backend.h"

namespace cudadent {

// The decoders throw Error(invalid_argument) or nlohmann::json::exception for what is not theirs.

// With names in order and numbers in full, so that equal configurations are equal text. Throws
// Error(invalid_argument) for a number that is not finite.
std::string encode_configuration(const Values& configuration);
Values decode_configuration(std::string_view text);

// A sample that is not finite comes back as NaN.
std::string encode_samples(const std::vector<double>& samples);
std::vector<double> decode_samples(std::string_view text);

// Unknown (negative) numbers are left out.
std::string encode_resources(const std::vector<KernelResources>& resources);
std::vector<KernelResources> decode_resources(std::string_view text);

// Figures that are not finite are left out: JSON has no such numbers.
std::string encode_figures(const Figures& figures);
Figures decode_figures(std::string_view text);

// Whether the trial says something about the configuration; else it is tried again.
bool is_settled(TrialStatus status) noexcept;
TrialStatus decode_status(std::string_view name);

// "2026-01-31T12:00:00.000Z".
std::string utc_time(std::chrono::system_clock::time_point time);
std::string utc_now();

}  // namespace cudadent
