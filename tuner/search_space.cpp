#include "tuner/search_space.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>

#include "runtime/specialization.h"
#include "tuner/cost_model.h"
#include "tuner/workbench.h"

namespace cudadent {

SearchSpace::SearchSpace(std::vector<Member> members) : members_(std::move(members)) {
  std::erase_if(members_, [](const Member& member) { return member.space.size() == 0; });
  for (Member& member : members_) {
    member.first = size_;
    if (__builtin_add_overflow(size_, member.space.size(), &size_)) {
      size_ = std::numeric_limits<Candidate>::max();
    }
  }
}

const SearchSpace::Member& SearchSpace::member_of(Candidate candidate) const {
  if (candidate >= size_) {
    throw Error(ErrorCode::internal,
                fmt::format("candidate {} of a search space of {}", candidate, size_));
  }
  const auto after =
      std::upper_bound(members_.begin(), members_.end(), candidate,
                       [](Candidate c, const Member& each) { return c < each.first; });
  return *(after - 1);
}

Values SearchSpace::configuration(Candidate candidate) const {
  const Member& member = member_of(candidate);
  return member.space.configuration(candidate - member.first);
}

std::vector<Candidate> SearchSpace::neighbours(Candidate candidate, Neighbourhood kind) const {
  const Member& member = member_of(candidate);
  std::vector<Candidate> result;
  for (const std::uint64_t index : member.space.neighbours(candidate - member.first, kind)) {
    Candidate neighbour = 0;
    const bool beyond = __builtin_add_overflow(member.first, index, &neighbour);
    if (!beyond && neighbour < size_) result.push_back(neighbour);
  }
  return result;
}

SearchSpace search_space(const OperatorEntry& entry, const Problem& problem, const Device& device,
                         const std::vector<std::string>& kernel_templates) {
  const auto reference = reference_template(entry, device.backend);
  std::vector<SearchSpace::Member> members;
  std::vector<std::string> reasons;
  const auto add = [&](const std::shared_ptr<const KernelTemplate>& kernel) {
    if (const auto unfit = why_unfit(*kernel, problem, device); !unfit.empty()) {
      reasons.push_back(fmt::format("{} requires '{}'", kernel->name, unfit));
      return;
    }
    TuningSpace space(space_definition(*kernel, problem, device));
    if (space.size() == 0) {
      reasons.push_back(fmt::format("{}: none of its {} configurations satisfies its constraints",
                                    kernel->name, space.raw_size()));
      return;
    }
    std::function<double(const Values&)> prior;
    if (kernel->prior) prior = CostModel(*kernel, problem, device.facts());
    members.push_back({kernel, std::move(space), 0, std::move(prior)});
  };
  const auto wanted = [&](const std::string& name) {
    return kernel_templates.empty() || std::find(kernel_templates.begin(), kernel_templates.end(),
                                                 name) != kernel_templates.end();
  };
  for (const auto& name : kernel_templates)
    if (entry.template_named(name) == nullptr)
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("{}: no template \"{}\"", entry.manifest->name, name));
  for (const auto& kernel : entry.templates) {
    const bool named = !kernel_templates.empty() && wanted(kernel->name);
    if (kernel->backend == device.backend && wanted(kernel->name) && (kernel != reference || named))
      add(kernel);
  }
  if (members.empty() && reference != nullptr && wanted(reference->name)) add(reference);
  if (members.empty())
    throw Error(ErrorCode::unsupported,
                fmt::format("no template can do {} on {}: {}", problem.describe(), device.name,
                            reasons.empty() ? "there is none for this device"
                                            : fmt::format("{}", fmt::join(reasons, "; "))));
  return SearchSpace(std::move(members));
}

}  // namespace cudadent
