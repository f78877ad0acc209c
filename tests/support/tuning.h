// The tiny operator with a store and a backend, ready to be tuned.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "cache/store.h"
#include "tests/support/twice.h"
#include "tuner/tuner.h"

namespace cudadent::tests {

struct Tuning {
  Folder folder;
  CountingBackend backend;
  Store store;
  std::vector<std::string> warnings;

  explicit Tuning(bool with_kinds = true, const std::filesystem::path& database = ":memory:",
                  std::chrono::milliseconds busy_timeout = std::chrono::seconds(10))
      : store(database, {.busy_timeout = busy_timeout}) {
    write_twice(folder, with_kinds);
  }

  // Anew every time, as files may have changed.
  [[nodiscard]] TemplateLibrary& library() {
    library_ = std::make_unique<TemplateLibrary>(std::vector{folder.path()});
    return *library_;
  }
  [[nodiscard]] TuningContext context() {
    return {backend, library(), store, [this](LogLevel level, std::string_view message) {
              if (level == LogLevel::warning) warnings.emplace_back(message);
            }};
  }
  [[nodiscard]] std::shared_ptr<const OperatorEntry> entry() { return library().find("twice"); }
  [[nodiscard]] Problem problem(std::int64_t n = 100) {
    return make_problem(entry()->manifest, twice_problem(n));
  }
  TuneResult tune(TuneOptions options = {}, std::int64_t n = 100) {
    const auto op = entry();
    return cudadent::tune(context(), *op, make_problem(op->manifest, twice_problem(n)), options);
  }

 private:
  std::unique_ptr<TemplateLibrary> library_;
};

// Leaves only these kinds valid: "('fast', 'wrong')".
inline void allow_kinds(const Folder& folder, const std::string& kinds) {
  folder.write(
      "twice/kinds.json",
      replaced(kinds_template, "\"let\"", "\"constraints\": [\"KIND in " + kinds + "\"], \"let\""));
}

}  // namespace cudadent::tests
