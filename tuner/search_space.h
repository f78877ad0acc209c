// All candidates for one problem: the tuning spaces of every template that fits, one after another.
#pragma once

#include <cudadent/search.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/operators/template_library.h"
#include "tuner/tuning_space.h"

namespace cudadent {

// A Candidate is an index into it.
class SearchSpace {
 public:
  struct Member {
    std::shared_ptr<const KernelTemplate> kernel_template;  // null for replayed spaces
    TuningSpace space;
    Candidate first = 0;  // index of the member's configuration 0
    // Predicted cost of a configuration (lower is better); null when there is no prior. Costs of
    // different members compare.
    std::function<double(const Values&)> prior;
  };

  // Sets Member::first; drops empty members. Throws Error(unsupported) when there are too many candidates
  // together for each to have an index.
  explicit SearchSpace(std::vector<Member> members);
  [[nodiscard]] Candidate size() const noexcept { return size_; }
  [[nodiscard]] const std::vector<Member>& members() const noexcept { return members_; }
  [[nodiscard]] const Member& member_of(Candidate candidate) const;
  [[nodiscard]] Values configuration(Candidate candidate) const;
  // The candidate of a recorded configuration, where its template is here, unchanged, and has it.
  [[nodiscard]] std::optional<Candidate> find(const std::string& template_hash,
                                              const Values& configuration) const;
  [[nodiscard]] std::vector<Candidate> neighbours(Candidate candidate, Neighbourhood kind) const;

 private:
  std::vector<Member> members_;
  Candidate size_ = 0;
};

// The candidates of a tuning run: the spaces of all templates (of those named, when any are) that fit,
// the reference left out unless it is the only one. Throws Error(unsupported) that gives each template's
// reason when none fits, or when no configuration is valid, and that names the template whose space is too
// large; invalid_argument for a template that is not there.
//
// `only_reference` is called, with the reasons, where templates made to be fast are there but none can do the
// problem, so that only the reference is left, which is made to be right and not to be fast.
SearchSpace search_space(
    const OperatorEntry& entry, const Problem& problem, const Device& device,
    const std::vector<std::string>& kernel_templates,
    const std::function<void(const std::string& reasons)>& only_reference = {});

// That as a warning for people.
std::string only_reference_warning(const Problem& problem, const std::string& reasons);

// The place in its space of a member's default configuration, or of the valid one that is nearest to it; quick.
std::optional<std::uint64_t> default_index(const SearchSpace::Member& member,
                                           const Problem& problem, const Device& device);

}  // namespace cudadent
