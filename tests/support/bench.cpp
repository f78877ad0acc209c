#include "tests/support/bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <map>
#include <optional>
#include <stdexcept>

#include "runtime/operators/strides.h"
#include "tuner/inputs.h"

namespace cudadent::test {

namespace {

constexpr std::size_t guard_bytes = 512;  // behind every output
constexpr std::byte guard{0xA5}, poison{0xFF};

// A float of one sign bit, so many exponent bits and so many of a fraction, without infinities and NaNs.
double finite_float(unsigned bits, int exponent_bits, int fraction_bits) {
  const int exponent = static_cast<int>(bits >> fraction_bits) & ((1 << exponent_bits) - 1);
  const int fraction = static_cast<int>(bits) & ((1 << fraction_bits) - 1);
  const int last =
      2 - (1 << (exponent_bits - 1)) - fraction_bits;  // exponent of the last bit of 1.…
  const double magnitude = exponent == 0
                               ? std::ldexp(fraction, last)
                               : std::ldexp((1 << fraction_bits) + fraction, last + exponent - 1);
  return (bits >> (exponent_bits + fraction_bits) & 1) != 0 ? -magnitude : magnitude;
}

// The same with infinities and NaNs where the exponent is all ones.
double ieee_float(unsigned bits, int exponent_bits, int fraction_bits) {
  const unsigned ones = (1U << exponent_bits) - 1;
  if ((bits >> fraction_bits & ones) != ones)
    return finite_float(bits, exponent_bits, fraction_bits);
  if ((bits & ((1U << fraction_bits) - 1)) != 0) return NAN;
  return bits >> (exponent_bits + fraction_bits) == 0 ? INFINITY : -INFINITY;
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
      return ieee_float(read<std::uint16_t>(from), 5, 10);
    case DataType::e5m2:
      return ieee_float(read<std::uint8_t>(from), 5, 2);
    case DataType::e4m3:
      return (read<std::uint8_t>(from) & 0x7F) == 0x7F
                 ? NAN
                 : finite_float(read<std::uint8_t>(from), 4, 3);
    case DataType::i32:
      return read<std::int32_t>(from);
    default:
      throw std::out_of_range("no conversion for this data type");
  }
}

// Where the elements lie, in elements, in the order of their indices.
std::vector<std::size_t> places(Extents shape, Extents strides) {
  std::vector<std::size_t> all{0};
  for (std::size_t i = 0; i < shape.size(); ++i) {
    std::vector<std::size_t> longer;
    for (const std::size_t start : all)
      for (std::int64_t x = 0; x < shape[i]; ++x)
        longer.push_back(start + static_cast<std::size_t>(x * strides[i]));
    all = std::move(longer);
  }
  return all;
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
  const bool blocks = option("scaling") == "block";
  const auto &a = tensor("a"), &b = tensor("b"), &bias = tensor("bias");
  const auto &scale_a = tensor("scale_a"), &scale_b = tensor("scale_b");
  const auto& residual = tensor("residual");
  const std::size_t k_blocks = (k + 127) / 128, n_blocks = (n + 127) / 128;
  const auto scale = [&](std::size_t z, std::size_t i, std::size_t j, std::size_t p) {
    double factor = 1;
    if (!scale_a.empty()) factor *= scale_a[blocks ? (z * m + i) * k_blocks + p / 128 : 0];
    if (!scale_b.empty())
      factor *= scale_b[blocks ? (z * n_blocks + j / 128) * k_blocks + p / 128 : 0];
    return factor;
  };
  auto& c = tensor("c");
  for (std::size_t z = 0; z < extent(problem, "batch"); ++z)
    for (std::size_t i = 0; i < m; ++i)
      for (std::size_t j = 0; j < n; ++j) {
        double total = 0;
        for (std::size_t p = 0; p < k;) {
          double sum = 0;
          const double factor = scale(z, i, j, p);
          for (const std::size_t end = std::min(k, p + 128); p < end; ++p)
            sum += a[z * m * k + (mk ? i * k + p : p * m + i)] *
                   b[z * n * k + (nk ? j * k + p : p * n + j)];
          total += factor * sum;
        }
        total = activate(option("activation"), total + (bias.empty() ? 0 : bias[j]));
        c.push_back(total + (residual.empty() ? 0 : residual[c.size()]));
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

void repeat(const Problem& problem, Tensors& tensors) {
  const auto& pattern = tensors[*problem.op->tensor_index("pattern")];
  auto& data = tensors[*problem.op->tensor_index("data")];
  data.resize(extent(problem, "count"));
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = pattern[i % pattern.size()];
}

// As its dtype has it; for what vary_attention() puts in: exact numbers, NaNs and infinities.
void write_double(DataType dtype, double value, std::byte* to) {
  const auto number = static_cast<float>(value);
  std::uint16_t bits = 0;
  switch (dtype) {
    case DataType::f32:
      std::memcpy(to, &number, sizeof number);
      return;
    case DataType::i32: {
      const auto integer = static_cast<std::int32_t>(value);
      std::memcpy(to, &integer, sizeof integer);
      return;
    }
    case DataType::bf16:
      bits = to_bf16_bits(number);
      break;
    case DataType::f16:
      bits = to_f16_bits(number);
      break;
    default:
      throw std::out_of_range("no conversion to this data type");
  }
  std::memcpy(to, &bits, sizeof bits);
}

}  // namespace

void compute_reference(const Problem& problem, Tensors& tensors) {
  static const std::map<std::string, void (*)(const Problem&, Tensors&)> known{
      {"_repeat", repeat}, {"attention", attention}, {"gemm", gemm}, {"rms_norm", rms_norm}};
  known.at(problem.op->name)(problem, tensors);
}

Bench::Bench(Backend& backend, const Problem& problem, std::uint64_t seed, const Tensors& given)
    : backend_(backend),
      problem_(problem),
      expected_(problem.op->tensors.size()),
      places_(problem.op->tensors.size()) {
  std::mt19937_64 random(seed);
  const auto each = [&](auto action) {
    for (std::size_t i = 0; i < places_.size(); ++i)
      if (problem_.has(spec(i))) action(i);
  };
  const bool is_attention = problem.op->name == "attention";
  each([&](std::size_t i) { allocate(i); });
  each([&](std::size_t i) { draw(i, seed + i); });
  if (!given.empty()) {
    take(given);
  } else {
    Tensors varied = expected_;
    if (is_attention) vary_attention(problem, varied, random);
    take(varied);
    each([&](std::size_t i) { choose_place(i, random); });
  }
  if (is_attention)
    each([&](std::size_t i) { spoil(i, attention_elements_in_use(problem, expected_, i)); });
  compute_reference(problem_, expected_);
  if (is_attention)
    each([&](std::size_t i) {
      if (!is_output(i)) return;
      places_[i].untouched = attention_rows_of_nobody(problem, expected_, i);
      if (spec(i).name == "out")
        places_[i].near_nan = attention_elements_near_nan(problem, expected_);
    });
}

bool Bench::is_output(std::size_t i) const { return spec(i).output && problem_.has(spec(i)); }

void Bench::allocate(std::size_t i) {
  Place& place = places_[i];
  const auto shape = problem_.shape_of(spec(i)), strides = problem_.strides_of(spec(i));
  const std::size_t size = size_of(problem_.dtype_of(spec(i)));
  const std::size_t offset = std::get<bool>(problem_.values.at("base_aligned")) ? 0 : size;
  place.bytes = static_cast<std::size_t>(span_of(shape, strides)) * size;
  const std::size_t behind = spec(i).output ? guard_bytes : 0;
  place.buffer = backend_.allocate(place.bytes + behind + offset);
  place.pointer = static_cast<std::byte*>(place.buffer.data()) + offset;
  place.elements = places(shape, strides);
  // NaN between rows: it is not for kernels to read.
  place.contents.assign(place.bytes, poison);
  place.contents.resize(place.bytes + behind, guard);
}

void Bench::draw(std::size_t i, std::uint64_t seed) {
  if (spec(i).output) return;
  Place& place = places_[i];
  const DataType dtype = problem_.dtype_of(spec(i));
  const std::size_t size = size_of(dtype);
  const auto elements =
      random_elements(input_rule(problem_, spec(i)), dtype, place.elements.size(), seed);
  for (std::size_t j = 0; j < place.elements.size(); ++j)
    std::memcpy(place.contents.data() + place.elements[j] * size, elements.data() + j * size, size);
  // From where they lie: elements that share memory are equal.
  for (const std::size_t at : place.elements)
    expected_[i].push_back(to_double(dtype, place.contents.data() + at * size));
}

// Inputs become as these where they are not empty.
void Bench::take(const Tensors& given) {
  for (std::size_t i = 0; i < given.size(); ++i) {
    const DataType dtype = problem_.dtype_of(spec(i));
    const auto at = [&](std::size_t j) {
      return places_[i].contents.data() + places_[i].elements[j] * size_of(dtype);
    };
    for (std::size_t j = 0; j < given[i].size(); ++j)
      if (given[i][j] != expected_[i].at(j)) write_double(dtype, given[i][j], at(j));
    for (std::size_t j = 0; j < given[i].size(); ++j) expected_[i][j] = to_double(dtype, at(j));
  }
}

// Makes NaNs of the elements that are not used, or −1, which is no index: they are not for kernels to count.
void Bench::spoil(std::size_t i, const Elements& used) {
  if (used.empty()) return;
  Place& place = places_[i];
  const std::size_t size = size_of(problem_.dtype_of(spec(i)));
  Elements needed(place.bytes / size, false);  // elements may share memory
  for (std::size_t j = 0; j < used.size(); ++j)
    if (used[j]) needed[place.elements[j]] = true;
  for (std::size_t j = 0; j < needed.size(); ++j)
    if (!needed[j]) std::fill_n(place.contents.data() + j * size, size, poison);
}

// One output in some benches is an input, where the manifest allows that and their elements lie alike.
void Bench::choose_place(std::size_t i, std::mt19937_64& random) {
  constexpr unsigned percent = 15;
  if (!spec(i).output || places_[i].elements.empty() || random() % 100 >= percent) return;
  for (const auto& name : spec(i).in_place) {
    const std::size_t input = *problem_.op->tensor_index(name);
    const bool is_taken = std::any_of(places_.begin(), places_.end(),
                                      [&](const Place& place) { return place.instead == input; });
    if (is_taken || places_[input].elements != places_[i].elements) continue;
    put(spec(i).name.c_str(), name.c_str());
    return;
  }
}

void Bench::put(const char* output, const char* input) {
  Place& place = places_.at(*problem_.op->tensor_index(output));
  place.instead = *problem_.op->tensor_index(input);
  place.pointer = places_.at(*place.instead).pointer;
}

std::string Bench::why_wrong(const Executable& executable, const KernelTemplate& kernel,
                             Stream stream) {
  // An input that an output may have replaced is put back.
  for (std::size_t i = 0; i < places_.size(); ++i)
    if (!places_[i].instead && problem_.has(spec(i)))
      backend_.copy_to_device(places_[i].pointer, places_[i].contents.data(),
                              places_[i].contents.size());
  std::vector<void*> pointers;
  for (const Place& place : places_) pointers.push_back(place.pointer);
  executable.launch({pointers, problem_.scalars, stream});
  backend_.synchronize();
  error_ = 0;
  const bool may_spoil =
      kernel.op == "attention" && (kernel.name == "mma" || kernel.name == "wgmma");
  for (std::size_t i = 0; i < places_.size(); ++i)
    if (is_output(i))
      if (auto why = compare(i, may_spoil); !why.empty()) return why;
  return {};
}

std::string Bench::compare(std::size_t i, bool may_spoil) {
  const Place& place = places_[i];
  const std::vector<std::byte>& before = places_[place.instead.value_or(i)].contents;
  std::vector<std::byte> bytes(before.size());
  backend_.copy_to_host(bytes.data(), place.pointer, bytes.size());
  for (std::size_t j = place.bytes; j < bytes.size(); ++j)
    if (bytes[j] != before[j]) return fmt::format("{}: wrote behind its end", spec(i).name);
  const DataType dtype = problem_.dtype_of(spec(i));
  const std::size_t size = size_of(dtype);
  const auto shape = problem_.shape_of(spec(i));
  const auto is_untouched = [&](std::size_t j) {
    return !place.untouched.empty() && place.untouched[j];
  };
  std::vector<double> actual;
  for (std::size_t j = 0; j < place.elements.size(); ++j) {
    const std::size_t at = place.elements[j] * size;
    actual.push_back(to_double(dtype, bytes.data() + at));
    if (!is_untouched(j)) std::memcpy(bytes.data() + at, before.data() + at, size);
  }
  for (std::size_t j = 0; j < place.bytes; ++j)
    if (bytes[j] != before[j])
      return fmt::format("{}: wrote between its rows, or rows of nobody, at byte {}", spec(i).name,
                         j);
  const auto position = [&](std::size_t j) {
    std::string text;
    for (std::size_t d = shape.size(); d-- > 0; j /= static_cast<std::size_t>(shape[d]))
      text = fmt::format("{}{}{}", j % static_cast<std::size_t>(shape[d]), text.empty() ? "" : ", ",
                         text);
    return fmt::format("{}[{}]", spec(i).name, text);
  };
  double difference = 0, magnitude = 0, worst = 0;
  std::size_t worst_at = 0, wrong = 0, first_wrong = 0;
  for (std::size_t j = 0; j < actual.size(); ++j) {
    const double expected = expected_[i][j];
    if (is_untouched(j) || (std::isnan(expected) && std::isnan(actual[j])) ||
        (std::isinf(expected) && actual[j] == expected))
      continue;
    if (may_spoil && std::isnan(actual[j]) && !place.near_nan.empty() && place.near_nan[j])
      continue;
    if (!std::isfinite(actual[j]) || !std::isfinite(expected)) {
      if (wrong++ == 0) first_wrong = j;
      continue;
    }
    const double d = std::abs(actual[j] - expected);
    if (d > worst) worst = d, worst_at = j;
    difference += d * d;
    magnitude += expected * expected;
  }
  if (wrong > 0)
    return fmt::format(
        "{} of {} elements are numbers where none are expected, or no numbers, first {} = {}, "
        "expected {}",
        wrong, actual.size(), position(first_wrong), actual[first_wrong],
        expected_[i][first_wrong]);
  const double error = magnitude > 0 ? std::sqrt(difference / magnitude) : std::sqrt(difference);
  error_ = std::max(error_, error);
  const double tolerance = problem_.tolerance(dtype);
  if (error <= tolerance) return {};
  return fmt::format("{}: relative error {:.3g}, allowed {:.3g}; worst {} = {}, expected {}",
                     spec(i).name, error, tolerance, position(worst_at), actual[worst_at],
                     expected_[i][worst_at]);
}

}  // namespace cudadent::test
