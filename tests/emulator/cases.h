// Cases to try templates on: random problems, small and awkward, with random configurations.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "runtime/operators/specialization.h"
#include "runtime/operators/template_library.h"

namespace cudadent::emulator {

struct Case {
  std::shared_ptr<const KernelTemplate> kernel;
  Problem problem;
  Configuration configuration;
  int sm = 0, sm_count = 0;
  std::uint64_t seed = 0;  // of inputs and schedules

  // As the command that tries it.
  [[nodiscard]] std::string describe() const;
  // "gemm/mma BM=64", "gemm/mma dtype=bf16", …: what some case of a run should have had.
  [[nodiscard]] std::vector<std::string> features() const;
};

struct Outcome {
  std::string fault;  // empty when every launch was right
  double error = 0;   // the largest relative one of an output
  double compile_seconds = 0, run_seconds = 0;
};

// Compiles, and launches so many times, each under a schedule of its own: a kernel must also leave its
// workspaces fit for the next launch. The first is the plainest when `plain_first`.
Outcome try_case(const Case& given, int launches, bool plain_first = false,
                 const std::vector<std::string>& compile_options = {});

// What cases are to have; the rest is drawn.
struct CaseRules {
  std::string op, kernel;  // of one operator, or template; empty: of all
  Values problem, parameters;
  int sm = 0, sm_count = 0;
  double most_flops = 4e7;  // about a tenth of a second
  int draws = 12;           // problems drawn for a case, of which it takes one
};

// Extents that are easy to get wrong: 0 and 1, primes, and what is beside a tile; more than half of them
// multiples of 8, which some templates need. Of some dimensions only a few, others being refused or slow.
std::int64_t random_extent(const std::string& dimension, std::mt19937_64& random);

// Draws cases; of several that are possible, the one with most that no case had so far.
class CaseMaker {
 public:
  // Throws Error(invalid_argument) when there is no such template.
  CaseMaker(TemplateLibrary& library, std::uint64_t seed, CaseRules rules = {});

  // Throws Error(invalid_argument) when nothing that was drawn fits the template.
  Case next();
  // Parameter values that no case had.
  [[nodiscard]] std::vector<std::string> missed() const;
  [[nodiscard]] std::size_t templates() const { return templates_.size(); }

 private:
  struct Candidate {
    std::shared_ptr<const OperatorManifest> op;
    std::shared_ptr<const KernelTemplate> kernel;
  };
  std::vector<Case> draw(const Candidate& candidate);
  std::vector<Case> draw_configurations(const Candidate& candidate, const Problem& problem);

  CaseRules rules_;
  std::mt19937_64 random_;
  std::vector<Candidate> templates_;
  std::vector<std::size_t> turns_;  // indices of templates_, those with many parameters often
  std::set<std::string> met_;
};

}  // namespace cudadent::emulator
