// A sweep as a file says it: which problems, in which order, for how long.
#pragma once

#include <cudadent/cudadent.h>

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "tuner/sweep/suites.h"

namespace cudadent {

struct SweepProblem {
  std::string op;
  Values problem;
  std::string label;             // a suite's layer; may be empty
  double priority = 1;           // the higher go first, and get that much more of a shared budget
  std::optional<Budget> budget;  // of this problem; else the sweep's
};

struct SweepPlan {
  std::vector<SweepProblem> problems;  // the highest priority first, else as written
  double total_seconds = 0;            // shared by all, by priority; 0: no limit
  std::optional<Budget> per_problem;
};

// The file's JSON:
//   { "budget": "2h", "per_problem": "30s", "suites": [ … ], "problems": [
//       { "op": "gemm", "priority": 2, "budget": "1m",
//         "problem": { "m": [1, 16], "n": {"from": 1024, "to": 8192, "factor": 2}, "k": 4096 },
//         "each": [ {"activation": "relu"}, {"activation": "gelu", "bias": true} ] },
//       { "suite": "llama-3-8b", "with": {"tokens": [1, 512]}, "ops": ["gemm"],
//         "problem": {"dtype": "bf16"} } ] }
// A value is one value, a list of them, or a range (with "step" or "factor", both ends included); the
// problems are all combinations, the last name (by alphabet) fastest. Throws Error(invalid_argument)
// that says where.
SweepPlan parse_sweep(const nlohmann::json& json, const std::string& origin, Suites suites);

}  // namespace cudadent
