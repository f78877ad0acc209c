#include "tests/support/bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <map>
#include <stdexcept>

#include "tuner/inputs.h"

namespace cudadent::test {

namespace {

constexpr std::size_t guard_bytes = 512;  // behind every output
constexpr std::byte guard{0xA5}, poison{0xFF};

double f16_to_f64(std::uint16_t bits) {
  const int exponent = (bits >> 10) & 31, fraction = bits & 1023;
  double magnitude =
      exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  if (exponent == 31) magnitude = fraction == 0 ? INFINITY : NAN;
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

template <typename T>
T read(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

double to_double(DataType dtype, const std::byte* from) {
  switch (dtype) {
    case DataType::f64:
      return read<double>(from);
    case DataType::f32:
      return read<float>(from);
    case DataType::bf16:
      return std::bit_cast<float>(static_cast<std::uint32_t>(read<std::uint16_t>(from)) << 16);
    case DataType::f16:
      return f16_to_f64(read<std::uint16_t>(from));
    default:
      throw std::out_of_range("no conversion for this data type");
  }
}

std::vector<double> to_doubles(DataType dtype, std::span<const std::byte> bytes) {
  std::vector<double> values(bytes.size() / size_of(dtype));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = to_double(dtype, bytes.data() + i * size_of(dtype));
  return values;
}

std::size_t extent(const Problem& problem, const char* name) {
  return static_cast<std::size_t>(std::get<std::int64_t>(problem.values.at(name)));
}

double activate(const std::string& name, double x) {
  if (name == "relu") return std::max(x, 0.0);
  if (name == "gelu") return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
  if (name == "silu") return x / (1 + std::exp(-x));
  return x;
}

void gemm(const Problem& problem, Tensors& tensors) {
  const std::size_t m = extent(problem, "m"), n = extent(problem, "n"), k = extent(problem, "k");
  const auto option = [&](const char* name) -> const std::string& {
    return std::get<std::string>(problem.values.at(name));
  };
  const auto tensor = [&](const char* name) -> std::vector<double>& {
    return tensors[*problem.op->tensor_index(name)];
  };
  const bool mk = option("layout_a") == "mk", nk = option("layout_b") == "nk";
  const auto &a = tensor("a"), &b = tensor("b"), &bias = tensor("bias");
  const auto& residual = tensor("residual");
  double scale = 1;
  for (const char* name : {"scale_a", "scale_b"})
    if (!tensor(name).empty()) scale *= tensor(name)[0];
  auto& c = tensor("c");
  c.resize(m * n);
  for (std::size_t i = 0; i < m; ++i)
    for (std::size_t j = 0; j < n; ++j) {
      double sum = 0;
      for (std::size_t p = 0; p < k; ++p)
        sum += (mk ? a[i * k + p] : a[p * m + i]) * (nk ? b[j * k + p] : b[p * n + j]);
      c[i * n + j] = activate(option("activation"), scale * sum + (bias.empty() ? 0 : bias[j])) +
                     (residual.empty() ? 0 : residual[i * n + j]);
    }
}

void rms_norm(const Problem& problem, Tensors& tensors) {
  const std::size_t rows = extent(problem, "rows"), columns = extent(problem, "columns");
  const auto tensor = [&](const char* name) -> std::vector<double>& {
    return tensors[*problem.op->tensor_index(name)];
  };
  std::vector<double> h = tensor("x");
  if (const auto& residual = tensor("residual"); !residual.empty())
    for (std::size_t i = 0; i < h.size(); ++i) h[i] += residual[i];
  tensor("residual_out") = h;
  auto& y = tensor("y");
  y.resize(h.size());
  for (std::size_t row = 0; row < rows; ++row) {
    double sum = 0;
    for (std::size_t i = 0; i < columns; ++i) sum += h[row * columns + i] * h[row * columns + i];
    const double scale = 1 / std::sqrt(sum / static_cast<double>(columns) + problem.scalars[0]);
    for (std::size_t i = 0; i < columns; ++i)
      y[row * columns + i] = h[row * columns + i] * scale * tensor("weight")[i];
  }
}

}  // namespace

void compute_reference(const Problem& problem, Tensors& tensors) {
  static const std::map<std::string, void (*)(const Problem&, Tensors&)> known{
      {"gemm", gemm}, {"rms_norm", rms_norm}};
  known.at(problem.op->name)(problem, tensors);
}

Bench::Bench(Backend& backend, const Problem& problem, std::uint64_t seed)
    : backend_(backend), problem_(problem), expected_(problem.op->tensors.size()) {
  for (std::size_t i = 0; i < problem.op->tensors.size(); ++i) add(i, seed + i);
  compute_reference(problem_, expected_);
}

bool Bench::is_output(std::size_t i) const { return spec(i).output && problem_.has(spec(i)); }

void Bench::add(std::size_t i, std::uint64_t seed) {
  std::size_t elements = problem_.has(spec(i)) ? 1 : 0;
  for (const auto length : problem_.shape_of(spec(i))) elements *= static_cast<std::size_t>(length);
  const DataType dtype = problem_.dtype_of(spec(i));
  const bool aligned = std::get<bool>(problem_.values.at("aligned"));
  const std::size_t offset = aligned ? 0 : size_of(dtype);
  bytes_.push_back(elements * size_of(dtype));
  buffers_.push_back(backend_.allocate(bytes_[i] + (spec(i).output ? guard_bytes : 0) + offset));
  pointers_.push_back(problem_.has(spec(i)) ? static_cast<std::byte*>(buffers_[i].data()) + offset
                                            : nullptr);
  if (spec(i).output || !problem_.has(spec(i))) return;
  const auto input = problem_.op->inputs.find(spec(i).name);
  const auto bytes =
      random_elements(input == problem_.op->inputs.end() ? InputSpec(NormalInput{}) : input->second,
                      dtype, elements, seed);
  backend_.copy_to_device(pointers_[i], bytes.data(), bytes.size());
  expected_[i] = to_doubles(dtype, bytes);
}

std::string Bench::why_wrong(const Executable& executable, Stream stream) {
  for (std::size_t i = 0; i < buffers_.size(); ++i)
    if (is_output(i)) {
      backend_.fill(pointers_[i], poison, bytes_[i]);
      backend_.fill(static_cast<std::byte*>(pointers_[i]) + bytes_[i], guard, guard_bytes);
    }
  executable.launch({pointers_, problem_.scalars, stream});
  backend_.synchronize();
  error_ = 0;
  for (std::size_t i = 0; i < buffers_.size(); ++i)
    if (is_output(i))
      if (auto why = compare(i); !why.empty()) return why;
  return {};
}

std::string Bench::compare(std::size_t i) {
  std::vector<std::byte> bytes(bytes_[i] + guard_bytes);
  backend_.copy_to_host(bytes.data(), pointers_[i], bytes.size());
  for (std::size_t j = bytes_[i]; j < bytes.size(); ++j)
    if (bytes[j] != guard) return fmt::format("{}: wrote behind its end", spec(i).name);
  const DataType dtype = problem_.dtype_of(spec(i));
  const auto actual = to_doubles(dtype, std::span(bytes).first(bytes_[i]));
  const auto position = [&](std::size_t j) {
    std::string text;
    const auto shape = problem_.shape_of(spec(i));
    for (std::size_t d = shape.size(); d-- > 0; j /= static_cast<std::size_t>(shape[d]))
      text = fmt::format("{}{}{}", j % static_cast<std::size_t>(shape[d]), text.empty() ? "" : ", ",
                         text);
    return fmt::format("{}[{}]", spec(i).name, text);
  };
  double difference = 0, magnitude = 0, worst = 0;
  std::size_t worst_at = 0, missing = 0, first_missing = 0;
  for (std::size_t j = 0; j < actual.size(); ++j) {
    const double expected = expected_[i][j];
    if (!std::isfinite(actual[j])) {
      if (missing++ == 0) first_missing = j;
      continue;
    }
    const double d = std::abs(actual[j] - expected);
    if (d > worst) worst = d, worst_at = j;
    difference += d * d;
    magnitude += expected * expected;
  }
  if (missing > 0)
    return fmt::format("{} of {} elements are not numbers, first {} = {}, expected {}", missing,
                       actual.size(), position(first_missing), actual[first_missing],
                       expected_[i][first_missing]);
  const double error = magnitude > 0 ? std::sqrt(difference / magnitude) : std::sqrt(difference);
  error_ = std::max(error_, error);
  const double tolerance = problem_.tolerance(dtype);
  if (error <= tolerance) return {};
  return fmt::format("{}: relative error {:.3g}, allowed {:.3g}; worst {} = {}, expected {}",
                     spec(i).name, error, tolerance, position(worst_at), actual[worst_at],
                     expected_[i][worst_at]);
}

}  // namespace cudadent::test
