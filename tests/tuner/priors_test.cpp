// How well the built-in priors choose among configurations that were measured on a device that is not here.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/language/value.h"
#include "tuner/cost_model.h"

namespace cudadent {
namespace {

// Of trials that an H200 measured on 2026-11-29, the fastest of each problem: nominal_cuda_device("sm_90a").
nlohmann::json recorded() {
  std::ifstream file(CUDADENT_RECORDED_TRIALS);
  REQUIRE(file);
  return nlohmann::json::parse(file);
}

TEST_CASE("of what was measured priors choose something fast, and say about what it takes") {
  TemplateLibrary library{{}};
  const Device device = *nominal_cuda_device("sm_90a");
  std::map<std::string, std::vector<double>> shares;  // of the best, by operator
  for (const auto& row : recorded()) {
    const std::string op = row.at("op");
    const auto entry = library.find(op);
    const Problem problem = make_problem(entry->manifest, values_from_json(row.at("problem")));
    CAPTURE(problem.describe());
    std::map<std::string, CostModel> models;
    double least = 0, chosen = 0, best = 0;
    for (const auto& trial : row.at("trials")) {
      const auto kernel = entry->template_named(trial.at(0).get<std::string>());
      REQUIRE(kernel);
      const auto model =
          models.try_emplace(kernel->name, *kernel, problem, device.facts()).first->second;
      const double predicted = model(values_from_json(trial.at(1)));
      const double seconds = trial.at(2);
      CHECK(predicted > seconds / 3);
      CHECK(predicted < seconds * 3);
      if (least == 0 || predicted < least) least = predicted, chosen = seconds;
      if (best == 0 || seconds < best) best = seconds;
    }
    CHECK(best / chosen > 0.75);
    shares[op].push_back(best / chosen);
  }
  REQUIRE(shares.size() == 2);
  for (const auto& [op, values] : shares) {
    CAPTURE(op);
    REQUIRE(values.size() >= 8);
    double logarithms = 0;
    for (const double share : values) logarithms += std::log(share);
    CHECK(std::exp(logarithms / static_cast<double>(values.size())) > 0.93);
  }
}

}  // namespace
}  // namespace cudadent
