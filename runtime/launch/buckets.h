// What is known of a bucket, the problems that share a winner, once one of them has been made ready to launch: the
// kernels are loaded and what their launch depends on is compiled, so that another member of the bucket costs its
// numbers only.
//
//   tensors → family (presence, data types, ranks) → the problem's numbers → bucket → the plan's numbers → launch
//
// Whatever does not go this way is left to the slow path, which says what is wrong, or chooses something else.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "runtime/backends/backend.h"
#include "runtime/base/fork.h"
#include "runtime/base/read_mostly_table.h"
#include "runtime/base/scratch_pool.h"
#include "runtime/launch/configuration_source.h"
#include "runtime/launch/plan_program.h"
#include "runtime/launch/problem_program.h"

namespace cudadent {

// A configuration, loaded, with which members of a bucket are launched. A bucket has another where one is not
// valid for all of its members.
struct Bucket {
  Bucket(const Choice& chosen, std::shared_ptr<const Module> loaded,
         std::shared_ptr<const Executable> prepared, const Specialization& specialization,
         const Problem& problem, const Values& device_facts, const ProblemProgram& family,
         const ProblemProgram::Result& member)
      : hash(member.hash),
        key(member.key),
        choice(chosen),
        module(std::move(loaded)),
        executable(std::move(prepared)),
        program(specialization, problem, device_facts, family, member) {}

  std::uint64_t hash;
  std::vector<std::int64_t> key;
  Choice choice;
  std::shared_ptr<const Module> module;
  std::shared_ptr<const Executable> executable;
  PlanProgram program;
  ScratchPool<PlanProgram::Result> scratch;
};

// Calls that differ in numbers only.
struct Family {
  Family(const Problem& problem, std::span<const Tensor> tensors, std::span<const double> bound);

  std::uint64_t hash = 0;  // of the signature
  ProblemProgram program;
  ScratchPool<ProblemProgram::Result> scratch;
  mutable ReadMostlyTable<Bucket> buckets;
};

// A problem as the buckets know it, while it is used.
struct BucketMember {
  const Bucket* bucket = nullptr;  // null: the problem has no work
  const LaunchPlan* plan = nullptr;
  std::span<const double> scalars;  // complete
};

// Of one operator with its options and bound scalars.
class BucketTable {
 public:
  BucketTable() = default;
  BucketTable(const BucketTable&) = delete;
  BucketTable& operator=(const BucketTable&) = delete;

  // Of a call whose tensors are where they should be, those without strides in the manifest packed, whose scalars
  // are none or all (NaN: not given): calls `use` with what is known of it, one bucket after another, until one is
  // used. False when none was.
  template <class Use>
  bool find(std::span<const Tensor> tensors, std::span<const double> scalars, Use use) const {
    const Family* family = family_of(tensors);
    if (family == nullptr) return false;
    const auto problem = family->scratch.lease(
        [&] { return std::make_unique<ProblemProgram::Result>(family->program.make_result()); });
    const auto outcome = family->program.evaluate(tensors, scalars, *problem);
    if (outcome == ProblemProgram::Outcome::irregular) return false;
    const std::span<const double> complete = problem->scalars;
    if (outcome == ProblemProgram::Outcome::no_work)
      return use(BucketMember{nullptr, nullptr, complete});
    const Bucket* used = family->buckets.find(problem->hash, [&](const Bucket& bucket) {
      if (bucket.key != problem->key) return false;
      const auto plan = bucket.scratch.lease(
          [&] { return std::make_unique<PlanProgram::Result>(bucket.program.make_result()); });
      return bucket.program.evaluate(*problem, *plan) &&
             use(BucketMember{&bucket, &plan->plan, complete});
    });
    return used != nullptr;
  }

  // To be asked before a choice is made, and handed to add() with what came of it.
  [[nodiscard]] std::uint64_t age() const noexcept { return families_.age(); }
  // Has the problem's bucket launched like the problem, from now on, unless clear() was called since the table had the age `begun`.
  void add(const Problem& problem, std::span<const Tensor> tensors, std::span<const double> bound,
           const Choice& choice, std::shared_ptr<const Module> module,
           std::shared_ptr<const Executable> executable, const Specialization& specialization,
           const Values& device_facts, std::uint64_t begun);
  void clear() { families_.clear(); }

 private:
  // Of one bucket. Where members need a binary each, what was loaded for others is of no use to a new one.
  static constexpr std::size_t most_of_a_bucket = 8;

  [[nodiscard]] const Family* family_of(std::span<const Tensor> tensors) const;

  ReadMostlyTable<Family> families_;
  ForkSafeMutex adding_;
};

}  // namespace cudadent
