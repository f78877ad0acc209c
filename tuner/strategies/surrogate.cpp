#include "tuner/strategies/surrogate.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "tuner/strategies/strategies.h"

namespace cudadent {
namespace {

constexpr std::size_t beginning_size = 6;    // before the model is asked
constexpr std::size_t most_favourites = 6;   // besides the best of each template
constexpr std::size_t most_ranked = 4'096;   // candidates the prior is asked about
constexpr std::size_t small_space = 20'000;  // looked at as a whole
constexpr std::size_t sample_size = 4'096;   // of a larger one
constexpr std::size_t most_modelled = 400;   // rows
constexpr std::size_t most_fitted = 128;     // rows that length scales are fitted to
constexpr std::size_t surroundings = 5;      // of how many of the best
constexpr double rebuilding_work = 6e8;      // points² × candidates; about a tenth of a second
constexpr double growth = 1.15;              // of the rows between two fits
constexpr double slow_from = 0.5;            // above the median, in logarithms, all count as slow
constexpr double resolution = 0.01;        // differences this small next to the best matter little
constexpr double optimism = 2.5;           // deviations
constexpr double patience = 10;            // results without gain, after which optimism grows
constexpr double growing_optimism = 0.02;  // by this share with every further one

constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

}  // namespace

Surrogate::Surrogate(const SearchSpace& space, std::uint64_t seed, Options options)
    : space_(space),
      uses_prior_(options.prior && has_prior(space)),
      random_(seed),
      anywhere_(space.size(), random_.next()),
      features_(space),
      kernel_(initial_kernel(features_.scales())),
      predictor_(kernel_, features_.scale_of()) {
  if (uses_prior_) choose_favourites();
  if (space.size() <= small_space) {
    std::vector<Candidate> all(space.size());
    std::iota(all.begin(), all.end(), Candidate{0});
    add_to_pool(all);
  } else {
    add_to_pool(favourites_);
    add_sample(sample_size);
  }
}

// The best of each template, and a few more that are not next to one another. On the way, how the
// prior's costs are spread.
void Surrogate::choose_favourites() {
  const auto liked = ranked(space_, most_ranked, random_.next());
  double sum = 0, squares = 0, count = 0;
  std::vector<bool> seen(space_.members().size(), false);
  std::vector<Candidate> near;
  std::size_t others = 0;
  for (const Candidate candidate : liked) {
    const auto cost = predicted(space_, candidate);
    if (!cost || !std::isfinite(*cost)) continue;
    if (*cost > 0) {
      const double logarithm = std::log(*cost);
      sum += logarithm;
      squares += logarithm * logarithm;
      count += 1;
    }
    const auto member =
        static_cast<std::size_t>(&space_.member_of(candidate) - space_.members().data());
    if (seen[member]) {
      const bool crowded = std::find(near.begin(), near.end(), candidate) != near.end();
      if (crowded || others == most_favourites) continue;
      ++others;
    }
    seen[member] = true;
    favourites_.push_back(candidate);
    const auto adjacent = space_.neighbours(candidate, Neighbourhood::adjacent);
    near.insert(near.end(), adjacent.begin(), adjacent.end());
  }
  if (count < 2) return;
  prior_centre_ = sum / count;
  prior_spread_ = std::sqrt(std::max(squares / count - prior_centre_ * prior_centre_, 1e-6));
}

// In deviations from what is usual.
float Surrogate::prior_of(Candidate candidate) {
  if (!uses_prior_) return 0;
  const auto [entry, fresh] = priors_.emplace(candidate, 0.0F);
  if (!fresh) return entry->second;
  const auto cost = predicted(space_, candidate);
  if (!cost) return 0;
  constexpr double most = 3;  // nothing is so good or bad that it distorts the rest
  const double score =
      *cost <= 0 ? -most
                 : std::clamp((std::log(*cost) - prior_centre_) / prior_spread_, -most, most);
  return entry->second = static_cast<float>(score);
}

// ---------------------------------------------------------------------------------- ask and tell

std::vector<Candidate> Surrogate::ask(std::size_t count) {
  return up_to(count, [&] {
    const auto candidate = next();
    if (candidate) add_row(*candidate);
    return candidate;
  });
}

void Surrogate::tell(const Observation& observation) {
  if (!ledger_.record(observation)) return;
  if (!row_of_.contains(observation.candidate)) add_row(observation.candidate);
  Row& row = rows_[row_of_[observation.candidate]];
  row.told = true;
  ++told_;
  row.failed = !observation.value || !std::isfinite(*observation.value) || *observation.value <= 0;
  if (row.failed) return;
  ++successes_;
  row.log_seconds = std::log(*observation.value);
  if (ledger_.best() == observation.candidate) {
    last_gain_ = told_;
    add_surroundings(observation.candidate, 0);
  }
}

bool Surrogate::beginning() const {
  const std::size_t size = std::max(beginning_size, 2 + favourites_.size());
  return rows_.size() < std::max<std::size_t>(size, 1) || told_ < 3 || successes_ == 0;
}

std::optional<Candidate> Surrogate::next() {
  if (beginning()) {
    if (rows_.size() % 2 == 0) {
      if (const auto liked = favourite()) return liked;
    }
    return anywhere_.next(ledger_);
  }
  if (const auto found = most_promising()) return found;
  renew_pool();
  if (const auto found = most_promising()) return found;
  return anywhere_.next(ledger_);
}

std::optional<Candidate> Surrogate::favourite() {
  while (next_favourite_ < favourites_.size()) {
    const Candidate candidate = favourites_[next_favourite_++];
    if (ledger_.claim(candidate)) return candidate;
  }
  return std::nullopt;
}

std::optional<Candidate> Surrogate::most_promising() {
  const Measure measured = measure();
  if (told_ >= next_fit_) refit(measured);
  std::vector<double> values;
  for (const std::size_t row : modelled_) {
    values.push_back(rows_[row].told ? value_of(rows_[row], measured) : unknown);
  }
  predictor_.predict(values, mean_, deviation_);
  const double fruitless = static_cast<double>(told_ - last_gain_) - patience;
  const double hope = optimism * (1 + growing_optimism * std::max(fruitless, 0.0));
  std::optional<std::size_t> chosen;
  double lowest = std::numeric_limits<double>::infinity(), fastest = lowest;
  const double incumbent = (measured.raw(measured.best) - measured.mean) / measured.deviation;
  for (std::size_t i = 0; i < pool_.size(); ++i) {
    mean_[i] += static_cast<float>(measured.slope) * pool_prior_[i];
    if (pool_claimed_[i]) continue;
    fastest = std::min(fastest, mean_[i] - optimism * deviation_[i]);
    const double optimistic = mean_[i] - hope * deviation_[i];
    if (optimistic >= lowest) continue;
    lowest = optimistic;
    chosen = i;
  }
  if (!chosen) return std::nullopt;
  possible_gain_ = (incumbent - fastest) * measured.deviation * 2 * std::sqrt(resolution);
  ledger_.claim(pool_[*chosen]);
  return pool_[*chosen];
}

// Only after a long time without gain: where the model sees nothing it may be blind.
bool Surrogate::converged() const {
  constexpr double least_wait = 70, share_waited = 0.45, worthwhile = 0.005;
  if (successes_ == 0 || beginning()) return false;
  const auto waited = static_cast<double>(told_ - last_gain_);
  if (waited < std::max(least_wait, share_waited * static_cast<double>(told_))) return false;
  return possible_gain_ < worthwhile;
}

// ------------------------------------------------------------------------------------- the model

double Surrogate::Measure::raw(double log_seconds) const {
  return std::sqrt(std::max(std::min(log_seconds, highest) - best, 0.0) + resolution);
}

double Surrogate::Measure::of(const Row& row) const {
  return (raw(row.failed ? highest : row.log_seconds) - mean) / deviation;
}

double Surrogate::value_of(const Row& row, const Measure& measure) const {
  return measure.of(row) - measure.slope * row.prior;
}

Surrogate::Measure Surrogate::measure() const {
  Measure result;
  std::vector<double> logs;
  for (const Row& row : rows_) {
    if (row.told && !row.failed) logs.push_back(row.log_seconds);
  }
  if (logs.empty()) return result;
  const auto middle = logs.begin() + static_cast<long>(logs.size() / 2);
  std::nth_element(logs.begin(), middle, logs.end());
  result.highest = *middle + slow_from;
  result.best = *std::min_element(logs.begin(), logs.end());
  double sum = 0, squares = 0, count = 0;
  for (const Row& row : rows_) {
    if (!row.told) continue;
    const double value = result.raw(row.failed ? result.highest : row.log_seconds);
    sum += value;
    squares += value * value;
    count += 1;
  }
  result.mean = sum / count;
  result.deviation = std::sqrt(std::max(squares / count - result.mean * result.mean, 1e-8));
  if (!uses_prior_) return result;
  // Never negative: a prior that is wrong all over is left aside. The constant stands for
  // measurements that disagree.
  double together = 0, prior = 4;
  for (const Row& row : rows_) {
    if (!row.told) continue;
    together += result.of(row) * row.prior;
    prior += static_cast<double>(row.prior) * row.prior;
  }
  result.slope = std::max(together / prior, 0.0);
  return result;
}

// Rows that have been told: all, or the fastest and the latest half each.
std::vector<std::size_t> Surrogate::told_rows(std::size_t most) const {
  std::vector<std::size_t> told;
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    if (rows_[i].told) told.push_back(i);
  }
  if (told.size() <= most) return told;
  const auto slowness = [&](std::size_t row) {
    return rows_[row].failed ? std::numeric_limits<double>::infinity() : rows_[row].log_seconds;
  };
  std::stable_sort(told.begin(), told.end(),
                   [&](std::size_t a, std::size_t b) { return slowness(a) < slowness(b); });
  const auto half = told.begin() + static_cast<long>(most / 2);
  std::sort(half, told.end(), std::greater<>());
  told.resize(most);
  std::sort(told.begin(), told.end());
  return told;
}

void Surrogate::refit(const Measure& measure) {
  Points points;
  points.coordinates = features_.count();
  std::vector<double> values;
  std::vector<Candidate> candidates;
  for (const std::size_t row : told_rows(most_fitted)) {
    candidates.push_back(rows_[row].candidate);
    values.push_back(value_of(rows_[row], measure));
  }
  constexpr int first_steps = 30, later_steps = 15;
  kernel_ = fitted(described(candidates), values, features_.scale_of(), kernel_,
                   next_fit_ == 0 ? first_steps : later_steps);
  const auto count = static_cast<double>(rows_.size());
  const auto room = static_cast<std::size_t>(std::max(rebuilding_work / (count * count), 1024.0));
  if (space_.size() > small_space) {
    renew_pool();
  } else {
    rebuild(pool_.size() > room ? best_of_pool(room) : pool_);
  }
  next_fit_ = static_cast<std::size_t>(std::ceil(static_cast<double>(told_) * growth));
}

// A new model of these candidates, with the kernel as it is now.
void Surrogate::rebuild(const std::vector<Candidate>& pool) {
  modelled_ = told_rows(most_modelled);
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    if (!rows_[i].told) modelled_.push_back(i);
  }
  predictor_ = Predictor(kernel_, features_.scale_of());
  for (const std::size_t row : modelled_) {
    predictor_.add_point(described({rows_[row].candidate}).row(0));
  }
  pool_.clear();
  pool_prior_.clear();
  pool_claimed_.clear();
  in_pool_.clear();
  add_to_pool(pool);
}

void Surrogate::add_row(Candidate candidate) {
  row_of_.emplace(candidate, rows_.size());
  rows_.push_back({candidate, 0, prior_of(candidate), false, false});
  modelled_.push_back(rows_.size() - 1);
  predictor_.add_point(described({candidate}).row(0));
  const auto place = in_pool_.find(candidate);
  if (place != in_pool_.end()) pool_claimed_[place->second] = true;
}

Points Surrogate::described(const std::vector<Candidate>& candidates) const {
  Points points;
  points.coordinates = features_.count();
  points.rows.resize(candidates.size() * points.coordinates);
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    features_.describe(candidates[i],
                       std::span(points.rows).subspan(i * points.coordinates, points.coordinates));
  }
  return points;
}

// -------------------------------------------------------------------------------------- the pool

void Surrogate::add_to_pool(const std::vector<Candidate>& candidates) {
  std::vector<Candidate> fresh;
  for (const Candidate candidate : candidates) {
    if (!in_pool_.emplace(candidate, pool_.size()).second) continue;
    pool_.push_back(candidate);
    pool_prior_.push_back(prior_of(candidate));
    pool_claimed_.push_back(ledger_.claimed(candidate));
    fresh.push_back(candidate);
  }
  predictor_.add_candidates(described(fresh));
}

// Those that differ in one parameter, and where a few random changes lead.
void Surrogate::add_surroundings(Candidate candidate, std::size_t walks) {
  if (pool_.size() == space_.size()) return;
  auto found = space_.neighbours(candidate, Neighbourhood::hamming);
  const std::size_t near = found.size();
  for (std::size_t i = 0; i < walks && near > 0; ++i) {
    const auto next = space_.neighbours(found[random_.below(near)], Neighbourhood::hamming);
    if (!next.empty()) found.push_back(next[random_.below(next.size())]);
  }
  add_to_pool(found);
}

void Surrogate::add_sample(std::size_t count) {
  std::vector<Candidate> sample;
  for (std::size_t i = 0; i < count; ++i) sample.push_back(random_.below(space_.size()));
  add_to_pool(sample);
}

std::vector<Candidate> Surrogate::best_of_pool(std::size_t most) const {
  std::vector<std::pair<float, Candidate>> order;
  for (std::size_t i = 0; i < pool_.size(); ++i) {
    if (pool_claimed_[i]) continue;
    const bool predicted_now = i < mean_.size();
    const auto optimistic = static_cast<float>(optimism);
    order.emplace_back(predicted_now ? mean_[i] - optimistic * deviation_[i] : 0.0F, pool_[i]);
  }
  std::sort(order.begin(), order.end());
  order.resize(std::min(order.size(), most));
  std::vector<Candidate> result;
  for (const auto& [score, candidate] : order) result.push_back(candidate);
  return result;
}

// The promising half stays; new ones come from around the best and from anywhere.
void Surrogate::renew_pool() {
  if (pool_.size() == space_.size()) return;
  rebuild(best_of_pool(sample_size / 2));
  constexpr std::size_t walks = 100;
  for (const std::size_t row : told_rows(surroundings * 2)) {
    if (!rows_[row].failed) add_surroundings(rows_[row].candidate, walks);
  }
  add_sample(sample_size / 4);
}

std::unique_ptr<Strategy> make_surrogate(const SearchSpace& space, std::uint64_t seed) {
  return std::make_unique<Surrogate>(space, seed, Surrogate::Options{.prior = false});
}

}  // namespace cudadent
