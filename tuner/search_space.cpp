#include "tuner/search_space.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "runtime/operators/specialization.h"
#include "tuner/cost_model.h"
#include "tuner/workbench.h"

namespace cudadent {

SearchSpace::SearchSpace(std::vector<Member> members) : members_(std::move(members)) {
  std::erase_if(members_, [](const Member& member) { return member.space.size() == 0; });
  double size = 0;
  for (Member& member : members_) {
    member.first = size_;
    size_ += member.space.size();
    size += static_cast<double>(member.space.size());
  }
  refuse_unless_indexable(size);
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

std::optional<Candidate> SearchSpace::find(const std::string& template_hash,
                                           const Values& configuration) const {
  for (const auto& member : members_) {
    if (member.kernel_template == nullptr || member.kernel_template->hash != template_hash)
      continue;
    if (const auto index = member.space.index_of(configuration)) return member.first + *index;
  }
  return std::nullopt;
}

std::vector<Candidate> SearchSpace::neighbours(Candidate candidate, Neighbourhood kind) const {
  const Member& member = member_of(candidate);
  std::vector<Candidate> result;
  for (const std::uint64_t index : member.space.neighbours(candidate - member.first, kind))
    result.push_back(member.first + index);
  return result;
}

namespace {

// Whether these constraints leave no configuration. One that fails somewhere leaves it to others to reject.
bool exclude_all(SpaceDefinition definition, std::vector<Expression> constraints) {
  definition.constraints = std::move(constraints);
  try {
    return TuningSpace(std::move(definition)).size() == 0;
  } catch (const Error& error) {
    if (error.code() == ErrorCode::cancelled) throw;
    return false;
  }
}

// Of the constraints of a space without configurations those to blame: each that excludes all by itself, else
// some that do so together and would not without any one of them.
std::vector<Expression> to_blame(const SpaceDefinition& definition) {
  std::vector<Expression> found;
  for (const Expression& constraint : definition.constraints)
    if (exclude_all(definition, {constraint})) found.push_back(constraint);
  if (!found.empty()) return found;
  found = definition.constraints;
  for (std::size_t i = 0; i < found.size();) {
    auto others = found;
    others.erase(others.begin() + static_cast<std::ptrdiff_t>(i));
    if (exclude_all(definition, others))
      found = std::move(others);
    else
      ++i;
  }
  return found;
}

std::string why_empty(const KernelTemplate& kernel, const TuningSpace& space,
                      const SpaceDefinition& definition) {
  std::vector<std::string> texts;
  for (const Expression& constraint : to_blame(definition))
    texts.push_back(fmt::format("'{}'", constraint.text()));
  return fmt::format("{}: none of its {:.10g} configurations satisfies {}", kernel.name,
                     space.raw_size(), fmt::join(texts, " and "));
}

}  // namespace

std::string only_reference_warning(const Problem& problem, const std::string& reasons) {
  return fmt::format("{}: only the reference template can do this, which is slow ({})",
                     problem.describe(), reasons);
}

SearchSpace search_space(const OperatorEntry& entry, const Problem& problem, const Device& device,
                         const std::vector<std::string>& kernel_templates,
                         const std::function<void(const std::string& reasons)>& only_reference) {
  const auto reference = reference_template(entry, device.backend);
  std::vector<SearchSpace::Member> members;
  std::vector<std::string> reasons;
  const auto add = [&](const std::shared_ptr<const KernelTemplate>& kernel) {
    if (const auto unfit = why_unfit(*kernel, problem, device); !unfit.empty()) {
      reasons.push_back(fmt::format("{} requires '{}'", kernel->name, unfit));
      return;
    }
    const auto definition = space_definition(*kernel, problem, device);
    TuningSpace space = [&] {
      try {
        return TuningSpace(definition);
      } catch (const Error& error) {
        if (error.code() != ErrorCode::unsupported) throw;
        throw Error(error.code(), fmt::format("template {}/{}: {}", entry.manifest->name,
                                              kernel->name, error.what()));
      }
    }();
    if (space.size() == 0) {
      reasons.push_back(why_empty(*kernel, space, definition));
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
  if (members.empty() && reference != nullptr && wanted(reference->name)) {
    const std::string why = fmt::format("{}", fmt::join(reasons, "; "));
    add(reference);
    if (!members.empty() && !why.empty() && only_reference) only_reference(why);
  }
  if (members.empty())
    throw Error(ErrorCode::unsupported,
                fmt::format("no template can do {} on {}: {}", problem.describe(), device.name,
                            reasons.empty() ? "there is none for this device"
                                            : fmt::format("{}", fmt::join(reasons, "; "))));
  return SearchSpace(std::move(members));
}

std::optional<std::uint64_t> default_index(const SearchSpace::Member& member,
                                           const Problem& problem, const Device& device) {
  return member.space.nearest(wanted_default(*member.kernel_template, problem, device));
}

}  // namespace cudadent
