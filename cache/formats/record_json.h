// Records as JSON objects, member by member (cache/fields.h).
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cache/fields.h"

namespace cudadent {

// What becomes of numbers that JSON does not have.
enum class NotFinite : std::uint8_t {
  words,  // "NaN", "inf" and "-inf", which read_member() understands
  null,
};

nlohmann::json member_json(double number, NotFinite not_finite);
nlohmann::json member_json(const Values& values, NotFinite not_finite);
nlohmann::json member_json(const std::vector<double>& numbers, NotFinite not_finite);
nlohmann::json member_json(const Figures& figures, NotFinite not_finite);
nlohmann::json member_json(const std::vector<KernelResources>& resources, NotFinite not_finite);
nlohmann::json member_json(TrialStatus status, NotFinite not_finite);
nlohmann::json member_json(Provenance provenance, NotFinite not_finite);
// Texts, whole numbers and flags as they are.
template <class Plain>
nlohmann::json member_json(const Plain& value, NotFinite /*not_finite*/) {
  return value;
}

// The inverse. Throws Error(invalid_argument) or nlohmann::json::exception.
void read_member(const nlohmann::json& json, double& number);
void read_member(const nlohmann::json& json, Values& values);
void read_member(const nlohmann::json& json, std::vector<double>& numbers);
void read_member(const nlohmann::json& json, Figures& figures);
void read_member(const nlohmann::json& json, std::vector<KernelResources>& resources);
void read_member(const nlohmann::json& json, TrialStatus& status);
template <class Plain>
void read_member(const nlohmann::json& json, Plain& value) {
  value = json.get<Plain>();
}

// Adds each member to the object.
template <class Record>
void add_members(nlohmann::json& object, const Record& record, NotFinite not_finite) {
  each_field<Record>([&](const auto& field) {
    object[field.name] = member_json(record.*field.member, not_finite);
  });
}

// The same for those that are stored.
template <class Record>
void add_stored_members(nlohmann::json& object, const Record& record) {
  each_stored_field<Record>([&](const auto& field) {
    object[field.name] = member_json(record.*field.member, NotFinite::words);
  });
}

// Reads them back. What an earlier version did not store may be missing.
template <class Record>
void read_stored_members(const nlohmann::json& object, Record& record) {
  each_stored_field<Record>([&](const auto& field) {
    if (field.stored == Stored::since_4 && !object.contains(field.name)) return;
    read_member(object.at(field.name), record.*field.member);
  });
}

}  // namespace cudadent
