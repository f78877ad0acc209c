// What the trials of one problem say, as numbers to draw: how fast configurations are, how the search
// went, what each parameter does. Nothing here knows how it is drawn.
#pragma once

#include <cudadent/cudadent.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "cache/store.h"

namespace cudadent {

// The trials that can be compared with the newest one: the same compiler and method of measuring, and
// of each template the version that was tried last. In the order given, which is oldest first.
std::vector<TrialRecord> comparable_trials(std::vector<TrialRecord> trials);

// The names of all figures that observers added to these, sorted.
std::vector<std::string> figure_names(const std::vector<TrialRecord>& trials);

struct Bin {
  double low = 0, high = 0;  // seconds; the last bin includes its high end
  std::int64_t count = 0;
};
// Bins of equal width in the logarithm, from the fastest to the slowest. Values that are not positive
// and finite are left out. One bin when all are equal, none when there are none.
std::vector<Bin> logarithmic_histogram(const std::vector<double>& seconds, std::size_t bins);

// How many trials ended in each way, "ok" included when there are any.
std::map<std::string, std::int64_t, std::less<>> count_by_status(
    const std::vector<TrialRecord>& trials);

struct BestSoFar {
  std::int64_t evaluation = 0;  // 1 for the first trial; failures count
  double seconds = 0;
};
// A point for each improvement, and one for the last trial. Empty when none worked.
std::vector<BestSoFar> best_so_far(const std::vector<TrialRecord>& trials);

// Trials with one value of a parameter. Relative performance is the template's best median over the
// trial's: 1 for the best, 0.5 for one that takes twice as long.
struct ValueEffect {
  Value value;
  std::int64_t failed = 0;
  std::vector<double> performance;  // of those that worked, ascending
};

struct ParameterEffect {
  std::string name;
  // Share of the variance of log(time) that this parameter explains by itself, 0 … 1, corrected for
  // the number of its values (epsilon squared). Trials a search chose are no random sample: it tells
  // parameters apart, it is no exact figure.
  double importance = 0;
  std::vector<ValueEffect> values;  // in the values' order
};

struct TemplateEffects {
  std::string kernel_template;
  std::int64_t trials = 0, failed = 0;
  double best = 0;                          // seconds; 0 when none worked
  std::vector<ParameterEffect> parameters;  // most important first; those with one value left out
};
// The fastest template first, those of which nothing worked last.
std::vector<TemplateEffects> parameter_effects(const std::vector<TrialRecord>& trials);

// At most `limit` of them, evenly spaced, the first and the last among them.
std::vector<std::size_t> evenly_spaced(std::size_t count, std::size_t limit);

}  // namespace cudadent
