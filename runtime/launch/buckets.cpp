#include "runtime/launch/buckets.h"

namespace cudadent {

namespace {

std::uint64_t signature_hash(std::span<const Tensor> tensors) noexcept {
  std::uint64_t hash = tensors.size();
  for (const Tensor& tensor : tensors) hash = hash_word(hash, signature_word(tensor));
  return hash;
}

}  // namespace

Family::Family(const Problem& problem, std::span<const Tensor> tensors,
               std::span<const double> bound)
    : hash(signature_hash(tensors)), program(problem, tensors, bound) {}

const Family* BucketTable::family_of(std::span<const Tensor> tensors) const {
  return families_.find(signature_hash(tensors),
                        [&](const Family& family) { return family.program.is_for(tensors); });
}

void BucketTable::add(const Problem& problem, std::span<const Tensor> tensors,
                      std::span<const double> bound, const Choice& choice,
                      std::shared_ptr<const Module> module,
                      std::shared_ptr<const Executable> executable,
                      const Specialization& specialization, const Values& device_facts,
                      std::uint64_t begun) {
  const std::lock_guard lock(adding_);
  const Family* family = family_of(tensors);
  if (family == nullptr)
    family = families_.insert(std::make_unique<const Family>(problem, tensors, bound), begun);
  else if (families_.age() != begun)
    return;  // asked after the family was found: one that is found and forgotten does no harm
  ProblemProgram::Result member = family->program.make_result();
  if (family->program.evaluate(tensors, problem.scalars, member) !=
      ProblemProgram::Outcome::regular)
    return;
  std::size_t count = 0;
  static_cast<void>(family->buckets.find(member.hash, [&](const Bucket& bucket) {
    count += bucket.key == member.key ? 1 : 0;
    return false;
  }));
  if (count >= most_of_a_bucket) return;
  family->buckets.insert(std::make_unique<const Bucket>(
                             choice, std::move(module), std::move(executable), specialization,
                             problem, device_facts, family->program, member),
                         family->buckets.age());
}

}  // namespace cudadent
