#include "tuner/observers.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace cudadent {

namespace {

class BinaryObserver : public Observer {
 public:
  [[nodiscard]] std::string name() const override { return "binary"; }
  Figures after(const Measurement& measurement) override {
    Figures figures{{"binary_bytes", static_cast<double>(measurement.binary_bytes)}};
    if (measurement.registers >= 0)
      figures["registers"] = static_cast<double>(measurement.registers);
    return figures;
  }
};

class SamplesObserver : public Observer {
 public:
  [[nodiscard]] std::string name() const override { return "samples"; }
  Figures after(const Measurement& measurement) override {
    const auto [fastest, slowest] =
        std::minmax_element(measurement.trial.samples.begin(), measurement.trial.samples.end());
    return {{"fastest_seconds", *fastest}, {"slowest_seconds", *slowest}};
  }
};

struct BuiltInObserver {
  const char* name;
  const char* description;
  std::shared_ptr<Observer> (*make)();
};

template <class Made>
std::shared_ptr<Observer> make_built_in() {
  return std::make_shared<Made>();
}

constexpr std::array<BuiltInObserver, 2> built_in_observers{
    {{"binary", "binary_bytes and registers of what was compiled", make_built_in<BinaryObserver>},
     {"samples", "fastest_seconds and slowest_seconds of the runs",
      make_built_in<SamplesObserver>}}};

[[noreturn]] void refuse(const Observer& observer, const std::string& why) {
  throw Error(ErrorCode::invalid_argument, fmt::format("observer {}: {}", observer.name(), why));
}

}  // namespace

std::shared_ptr<Observer> make_observer(std::string_view name) {
  std::string known;
  for (const BuiltInObserver& entry : built_in_observers) {
    if (entry.name == name) return entry.make();
    known += fmt::format("{}{}", known.empty() ? "" : ", ", entry.name);
  }
  throw Error(ErrorCode::invalid_argument,
              fmt::format("unknown observer '{}'; known: {}", name, known));
}

std::vector<std::pair<std::string, std::string>> observers() {
  std::vector<std::pair<std::string, std::string>> result;
  for (const BuiltInObserver& entry : built_in_observers)
    result.emplace_back(entry.name, entry.description);
  return result;
}

Observers::Observers(std::vector<std::shared_ptr<Observer>> observers)
    : observers_(std::move(observers)) {
  for (const auto& observer : observers_)
    if (observer == nullptr)
      throw Error(ErrorCode::invalid_argument, "TuneOptions::observers has a null pointer in it");
}

template <class Call>
void Observers::each(const Call& call) {
  if (failure_) return;
  try {
    for (const auto& observer : observers_) call(*observer);
  } catch (...) {
    failure_ = std::current_exception();
  }
}

void Observers::before(const Measurement& measurement) {
  each([&](Observer& observer) { observer.before(measurement); });
}

void Observers::during(const Measurement& measurement) {
  each([&](Observer& observer) { observer.during(measurement); });
}

Figures Observers::after(const Measurement& measurement) {
  Figures all;
  each([&](Observer& observer) {
    for (const auto& [name, value] : observer.after(measurement)) {
      if (name.empty()) refuse(observer, "a figure has no name");
      if (!std::isfinite(value)) refuse(observer, fmt::format("{} is {}: no number", name, value));
      if (!all.emplace(name, value).second)
        refuse(observer, fmt::format("{} is another observer's figure, too", name));
    }
  });
  return all;
}

void Observers::check() const {
  if (failure_) std::rethrow_exception(failure_);
}

}  // namespace cudadent
