// cudadent: searches and observers of your own, for TuneOptions.
//
//   cudadent::TuneOptions options;
//   options.make_strategy = [](const auto& space, auto seed) { return std::make_unique<Mine>(space, seed); };
//   options.observers = {std::make_shared<Meter>(), cudadent::make_observer("binary")};
//   options.objective = "joules";                          // a figure that Meter gives
#pragma once

#include <cudadent/cudadent.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cudadent {

// A number that stands for a template and a configuration of it, from 0; the same in every run of a problem as
// long as the templates stay as they are.
using Candidate = std::uint64_t;

// What a search chooses from: every valid configuration of every template that fits the problem. Where a
// candidate is not below size(): Error(invalid_argument).
class CUDADENT_API CandidateSpace {
 public:
  virtual ~CandidateSpace() = default;
  [[nodiscard]] virtual Candidate size() const = 0;
  [[nodiscard]] virtual std::string kernel_template(Candidate candidate) const = 0;
  [[nodiscard]] virtual Values configuration(Candidate candidate) const = 0;
  // The inverse of both; nothing when the template is unknown or the configuration is not valid.
  [[nodiscard]] virtual std::optional<Candidate> find(std::string_view kernel_template,
                                                      const Values& configuration) const = 0;
  // Those of the same template that differ in one parameter.
  [[nodiscard]] virtual std::vector<Candidate> neighbours(Candidate candidate) const = 0;
  // What the template's prior predicts, in seconds; nothing where it has none.
  [[nodiscard]] virtual std::optional<double> predicted_seconds(Candidate candidate) const = 0;
};

struct Observation {
  Candidate candidate = 0;
  std::optional<double> value;  // of the objective, above 0, less is better; nothing: it failed
};

// A search: it is asked what to measure next and told what came of it. Called by one thread at a time. What it
// throws ends the run: the trials so far are kept, and Runtime::tune throws the same.
class CUDADENT_API Strategy {
 public:
  virtual ~Strategy() = default;
  // Up to `count` candidates never asked for before, nor told unasked; fewer, even none, while it waits to be
  // told or when there are no more. It may be asked again before it is told: candidates are compiled ahead.
  virtual std::vector<Candidate> ask(std::size_t count) = 0;
  // Results, in any order; also of candidates it did not ask for, such as defaults and what earlier runs measured.
  virtual void tell(const Observation& observation) = 0;
  // True when what it has been told makes a worthwhile improvement unlikely: a run without a fixed
  // count of trials may stop. False for strategies that have no opinion.
  [[nodiscard]] virtual bool converged() const { return false; }
};

// A candidate that is being measured, for observers.
struct Measurement {
  const std::string& problem;     // "gemm m=… n=… …"
  const Trial& trial;             // its samples, median and spread so far
  std::int64_t binary_bytes = 0;  // size of the compiled binary
  std::int64_t registers = -1;    // a thread's, the most of its kernels; -1 unknown
};

// Adds figures to the trials of a tuning run. Called by one thread at a time, which is the one that tunes, and
// only for candidates whose outputs are right. A candidate that is measured anew, since the device failed, begins
// again with before(). What it throws ends the run, as for a Strategy.
class CUDADENT_API Observer {
 public:
  virtual ~Observer() = default;
  [[nodiscard]] virtual std::string name() const = 0;  // for messages
  virtual void before(const Measurement& /*measurement*/) {}
  // Between one batch of timed runs and the next, and after the last.
  virtual void during(const Measurement& /*measurement*/) {}
  // Finite numbers by names that no other observer gives.
  virtual Figures after(const Measurement& measurement) = 0;
};

// An observer that comes with cudadent: "binary" gives binary_bytes and registers. Throws
// Error(invalid_argument) that lists the known names.
CUDADENT_API std::shared_ptr<Observer> make_observer(std::string_view name);
// Their names, with one line each.
CUDADENT_API std::vector<std::pair<std::string, std::string>> observers();

}  // namespace cudadent
