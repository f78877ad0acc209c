// From tensors to a running kernel: tensors → dispatch table → executable; where the problem is new, tensors →
// bucket → executable; where its bucket is too, problem → configuration → specialization → binary → module →
// executable → table and bucket.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/backends/backend.h"
#include "runtime/base/fork.h"
#include "runtime/base/read_mostly_table.h"
#include "runtime/base/turns.h"
#include "runtime/launch/buckets.h"
#include "runtime/launch/configuration_source.h"
#include "runtime/launch/launch_checks.h"
#include "runtime/launch/sightings.h"
#include "runtime/operators/problem.h"
#include "runtime/operators/template_library.h"

namespace cudadent {

// What tells one launch from another: data types, shapes, strides, presence and alignment of the
// tensors, and the scalars that are in the problem.
struct DispatchKey {
  static constexpr std::size_t capacity = max_tensors * (1 + 2 * max_rank) + 1 + max_scalars;
  std::array<std::int64_t, capacity> words;
  std::size_t count = 0;
  std::uint64_t hash = 0;
};

// A problem made ready to launch.
struct PreparedLaunch {
  std::uint64_t hash = 0;
  std::vector<std::int64_t> key;
  Choice choice;                // without a template when there is nothing to launch
  std::vector<double> scalars;  // what they are where the call does not say
  std::shared_ptr<const Executable> executable;
};

// What has been launched, by its key.
class DispatchTable : public ReadMostlyTable<PreparedLaunch> {
 public:
  [[nodiscard]] const PreparedLaunch* find(const DispatchKey& key) const noexcept;
};

class Dispatcher;

// An operator with its options and some scalars bound, and what is known of its problems.
struct OperatorState {
  Dispatcher* dispatcher = nullptr;
  std::shared_ptr<const OperatorEntry> entry;
  Values options;               // complete
  std::vector<double> scalars;  // those bound; NaN for the others
  std::vector<std::string> tensor_names;
  CallOrder order;
  LaunchChecks checks;
  // A bit for each tensor of the manifest that has strides, that may start anywhere.
  std::uint32_t strided = 0, any_alignment = 0;
  std::vector<std::size_t> in_problem;  // the scalars that are
  // What a key has of them where a call says nothing: what is bound, else a default that is a number, else NaN.
  std::vector<double> key_scalars;
  mutable DispatchTable table;
  mutable BucketTable buckets;
  mutable Sightings sightings;  // of members of buckets, which have no entry in the table
};

class Dispatcher {
 public:
  // All must outlive the dispatcher. A launch that waits for another thread's miss asks `cancelled`, which may
  // be empty, whether to go on.
  Dispatcher(Backend& backend, TemplateLibrary& library, ConfigurationSource& source,
             BinaryStore& binaries, std::function<bool()> cancelled = {});

  // The same state for the same operator, options and scalars, which `bound` has by name.
  std::shared_ptr<const OperatorState> bind(std::string_view op, const Values& bound);

  void launch(const OperatorState& op, std::span<const Tensor> tensors, Stream stream,
              std::span<const double> scalars);
  // Launches if the table knows the tensors' problem; false without doing anything otherwise.
  bool try_launch(const OperatorState& op, std::span<const Tensor> tensors, Stream stream,
                  std::span<const double> scalars);
  Explanation prepare(const OperatorState& op, std::span<const Tensor> tensors,
                      std::span<const double> scalars = {});

  // Makes the next launch of each of the operator's problems ask for its configuration again, also where a miss
  // is under way. Waits for nobody.
  void forget(std::string_view op);

 private:
  // Launches with what is known of the problem's bucket; false without doing anything where nothing is.
  bool launch_in_bucket(const OperatorState& op, std::span<const Tensor> tensors, Stream stream,
                        std::span<const double> scalars, const DispatchKey& key);
  // Enters a member of a known bucket into the table; null where there is no such bucket.
  const PreparedLaunch* enter_from_bucket(const OperatorState& op, std::span<const Tensor> tensors,
                                          std::span<const double> scalars, const DispatchKey& key);
  static void run(const PreparedLaunch& launch, const OperatorState& op,
                  std::span<const Tensor> tensors, Stream stream, std::span<const double> scalars);
  const PreparedLaunch& resolve(const OperatorState& op, std::span<const Tensor> tensors,
                                std::span<const double> scalars, const DispatchKey& key);
  // What is learnt on the way is added to the operator's buckets, as what was begun when they had this age.
  std::unique_ptr<PreparedLaunch> make_launch(const OperatorState& op, const Problem& problem,
                                              std::span<const Tensor> tensors,
                                              std::uint64_t buckets_begun);
  void check_device(const OperatorState& op, std::span<const Tensor> tensors) const;

  Backend& backend_;
  TemplateLibrary& library_;
  ConfigurationSource& source_;
  BinaryStore& binaries_;
  std::int32_t tensor_device_;  // what Tensor::device must be
  const std::uint64_t forks_ = fork_count();

  std::function<bool()> cancelled_;
  ForkSafeMutex states_mutex_;
  std::map<std::string, std::shared_ptr<OperatorState>> states_;  // by operator and options
  Turns misses_;  // one at a time of a problem: the second finds what the first has made
};

}  // namespace cudadent
