#include "runtime/launch/dispatcher.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "runtime/language/backend_kind.h"
#include "runtime/language/value.h"
#include "runtime/operators/specialization.h"

namespace cudadent {

namespace {

bool is_packed(const Tensor& tensor) noexcept {
  std::int64_t stride = 1;
  for (auto i = static_cast<std::size_t>(tensor.rank); i-- > 0;) {
    if (tensor.strides[i] != stride && tensor.shape[i] > 1) return false;
    stride *= tensor.shape[i] > 1 ? tensor.shape[i] : 1;
  }
  return true;
}

// False when the call needs the slow path to say what is wrong with it: too many tensors, some on another
// device, or not packed though the operator has no strides for them, or not as many scalars as there are, or
// what LaunchChecks refuses.
bool make_key(std::span<const Tensor> tensors, std::span<const double> scalars, std::int32_t device,
              const OperatorState& op, DispatchKey& key) noexcept {
  if (tensors.empty() || tensors.size() > op.order.tensors) return false;
  if (!scalars.empty() && scalars.size() != op.scalars.size()) return false;
  std::uintptr_t address_bits = 0;
  std::size_t count = 0;
  std::uint64_t hash = tensors.size();
  const auto add = [&](std::int64_t word) {
    key.words[count++] = word;
    hash = hash_word(hash, word);
  };
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    const Tensor& tensor = tensors[t];
    if (!tensor.present()) {
      add(-1);
      continue;
    }
    if (tensor.device != device || tensor.rank > max_rank) return false;
    const bool packed = is_packed(tensor);
    const std::size_t place = op.order.place(t, tensors.size());
    if (!packed && (op.strided >> place & 1U) == 0) return false;
    // The first word says how many follow.
    add((static_cast<std::int64_t>(tensor.dtype) * 8 + tensor.rank) * 2 + (packed ? 0 : 1));
    const auto rank = static_cast<std::size_t>(tensor.rank);
    for (std::size_t i = 0; i < rank; ++i) add(tensor.shape[i]);
    if (!packed)
      for (std::size_t i = 0; i < rank; ++i) add(tensor.shape[i] > 1 ? tensor.strides[i] : 0);
    if ((op.any_alignment >> place & 1U) == 0)
      address_bits |= reinterpret_cast<std::uintptr_t>(tensor.data);
  }
  add(static_cast<std::int64_t>(address_bits % 16 == 0));
  for (const std::size_t i : op.in_problem) {
    const bool is_given = !scalars.empty() && !std::isnan(scalars[i]);
    add(std::bit_cast<std::int64_t>(is_given ? scalars[i] : op.key_scalars[i]));
  }
  key.count = count;
  key.hash = hash;
  return op.checks.pass(tensors, scalars);
}

// What the scalars of a call are before the problem's defaults are known: those given, else those bound.
std::vector<double> given_scalars(const OperatorState& op, std::span<const double> given) {
  std::vector<double> scalars = op.scalars;
  if (given.size() != scalars.size())
    return given.empty() ? scalars : std::vector(given.begin(), given.end());
  for (std::size_t i = 0; i < scalars.size(); ++i)
    if (!std::isnan(given[i])) scalars[i] = given[i];
  return scalars;
}

// In manifest order.
std::array<void*, max_tensors> pointers_of(const OperatorState& op,
                                           std::span<const Tensor> tensors) noexcept {
  std::array<void*, max_tensors> pointers{};
  for (std::size_t i = 0; i < tensors.size(); ++i)
    pointers[op.order.place(i, tensors.size())] = tensors[i].data;
  return pointers;
}

void take_key(const DispatchKey& key, PreparedLaunch& launch) {
  launch.hash = key.hash;
  launch.key.assign(key.words.begin(), key.words.begin() + static_cast<std::ptrdiff_t>(key.count));
}

// For problems whose outputs have no elements.
class NothingToLaunch : public Executable {
 public:
  void launch(const LaunchArguments&) const override {}
};

}  // namespace

const PreparedLaunch* DispatchTable::find(const DispatchKey& key) const noexcept {
  return ReadMostlyTable::find(key.hash, [&](const PreparedLaunch& launch) noexcept {
    return launch.key.size() == key.count &&
           std::equal(launch.key.begin(), launch.key.end(), key.words.begin());
  });
}

// ------------------------------------------------------------------------------- dispatcher

Dispatcher::Dispatcher(Backend& backend, TemplateLibrary& library, ConfigurationSource& source,
                       BinaryStore& binaries, std::function<bool()> cancelled)
    : backend_(backend),
      library_(library),
      source_(source),
      binaries_(binaries),
      tensor_device_(tensor_place(backend.device())),
      cancelled_(std::move(cancelled)) {}

std::shared_ptr<const OperatorState> Dispatcher::bind(std::string_view op, const Values& bound) {
  auto entry = library_.find(op);
  auto [options, scalars] = bind_values(*entry->manifest, bound);
  const std::string name = fmt::format("{} {} {}", op, to_text(options), fmt::join(scalars, " "));
  const std::lock_guard lock(states_mutex_);
  auto& state = states_[name];
  if (state == nullptr || state->entry != entry) {
    state = std::make_shared<OperatorState>();
    state->dispatcher = this;
    state->entry = std::move(entry);
    state->options = std::move(options);
    state->scalars = std::move(scalars);
    state->key_scalars = state->scalars;
    for (std::size_t i = 0; i < state->scalars.size(); ++i) {
      const ScalarSpec& scalar = state->entry->manifest->scalars[i];
      if (scalar.in_problem) state->in_problem.push_back(i);
      if (std::isnan(state->scalars[i]) && scalar.otherwise.names().empty())
        state->key_scalars[i] = as_real(scalar.otherwise.evaluate(Scope()), scalar.name);
    }
    for (const auto& tensor : state->entry->manifest->tensors) {
      const std::uint32_t bit = 1U << state->tensor_names.size();
      if (tensor.has_strides()) state->strided |= bit;
      if (tensor.any_alignment) state->any_alignment |= bit;
      state->tensor_names.push_back(tensor.name);
    }
    state->order = state->entry->manifest->call_order();
    state->checks = LaunchChecks(*state->entry->manifest);
  }
  return state;
}

void Dispatcher::launch(const OperatorState& op, std::span<const Tensor> tensors, Stream stream,
                        std::span<const double> scalars) {
  DispatchKey key;
  const bool regular = make_key(tensors, scalars, tensor_device_, op, key);
  const PreparedLaunch* launch = regular ? op.table.find(key) : nullptr;
  if (launch == nullptr) {
    if (regular && launch_in_bucket(op, tensors, stream, scalars, key)) return;
    if (regular && backend_.capturing(stream))
      throw Error(ErrorCode::not_tuned,
                  fmt::format("{}: this problem is new and the stream is being captured into a "
                              "graph. Call prepare() with them before capturing.",
                              op.entry->manifest->name));
    launch = &resolve(op, tensors, scalars, key);
  }
  run(*launch, op, tensors, stream, scalars);
}

bool Dispatcher::try_launch(const OperatorState& op, std::span<const Tensor> tensors, Stream stream,
                            std::span<const double> scalars) {
  DispatchKey key;
  if (!make_key(tensors, scalars, tensor_device_, op, key)) return false;
  const PreparedLaunch* launch = op.table.find(key);
  if (launch == nullptr) return launch_in_bucket(op, tensors, stream, scalars, key);
  run(*launch, op, tensors, stream, scalars);
  return true;
}

bool Dispatcher::launch_in_bucket(const OperatorState& op, std::span<const Tensor> tensors,
                                  Stream stream, std::span<const double> scalars,
                                  const DispatchKey& key) {
  const auto pointers = pointers_of(op, tensors);
  const bool launched = op.buckets.find(tensors, scalars, [&](const BucketMember& member) {
    return member.bucket == nullptr ||
           member.bucket->executable->launch_with(*member.plan, {pointers, member.scalars, stream});
  });
  if (!launched) return false;
  if (!op.sightings.enough(key.hash) || backend_.capturing(stream)) return true;
  try {
    enter_from_bucket(op, tensors, scalars, key);
  } catch (const std::exception&) {  // it has been launched, and will be without an entry
  }
  return true;
}

const PreparedLaunch* Dispatcher::enter_from_bucket(const OperatorState& op,
                                                    std::span<const Tensor> tensors,
                                                    std::span<const double> scalars,
                                                    const DispatchKey& key) {
  const std::uint64_t begun = op.table.age();
  auto launch = std::make_unique<PreparedLaunch>();
  const bool known = op.buckets.find(tensors, scalars, [&](const BucketMember& member) {
    launch->scalars.assign(member.scalars.begin(), member.scalars.end());
    if (member.bucket == nullptr) {
      launch->executable = std::make_shared<NothingToLaunch>();
      return true;
    }
    launch->choice = member.bucket->choice;
    launch->executable = backend_.prepare(member.bucket->module, *member.plan);
    return true;
  });
  if (!known) return nullptr;
  take_key(key, *launch);
  op.sightings.give();
  return op.table.insert(std::move(launch), begun);
}

void Dispatcher::run(const PreparedLaunch& launch, const OperatorState& op,
                     std::span<const Tensor> tensors, Stream stream,
                     std::span<const double> scalars) {
  std::array<double, max_scalars> complete;
  if (scalars.empty()) {
    scalars = launch.scalars;
  } else if (std::any_of(scalars.begin(), scalars.end(), [](double x) { return std::isnan(x); })) {
    for (std::size_t i = 0; i < scalars.size(); ++i)
      complete[i] = std::isnan(scalars[i]) ? launch.scalars[i] : scalars[i];
    scalars = {complete.data(), scalars.size()};
  }
  const auto pointers = pointers_of(op, tensors);
  launch.executable->launch({pointers, scalars, stream});
}

Explanation Dispatcher::prepare(const OperatorState& op, std::span<const Tensor> tensors,
                                std::span<const double> scalars) {
  DispatchKey key;
  const bool regular = make_key(tensors, scalars, tensor_device_, op, key);
  const PreparedLaunch* launch = regular ? op.table.find(key) : nullptr;
  if (launch == nullptr && regular) launch = enter_from_bucket(op, tensors, scalars, key);
  if (launch == nullptr) launch = &resolve(op, tensors, scalars, key);
  const Choice& choice = launch->choice;
  return {
      problem_of(op.entry->manifest, tensors, op.options, given_scalars(op, scalars)).describe(),
      Winner{choice.kernel_template == nullptr ? std::string() : choice.kernel_template->name,
             choice.configuration, choice.seconds, choice.provenance, choice.predicted_seconds}};
}

void Dispatcher::check_device(const OperatorState& op, std::span<const Tensor> tensors) const {
  const auto place = [](std::int32_t device) {
    return device == host_memory ? std::string("host memory") : device_at(device).text();
  };
  // At once, not after tuning in another process.
  if (tensor_device_ != host_memory && forks_ != fork_count())
    fail_in_child("use " + backend_.device().name, cuda_in_child_advice);
  if (tensors.size() > op.tensor_names.size()) return;  // an error that problem_of reports
  for (std::size_t i = 0; i < tensors.size(); ++i)
    if (tensors[i].present() && tensors[i].device != tensor_device_)
      throw Error(
          ErrorCode::invalid_argument,
          fmt::format("{}: {} is in {}, but this runtime's device is {} ({}). Move the tensor, or "
                      "make a Runtime for its device.",
                      op.entry->manifest->name, op.tensor_names[op.order.place(i, tensors.size())],
                      place(tensors[i].device), place(tensor_device_), backend_.device().name));
}

const PreparedLaunch& Dispatcher::resolve(const OperatorState& op, std::span<const Tensor> tensors,
                                          std::span<const double> scalars, const DispatchKey& key) {
  check_device(op, tensors);
  const Problem problem =
      problem_of(op.entry->manifest, tensors, op.options, given_scalars(op, scalars));
  op.checks.check(*op.entry->manifest, tensors, scalars);
  const auto turn = misses_.take(problem.op->name + " " + problem.key(), cancelled_);
  if (!turn)
    throw Error(ErrorCode::cancelled,
                fmt::format("{}: cancelled while another thread was tuning or compiling it",
                            problem.describe()));
  if (const PreparedLaunch* launch = op.table.find(key)) return *launch;
  // A launch from within the problem's own miss (a callback's) must not hide what that is about to find.
  const std::uint64_t begun = turn->nested() ? op.table.age() - 1 : op.table.age();
  const std::uint64_t buckets_begun = op.buckets.age() - (turn->nested() ? 1 : 0);
  auto launch = make_launch(op, problem, tensors, buckets_begun);
  take_key(key, *launch);
  return *op.table.insert(std::move(launch), begun);
}

std::unique_ptr<PreparedLaunch> Dispatcher::make_launch(const OperatorState& op,
                                                        const Problem& problem,
                                                        std::span<const Tensor> tensors,
                                                        std::uint64_t buckets_begun) {
  auto launch = std::make_unique<PreparedLaunch>();
  launch->scalars = default_scalars(problem);
  for (std::size_t i = 0; i < launch->scalars.size(); ++i)
    if (!std::isnan(op.scalars[i])) launch->scalars[i] = op.scalars[i];
  if (problem.has_no_work()) {
    launch->executable = std::make_unique<NothingToLaunch>();
    return launch;
  }
  launch->choice = source_.choose(*op.entry, problem);
  const Specialization specialization = specialize(launch->choice.kernel_template, problem,
                                                   launch->choice.configuration, backend_.device());
  const Binary binary = obtain_binary(backend_, binaries_, specialization);
  const auto module = backend_.load(binary);
  launch->executable = backend_.prepare(module, specialization.plan);
  op.buckets.add(problem, tensors, op.scalars, launch->choice, module, launch->executable,
                 specialization, backend_.device().facts(), buckets_begun);
  return launch;
}

void Dispatcher::forget(std::string_view op) {
  const std::lock_guard lock(states_mutex_);
  for (auto& [name, state] : states_)
    if (state->entry->manifest->name == op) {
      state->buckets.clear();
      state->sightings.clear();
      state->table.clear();  // last: what is entered from a bucket until here is forgotten too
    }
}

Binary obtain_binary(Backend& backend, BinaryStore& store, const Specialization& specialization) {
  if (auto binary = store.find_binary(specialization.hash)) return std::move(*binary);
  Binary binary = backend.compile(specialization);
  store.put_binary(binary);
  return binary;
}

}  // namespace cudadent
