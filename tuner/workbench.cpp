#include "tuner/workbench.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "runtime/base/cancellation.h"
#include "runtime/language/value.h"
#include "runtime/operators/specialization.h"
#include "runtime/operators/strides.h"
#include "tuner/inputs.h"

namespace cudadent {

namespace {

constexpr std::byte poison{0xFF};  // NaN in every floating-point type, −1 in the integers
// Before and behind every tensor lie so many bytes that nobody may write; a multiple of what buffers are
// aligned to.
constexpr std::size_t guard_bytes = 256;
constexpr std::byte guard{0xA5};
// A single element may be this many times the tolerance off, relative to the output's root mean
// square: a wrong tile of a large output hardly moves the norm of the whole.
constexpr double element_slack = 10;
// Random elements of a tensor; those of a larger one are these again and again, since to draw and send gigabytes
// takes seconds. A prime, so that rows and tiles, whatever their size, are not one like the other.
constexpr std::size_t most_drawn = 4'194'301;

std::size_t element_count(const std::vector<std::int64_t>& shape) {
  return static_cast<std::size_t>(
      std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>()));
}

// Elements that lie side by side, put where the strides say; what lies between them is poison.
std::vector<std::byte> scattered(const std::vector<std::byte>& packed,
                                 const std::vector<std::int64_t>& shape,
                                 const std::vector<std::int64_t>& strides, std::size_t size) {
  const auto span = static_cast<std::size_t>(span_of(shape, strides));
  std::vector<std::byte> bytes(span * size, poison);
  std::vector<std::int64_t> index(shape.size(), 0);
  std::size_t place = 0;  // of the element at `index`
  for (std::size_t from = 0; from < packed.size(); from += size) {
    std::copy_n(packed.begin() + static_cast<std::ptrdiff_t>(from), size,
                bytes.begin() + static_cast<std::ptrdiff_t>(place * size));
    for (std::size_t i = shape.size(); i-- > 0;) {
      place += static_cast<std::size_t>(strides[i]);
      if (++index[i] < shape[i]) break;
      place -= static_cast<std::size_t>(strides[i] * shape[i]);
      index[i] = 0;
    }
  }
  return bytes;
}

}  // namespace

std::shared_ptr<const KernelTemplate> reference_template(const OperatorEntry& entry,
                                                         const std::string& backend) {
  for (const auto& name : {entry.manifest->reference, backend + "_" + entry.manifest->reference})
    for (const auto& kernel : entry.templates)
      if (kernel->backend == backend && kernel->name == name) return kernel;
  return nullptr;
}

Workbench::Workbench(Backend& backend, TemplateLibrary& library, BinaryStore& binaries,
                     const OperatorEntry& entry, const Problem& problem, std::uint64_t seed)
    : backend_(backend), library_(library), binaries_(binaries), problem_(problem) {
  fill_tensors(seed);
  prepare_outputs();
  const auto kernel = reference_template(entry, backend.device().backend);
  if (kernel == nullptr) return;
  const auto configuration = default_configuration(*kernel, problem, backend.device());
  if (!configuration)
    throw Error(ErrorCode::unsupported,
                fmt::format("{}: the reference has no valid configuration", problem.describe()));
  reference_ = kernel->name;
  const auto executable = load(specialize(kernel, problem, *configuration, backend.device()));
  expect(*executable);
}

void* Workbench::Output::expected_data() const {
  return static_cast<std::byte*>(expected.data()) + guard_bytes;
}

std::unique_ptr<const Executable> Workbench::load(const Specialization& specialization) {
  const Binary binary = obtain_binary(backend_, binaries_, specialization);
  return backend_.prepare(backend_.load(binary), specialization.plan);
}

void Workbench::fill_tensors(std::uint64_t seed) {
  const OperatorManifest& op = *problem_.op;
  // Tensors declared unaligned are measured unaligned.
  const bool aligned = is_true(problem_.values.at("base_aligned"));
  for (std::size_t i = 0; i < op.tensors.size(); ++i) {
    const TensorSpec& spec = op.tensors[i];
    Cancellation::check();
    tensors_.emplace_back();
    pointers_.push_back(nullptr);
    if (!problem_.has(spec)) continue;
    const std::size_t size = size_of(problem_.dtype_of(spec));
    const std::size_t offset = guard_bytes + (aligned ? 0 : size);
    const auto span =
        static_cast<std::size_t>(span_of(problem_.shape_of(spec), problem_.strides_of(spec)));
    tensors_.back() = backend_.allocate(offset + span * size + guard_bytes);
    pointers_.back() = static_cast<std::byte*>(tensors_.back().data()) + offset;
    if (!spec.output) fill_input(i, seed * 64 + i);
  }
}

void Workbench::fill_input(std::size_t tensor, std::uint64_t seed) {
  const OperatorManifest& op = *problem_.op;
  const TensorSpec& spec = op.tensors[tensor];
  const auto shape = problem_.shape_of(spec), strides = problem_.strides_of(spec);
  const DataType dtype = problem_.dtype_of(spec);
  const InputRule rule = input_rule(problem_, spec);
  const bool packed = strides == packed_strides(shape);
  const std::size_t count = element_count(shape);
  const bool repeats = packed && count > most_drawn && draws_each_element(rule);
  auto bytes = random_elements(rule, dtype, repeats ? most_drawn : count, seed);
  if (repeats) return repeat(tensor, bytes, most_drawn, count);
  if (!packed) bytes = scattered(bytes, shape, strides, size_of(dtype));
  backend_.copy_to_device(pointers_[tensor], bytes.data(), bytes.size());
}

void Workbench::repeat(std::size_t tensor, const std::vector<std::byte>& pattern,
                       std::size_t period, std::size_t count) {
  constexpr std::array types{DataType::e4m3, DataType::bf16, DataType::f32, DataType::f64};
  const auto same_size = std::find_if(types.begin(), types.end(), [&](DataType type) {
    return size_of(type) == pattern.size() / period;
  });
  const Buffer source = backend_.allocate(pattern.size());
  backend_.copy_to_device(source.data(), pattern.data(), pattern.size());
  const auto executable = load_internal("_repeat", {{"period", static_cast<std::int64_t>(period)},
                                                    {"count", static_cast<std::int64_t>(count)},
                                                    {"dtype", std::string(name_of(*same_size))}});
  const OperatorManifest& op = *library_.find("_repeat")->manifest;
  std::array<void*, 2> tensors{};
  tensors[*op.tensor_index("pattern")] = source.data();
  tensors[*op.tensor_index("data")] = pointers_[tensor];
  run(*executable, {tensors, {}, nullptr});
}

std::unique_ptr<const Executable> Workbench::load_internal(const char* op, const Values& values) {
  const auto entry = library_.find(op);
  const Problem problem = make_problem(entry->manifest, values);
  for (const auto& kernel : entry->templates)
    if (kernel->backend == backend_.device().backend)
      return load(specialize(kernel, problem, {}, backend_.device()));
  throw Error(ErrorCode::internal,
              fmt::format("{} has no template for {}", op, backend_.device().backend));
}

void Workbench::prepare_outputs() {
  comparison_ = backend_.allocate(5 * sizeof(double));
  const OperatorManifest& op = *problem_.op;
  for (std::size_t i = 0; i < op.tensors.size(); ++i) {
    if (!op.tensors[i].output || !problem_.has(op.tensors[i])) continue;
    const DataType dtype = problem_.dtype_of(op.tensors[i]);
    const auto shape = problem_.shape_of(op.tensors[i]);
    Output output;
    output.tensor = i;
    output.elements = element_count(shape);
    output.span = static_cast<std::size_t>(span_of(shape, problem_.strides_of(op.tensors[i])));
    output.bytes = output.span * size_of(dtype);
    // A reference that writes beside its output must not do harm.
    output.expected = backend_.allocate(guard_bytes + output.bytes + guard_bytes);
    output.tolerance = problem_.tolerance(dtype);
    // Flags are bytes to compare.
    const DataType compared = dtype == DataType::boolean ? DataType::u8 : dtype;
    output.compare = load_internal("_compare", {{"count", static_cast<std::int64_t>(output.span)},
                                                {"dtype", std::string(name_of(compared))}});
    outputs_.push_back(std::move(output));
  }
}

LaunchArguments Workbench::arguments() const { return {pointers_, problem_.scalars, nullptr}; }

void Workbench::poison_outputs() {
  for (const auto& output : outputs_) {
    auto* data = static_cast<std::byte*>(pointers_[output.tensor]);
    backend_.fill(data - guard_bytes, guard, guard_bytes);
    backend_.fill(data, poison, output.bytes);
    backend_.fill(data + output.bytes, guard, guard_bytes);
  }
}

// Which output's guards have changed since poison_outputs(); empty when none have.
std::string Workbench::why_out_of_bounds() {
  std::array<std::byte, guard_bytes> bytes{};
  for (const auto& output : outputs_) {
    auto* data = static_cast<std::byte*>(pointers_[output.tensor]);
    for (const bool behind : {false, true}) {
      backend_.copy_to_host(bytes.data(), behind ? data + output.bytes : data - guard_bytes,
                            guard_bytes);
      const auto changed =
          guard_bytes - static_cast<std::size_t>(std::count(bytes.begin(), bytes.end(), guard));
      if (changed > 0)
        return fmt::format("{}: {} of the {} bytes {} it were written",
                           problem_.op->tensors[output.tensor].name, changed, guard_bytes,
                           behind ? "behind" : "before");
    }
  }
  return {};
}

void Workbench::run(const Executable& executable, const LaunchArguments& arguments) {
  Cancellation::check();
  executable.launch(arguments);
  backend_.synchronize();
}

// Lets the executable write what others are compared with.
void Workbench::expect(const Executable& executable) {
  std::vector<void*> pointers = pointers_;
  for (const auto& output : outputs_) {
    pointers[output.tensor] = output.expected_data();
    backend_.fill(output.expected_data(), poison, output.bytes);
  }
  run(executable, {pointers, problem_.scalars, nullptr});
  has_expected_ = true;
}

Verdict Workbench::compare(Output& output) {
  const std::string& name = problem_.op->tensors[output.tensor].name;
  backend_.fill(comparison_.data(), std::byte{0}, comparison_.bytes());
  const std::array<void*, 3> tensors{pointers_[output.tensor], output.expected_data(),
                                     comparison_.data()};
  const double slack = 2 * output.tolerance;
  run(*output.compare, {tensors, {&slack, 1}, nullptr});
  std::array<double, 5> sums{};
  backend_.copy_to_host(sums.data(), comparison_.data(), sizeof sums);
  const auto [difference, magnitude, excess, differing, missing] = sums;
  // Poison that is still there is right in the gaps between the elements, and nowhere else. Integers
  // have none that is no number: there a gap that was written differs.
  const auto gaps = static_cast<double>(output.span - output.elements);
  const double broken = differing + std::max(0.0, missing - gaps);

  const double root_mean_square =
      std::sqrt(magnitude / static_cast<double>(std::max<std::size_t>(output.elements, 1)));
  Verdict verdict;
  verdict.error = magnitude > 0 ? std::sqrt(difference / magnitude) : std::sqrt(difference);
  if (broken > 0)
    verdict.complaint =
        fmt::format("{}: {} of {} elements are NaN, infinite or not written{}", name, broken,
                    output.elements, gaps > 0 ? ", or lie in gaps between rows" : "");
  else if (!(verdict.error <= output.tolerance))
    verdict.complaint = fmt::format("{}: relative error {:.3g}, expected at most {:.3g}", name,
                                    verdict.error, output.tolerance);
  else if (!(excess <= element_slack * output.tolerance * root_mean_square))
    verdict.complaint = fmt::format("{}: an element is off by {:.3g} times the root mean square",
                                    name, excess / root_mean_square);
  if (broken > 0) verdict.error = std::numeric_limits<double>::infinity();
  return verdict;
}

Verdict Workbench::verify(const Executable& executable) {
  poison_outputs();
  run(executable, arguments());
  if (auto complaint = why_out_of_bounds(); !complaint.empty())
    return {std::numeric_limits<double>::infinity(), std::move(complaint), true};
  const bool becomes_expected = !has_expected_;
  if (becomes_expected) expect(executable);
  Verdict worst;
  for (auto& output : outputs_) {
    if (output.elements == 0) continue;
    Verdict verdict = compare(output);
    worst.error = std::max(worst.error, verdict.error);
    if (worst.complaint.empty()) worst.complaint = std::move(verdict.complaint);
  }
  // What is not even equal to itself is nothing to compare others with.
  if (becomes_expected && !worst.complaint.empty()) has_expected_ = false;
  return worst;
}

std::vector<double> Workbench::time(const Executable& executable, int count) {
  return backend_.time(executable, arguments(), count);
}

}  // namespace cudadent
