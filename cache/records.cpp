#include "cache/records.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <type_traits>
#include <utility>

#include "cache/fields.h"
#include "runtime/language/value.h"

namespace cudadent {

namespace {

using nlohmann::json;

// Bytes that are not UTF-8 must not keep a trial out of the database.
std::string text_of(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

// Calls `visit(name, number)` for each number of KernelResources.
template <class Resources, class Visit>
void each_number(Resources& resources, const Visit& visit) {
  each_field<KernelResources>([&](const auto& field) {
    if constexpr (!std::is_same_v<decltype(field.member), std::string KernelResources::*>)
      visit(field.name, resources.*field.member);
  });
}

}  // namespace

std::string encode_configuration(const Values& configuration) {
  for (const auto& [name, value] : configuration) {
    const auto* real = std::get_if<double>(&value);
    if (real != nullptr && !std::isfinite(*real)) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("cannot store a configuration whose {} is {}", name, *real));
    }
  }
  return text_of(to_json(configuration));
}

Values decode_configuration(std::string_view text) { return values_from_json(json::parse(text)); }

std::string encode_samples(const std::vector<double>& samples) { return text_of(json(samples)); }

std::vector<double> decode_samples(std::string_view text) {
  const json list = json::parse(text);
  std::vector<double> samples;
  for (const json& sample : list.get_ref<const json::array_t&>()) {
    samples.push_back(sample.is_null() ? std::numeric_limits<double>::quiet_NaN()
                                       : sample.get<double>());
  }
  return samples;
}

std::string encode_resources(const std::vector<KernelResources>& resources) {
  json list = json::array();
  for (const KernelResources& kernel : resources) {
    json object = {{"entry", kernel.entry}};
    each_number(kernel, [&](const char* name, std::int64_t number) {
      if (number >= 0) object[name] = number;
    });
    list.push_back(std::move(object));
  }
  return text_of(list);
}

std::vector<KernelResources> decode_resources(std::string_view text) {
  const json list = json::parse(text);
  std::vector<KernelResources> resources;
  for (const json& object : list.get_ref<const json::array_t&>()) {
    KernelResources kernel{.entry = object.at("entry").get<std::string>()};
    each_number(kernel, [&](const char* name, std::int64_t& number) {
      if (object.contains(name)) number = object.at(name).get<std::int64_t>();
    });
    resources.push_back(std::move(kernel));
  }
  return resources;
}

std::string encode_figures(const Figures& figures) {
  json object = json::object();
  for (const auto& [name, value] : figures)
    if (std::isfinite(value)) object[name] = value;
  return text_of(object);
}

Figures decode_figures(std::string_view text) {
  const json object = json::parse(text);
  Figures figures;
  for (const auto& [name, value] : object.get_ref<const json::object_t&>())
    figures[name] = value.get<double>();
  return figures;
}

bool is_settled(TrialStatus status) noexcept {
  return status != TrialStatus::timeout_once && status != TrialStatus::disturbed;
}

TrialStatus decode_status(std::string_view name) {
  for (const TrialStatus status :
       {TrialStatus::ok, TrialStatus::compile_error, TrialStatus::compile_timeout,
        TrialStatus::invalid_resources, TrialStatus::launch_error, TrialStatus::fault,
        TrialStatus::timeout, TrialStatus::wrong_result, TrialStatus::timeout_once,
        TrialStatus::disturbed}) {
    if (name_of(status) == name) return status;
  }
  throw Error(ErrorCode::invalid_argument, fmt::format("unknown trial status '{}'", name));
}

std::string utc_time(std::chrono::system_clock::time_point time) {
  using namespace std::chrono;
  const auto moment = floor<milliseconds>(time);
  const auto milliseconds_in_second = moment.time_since_epoch().count() % 1000;
  return fmt::format("{:%FT%H:%M:%S}.{:03}Z", fmt::gmtime(system_clock::to_time_t(moment)),
                     milliseconds_in_second);
}

std::string utc_now() { return utc_time(std::chrono::system_clock::now()); }

}  // namespace cudadent
