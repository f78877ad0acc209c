#include "tests/support/bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <map>
#include <optional>
#include <stdexcept>

#include "runtime/strides.h"
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

// A sequence of queries, and the rows of k and v that are its keys.
struct Sequence {
  std::size_t batch = 0, first_query = 0, queries = 0;
  std::vector<std::size_t> key_rows;
};

std::vector<Sequence> sequences_of(const Problem& problem, const Tensors& tensors) {
  const auto size = [&](const char* name) { return extent(problem, name); };
  // Index i of an integer tensor; nothing where there is no such tensor.
  const auto at = [&](const char* name, std::size_t i) -> std::optional<std::size_t> {
    const auto& tensor = tensors[*problem.op->tensor_index(name)];
    return tensor.empty() ? std::nullopt : std::optional(static_cast<std::size_t>(tensor[i]));
  };
  const std::size_t page = size("page_size"), width = size("pages_a_sequence");
  std::vector<Sequence> all;
  for (std::size_t z = 0; z < size("batch"); ++z) {
    Sequence one{.batch = z};
    one.first_query = at("cu_queries", z).value_or(z * size("query_length"));
    one.queries =
        at("cu_queries", z + 1).value_or(one.first_query + size("query_length")) - one.first_query;
    const std::size_t first_key = at("cu_keys", z).value_or(z * size("kv_length"));
    std::size_t keys = at("cu_keys", z + 1).value_or(first_key + size("kv_length")) - first_key;
    keys = at("kv_lengths", z).value_or(keys);
    for (std::size_t j = 0; j < keys; ++j)
      one.key_rows.push_back(
          page == 0 ? first_key + j : *at("block_table", z * width + j / page) * page + j % page);
    all.push_back(std::move(one));
  }
  return all;
}

// One row after another.
void attention(const Problem& problem, Tensors& tensors) {
  const auto size = [&](const char* name) { return extent(problem, name); };
  const bool causal = std::get<bool>(problem.values.at("causal"));
  const auto tensor = [&](const char* name) -> std::vector<double>& {
    return tensors[*problem.op->tensor_index(name)];
  };
  const std::size_t heads = size("heads"), kv_heads = size("kv_heads"), dim = size("head_dim");
  const double scale = problem.scalars[0], softcap = problem.scalars[1],
               window = problem.scalars[2];
  const auto &q = tensor("q"), &k = tensor("k"), &v = tensor("v");
  auto &out = tensor("out"), &lse = tensor("lse");
  out.resize(q.size());
  const bool packed = !tensor("cu_queries").empty();
  if (problem.has(problem.op->tensors[*problem.op->tensor_index("lse")]))
    lse.resize(q.size() / dim);
  for (const auto& [z, first_query, queries, key_rows] : sequences_of(problem, tensors))
    for (std::size_t head = 0; head < heads; ++head)
      for (std::size_t i = 0; i < queries; ++i) {
        const std::size_t keys = key_rows.size(), row = ((first_query + i) * heads + head) * dim;
        const auto key_row = [&, &rows = key_rows](std::size_t j) {
          return (rows[j] * kv_heads + head / (heads / kv_heads)) * dim;
        };
        std::vector<double> scores(keys, -INFINITY);
        double largest = -INFINITY, total = 0;
        for (std::size_t j = 0; j < keys; ++j) {
          const double distance = static_cast<double>(i + keys) - static_cast<double>(queries + j);
          if (causal && distance < 0) continue;
          if (window >= 0 && std::abs(distance) >= window) continue;
          double score = 0;
          for (std::size_t x = 0; x < dim; ++x) score += q[row + x] * k[key_row(j) + x];
          score *= scale;
          if (softcap > 0) score = softcap * std::tanh(score / softcap);
          scores[j] = score;
          largest = std::max(largest, score);
        }
        for (std::size_t j = 0; j < keys; ++j) {
          if (scores[j] == -INFINITY) continue;
          const double power = std::exp(scores[j] - largest);
          total += power;
          for (std::size_t x = 0; x < dim; ++x) out[row + x] += power * v[key_row(j) + x];
        }
        for (std::size_t x = 0; x < dim && total > 0; ++x) out[row + x] /= total;
        if (lse.empty()) continue;
        lse[packed ? head * size("queries") + first_query + i : (z * heads + head) * queries + i] =
            total > 0 ? largest + std::log(total) : -INFINITY;
      }
}

void repeat(const Problem& problem, Tensors& tensors) {
  const auto& pattern = tensors[*problem.op->tensor_index("pattern")];
  auto& data = tensors[*problem.op->tensor_index("data")];
  data.resize(extent(problem, "count"));
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = pattern[i % pattern.size()];
}

// Of attention's k, v and block_table, which elements have keys of a sequence; nothing for other inputs.
std::vector<bool> elements_in_use(const Problem& problem, const Tensors& tensors, std::size_t i) {
  const std::string& name = problem.op->tensors[i].name;
  if (problem.op->name != "attention" || tensors[i].empty()) return {};
  const std::size_t row = extent(problem, "kv_heads") * extent(problem, "head_dim");
  const std::size_t page = extent(problem, "page_size"),
                    width = extent(problem, "pages_a_sequence");
  std::vector<bool> used(tensors[i].size(), false);
  for (const auto& sequence : sequences_of(problem, tensors))
    if (name == "k" || name == "v") {
      for (const std::size_t key : sequence.key_rows)
        std::fill_n(used.begin() + static_cast<std::ptrdiff_t>(key * row), row, true);
    } else if (name == "block_table") {
      for (std::size_t j = 0; j * page < sequence.key_rows.size(); ++j)
        used[sequence.batch * width + j] = true;
    } else {
      return {};
    }
  return used;
}

}  // namespace

void compute_reference(const Problem& problem, Tensors& tensors) {
  static const std::map<std::string, void (*)(const Problem&, Tensors&)> known{
      {"_repeat", repeat}, {"attention", attention}, {"gemm", gemm}, {"rms_norm", rms_norm}};
  known.at(problem.op->name)(problem, tensors);
}

Bench::Bench(Backend& backend, const Problem& problem, std::uint64_t seed)
    : backend_(backend), problem_(problem), expected_(problem.op->tensors.size()) {
  for (std::size_t i = 0; i < problem.op->tensors.size(); ++i) add(i, seed + i);
  for (std::size_t i = 0; i < problem.op->tensors.size(); ++i)
    spoil(i, elements_in_use(problem, expected_, i));
  compute_reference(problem_, expected_);
}

// Makes NaNs of the elements that are not used, or −1, which is no index: they are not for kernels to count.
void Bench::spoil(std::size_t i, const std::vector<bool>& used) {
  if (used.empty()) return;
  const std::size_t size = size_of(problem_.dtype_of(spec(i)));
  const auto at = places(problem_.shape_of(spec(i)), problem_.strides_of(spec(i)));
  std::vector<bool> needed(bytes_[i] / size, false);  // elements may share memory
  for (std::size_t j = 0; j < at.size(); ++j)
    if (used[j]) needed[at[j]] = true;
  std::vector<std::byte> bytes(bytes_[i]);
  backend_.copy_to_host(bytes.data(), pointers_[i], bytes.size());
  for (std::size_t j = 0; j < needed.size(); ++j)
    if (!needed[j]) std::fill_n(bytes.data() + j * size, size, poison);
  backend_.copy_to_device(pointers_[i], bytes.data(), bytes.size());
}

bool Bench::is_output(std::size_t i) const { return spec(i).output && problem_.has(spec(i)); }

void Bench::add(std::size_t i, std::uint64_t seed) {
  buffers_.emplace_back();
  pointers_.push_back(nullptr);
  bytes_.push_back(0);
  if (!problem_.has(spec(i))) return;
  const DataType dtype = problem_.dtype_of(spec(i));
  const auto shape = problem_.shape_of(spec(i)), strides = problem_.strides_of(spec(i));
  const std::size_t size = size_of(dtype);
  const std::size_t offset = std::get<bool>(problem_.values.at("base_aligned")) ? 0 : size;
  bytes_[i] = static_cast<std::size_t>(span_of(shape, strides)) * size;
  buffers_[i] = backend_.allocate(bytes_[i] + (spec(i).output ? guard_bytes : 0) + offset);
  pointers_[i] = static_cast<std::byte*>(buffers_[i].data()) + offset;
  if (spec(i).output) return;
  const auto at = places(shape, strides);
  const auto elements = random_elements(input_rule(problem_, spec(i)), dtype, at.size(), seed);
  // NaN between rows: it is not for kernels to read.
  std::vector<std::byte> bytes(bytes_[i], poison);
  for (std::size_t j = 0; j < at.size(); ++j)
    std::memcpy(bytes.data() + at[j] * size, elements.data() + j * size, size);
  backend_.copy_to_device(pointers_[i], bytes.data(), bytes.size());
  // From where they lie: elements that share memory are equal.
  for (const std::size_t place : at)
    expected_[i].push_back(to_double(dtype, bytes.data() + place * size));
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
  const auto shape = problem_.shape_of(spec(i));
  std::vector<double> actual;
  for (const std::size_t place : places(shape, problem_.strides_of(spec(i)))) {
    std::byte* at = bytes.data() + place * size_of(dtype);
    actual.push_back(to_double(dtype, at));
    std::fill_n(at, size_of(dtype), poison);
  }
  for (std::size_t j = 0; j < bytes_[i]; ++j)
    if (bytes[j] != poison) return fmt::format("{}: wrote between its rows", spec(i).name);
  const auto position = [&](std::size_t j) {
    std::string text;
    for (std::size_t d = shape.size(); d-- > 0; j /= static_cast<std::size_t>(shape[d]))
      text = fmt::format("{}{}{}", j % static_cast<std::size_t>(shape[d]), text.empty() ? "" : ", ",
                         text);
    return fmt::format("{}[{}]", spec(i).name, text);
  };
  double difference = 0, magnitude = 0, worst = 0;
  std::size_t worst_at = 0, missing = 0, first_missing = 0;
  for (std::size_t j = 0; j < actual.size(); ++j) {
    const double expected = expected_[i][j];
    if (std::isinf(expected) && actual[j] == expected) continue;
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
