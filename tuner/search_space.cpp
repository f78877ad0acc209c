#include "tuner/search_space.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

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

}  // namespace cudadent
