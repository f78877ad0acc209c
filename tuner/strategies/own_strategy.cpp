#include "tuner/strategies/own_strategy.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "runtime/base/cancellation.h"
#include "runtime/language/value.h"

namespace cudadent {

namespace {

class SpaceView : public CandidateSpace {
 public:
  explicit SpaceView(const SearchSpace& space) : space_(space) {}

  [[nodiscard]] Candidate size() const override { return space_.size(); }
  [[nodiscard]] std::string kernel_template(Candidate candidate) const override {
    return member_of(candidate).kernel_template->name;
  }
  [[nodiscard]] Values configuration(Candidate candidate) const override {
    check(candidate);
    return space_.configuration(candidate);
  }
  [[nodiscard]] std::optional<Candidate> find(std::string_view kernel_template,
                                              const Values& configuration) const override {
    for (const auto& member : space_.members())
      if (member.kernel_template->name == kernel_template)
        if (const auto index = member.space.index_of(configuration)) return member.first + *index;
    return std::nullopt;
  }
  [[nodiscard]] std::vector<Candidate> neighbours(Candidate candidate) const override {
    check(candidate);
    return space_.neighbours(candidate, Neighbourhood::hamming);
  }
  [[nodiscard]] std::optional<double> predicted_seconds(Candidate candidate) const override {
    const auto& member = member_of(candidate);
    if (!member.prior) return std::nullopt;
    return member.prior(space_.configuration(candidate));
  }

 private:
  void check(Candidate candidate) const {
    if (candidate < space_.size()) return;
    throw Error(
        ErrorCode::invalid_argument,
        fmt::format("candidate {} is not in the space, which has {}", candidate, space_.size()));
  }
  [[nodiscard]] const SearchSpace::Member& member_of(Candidate candidate) const {
    check(candidate);
    return space_.member_of(candidate);
  }

  const SearchSpace& space_;
};

class OwnStrategy : public Strategy {
 public:
  OwnStrategy(const TuneOptions& options, const SearchSpace& space)
      : name_(options.strategy),
        view_(space),
        most_repeats_(std::clamp<std::uint64_t>(20 * std::min(space.size(), most), least, most)),
        theirs_(options.make_strategy(view_, options.seed)) {
    if (theirs_ == nullptr) refuse("make_strategy() returned null");
  }

  std::vector<Candidate> ask(std::size_t count) override {
    std::vector<Candidate> fresh;
    // As long as it proposes only what has a result, it can be asked at once what it makes of that.
    while (fresh.empty() && known_.size() < view_.size()) {
      Cancellation::check();
      const auto proposed = theirs_->ask(count);
      if (proposed.size() > count)
        refuse(fmt::format("proposed {} candidates when asked for at most {}", proposed.size(),
                           count));
      bool all_told = !proposed.empty();
      for (const Candidate candidate : proposed) {
        const bool told = take(candidate, fresh);
        all_told = all_told && told;
      }
      if (!all_told) break;
    }
    return fresh;
  }

  void tell(const Observation& observation) override {
    known_[observation.candidate] = observation;
    theirs_->tell(observation);
  }

  [[nodiscard]] bool converged() const override { return theirs_->converged(); }

 private:
  static constexpr std::uint64_t least = 1000, most = 1'000'000;  // repeats in a row

  // True for one that is repeated and was told again.
  bool take(Candidate candidate, std::vector<Candidate>& fresh) {
    if (candidate >= view_.size())
      refuse(fmt::format("proposed candidate {}, which is not in the space: it has {}, from 0",
                         candidate, view_.size()));
    const auto [known, is_new] = known_.try_emplace(candidate);
    if (is_new) {
      fresh.push_back(candidate);
      repeats_ = 0;
      return false;
    }
    if (++repeats_ >= most_repeats_)
      refuse(fmt::format(
          "repeats itself: its last {} proposals had all been made or told before, "
          "the last of them {} {}. ask() is to return nothing when there is no more",
          repeats_, view_.kernel_template(candidate), to_text(view_.configuration(candidate))));
    if (!known->second) return false;
    const Observation again = *known->second;
    theirs_->tell(again);
    return true;
  }

  [[noreturn]] void refuse(const std::string& why) const {
    throw Error(ErrorCode::invalid_argument, fmt::format("strategy {}: {}", name_, why));
  }

  const std::string name_;
  const SpaceView view_;
  const std::uint64_t most_repeats_;
  const std::unique_ptr<Strategy> theirs_;
  std::map<Candidate, std::optional<Observation>> known_;  // nothing: its result is awaited
  std::uint64_t repeats_ = 0;                              // in a row
};

}  // namespace

std::unique_ptr<Strategy> make_own_strategy(const TuneOptions& options, const SearchSpace& space) {
  return std::make_unique<OwnStrategy>(options, space);
}

}  // namespace cudadent
