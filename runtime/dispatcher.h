// From tensors to a running kernel: tensors → dispatch table → executable, and on a miss
// problem → configuration → specialization → binary → module → executable → table.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/backend.h"
#include "runtime/configuration_source.h"
#include "runtime/fork.h"
#include "runtime/problem.h"
#include "runtime/template_library.h"
#include "runtime/turns.h"

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
  std::string problem;          // described, for people
  Choice choice;                // without a template when there is nothing to launch
  std::vector<double> scalars;  // what they are where the call does not say
  std::unique_ptr<const Executable> executable;
};

// A hash table whose readers take no lock. Writers take turns. What was in it lives as long as it does,
// so that a reader never holds a dangling pointer.
class DispatchTable {
 public:
  DispatchTable();
  [[nodiscard]] const PreparedLaunch* find(const DispatchKey& key) const noexcept;
  // Of a launch that was begun at the given age. Where the table was cleared since, it is kept and not found.
  const PreparedLaunch* insert(std::unique_ptr<const PreparedLaunch> launch, std::uint64_t begun);
  void clear();
  // How often it was cleared.
  [[nodiscard]] std::uint64_t age() const noexcept { return age_; }

 private:
  using Slots = std::vector<std::atomic<const PreparedLaunch*>>;  // a power of two of them
  void publish(std::size_t slot_count);
  static void place(Slots& slots, const PreparedLaunch* launch);

  std::atomic<const Slots*> current_;
  std::atomic<std::uint64_t> age_ = 0;
  ForkSafeMutex mutex_;
  std::vector<const PreparedLaunch*> visible_;
  std::vector<std::unique_ptr<const PreparedLaunch>> launches_;  // all ever inserted
  std::vector<std::unique_ptr<Slots>> slots_;                    // all ever published
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
  // A bit for each tensor of the manifest that has strides, that may start anywhere.
  std::uint32_t strided = 0, any_alignment = 0;
  std::vector<std::size_t> in_problem;  // the scalars that are
  // What a key has of them where a call says nothing: what is bound, else a default that is a number, else NaN.
  std::vector<double> key_scalars;
  mutable DispatchTable table;
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
  static void run(const PreparedLaunch& launch, const OperatorState& op,
                  std::span<const Tensor> tensors, Stream stream, std::span<const double> scalars);
  const PreparedLaunch& resolve(const OperatorState& op, std::span<const Tensor> tensors,
                                std::span<const double> scalars, const DispatchKey& key);
  std::unique_ptr<PreparedLaunch> make_launch(const OperatorState& op, const Problem& problem);
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
