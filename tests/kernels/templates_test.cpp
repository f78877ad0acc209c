// Every built-in template against a float64 reference, on fresh random inputs, over awkward shapes, with its
// default and random configurations. Outputs are poisoned first, and what lies behind them is watched.

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <random>

#include "api/parts.h"
#include "runtime/cuda/backend.h"
#include "runtime/specialization.h"
#include "tuner/compile_pool.h"
#include "tuner/inputs.h"

namespace cudadent {
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

std::vector<double> to_doubles(DataType dtype, std::span<const std::byte> bytes) {
  std::vector<double> values(bytes.size() / size_of(dtype));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::byte* at = bytes.data() + i * size_of(dtype);
    std::uint16_t half = 0;
    float single = 0;
    switch (dtype) {
      case DataType::f32:
        std::memcpy(&single, at, sizeof single);
        values[i] = single;
        break;
      case DataType::bf16:
        std::memcpy(&half, at, sizeof half);
        values[i] = std::bit_cast<float>(static_cast<std::uint32_t>(half) << 16);
        break;
      case DataType::f16:
        std::memcpy(&half, at, sizeof half);
        values[i] = f16_to_f64(half);
        break;
      default:
        FAIL("no conversion for this data type");
    }
  }
  return values;
}

using Tensors = std::vector<std::vector<double>>;  // in manifest order; absent ones are empty

double activate(const std::string& name, double x) {
  if (name == "relu") return std::max(x, 0.0);
  if (name == "gelu") return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
  if (name == "silu") return x / (1 + std::exp(-x));
  return x;
}

std::size_t extent(const Problem& problem, const char* name) {
  return static_cast<std::size_t>(std::get<std::int64_t>(problem.values.at(name)));
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
  const OperatorManifest& op = *problem.op;
  const auto tensor = [&](const char* name) -> std::vector<double>& {
    return tensors[*op.tensor_index(name)];
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

// A problem's tensors on the device, with guards, and its outputs in float64.
class Bench {
 public:
  Bench(Backend& backend, const Problem& problem, std::uint64_t seed)
      : backend_(backend), problem_(problem), expected_(problem.op->tensors.size()) {
    for (std::size_t i = 0; i < problem.op->tensors.size(); ++i) add(i, seed + i);
    (problem.op->name == "gemm" ? gemm : rms_norm)(problem_, expected_);
  }

  // What is wrong after running the executable; empty when nothing is.
  std::string why_wrong(const Executable& executable) {
    for (std::size_t i = 0; i < buffers_.size(); ++i)
      if (is_output(i)) {
        backend_.fill(pointers_[i], poison, bytes_[i]);
        backend_.fill(static_cast<std::byte*>(pointers_[i]) + bytes_[i], guard, guard_bytes);
      }
    executable.launch({pointers_, problem_.scalars, nullptr});
    backend_.synchronize();
    for (std::size_t i = 0; i < buffers_.size(); ++i)
      if (is_output(i))
        if (auto why = compare(i); !why.empty()) return why;
    return {};
  }

 private:
  [[nodiscard]] const TensorSpec& spec(std::size_t i) const { return problem_.op->tensors[i]; }
  [[nodiscard]] bool is_output(std::size_t i) const {
    return spec(i).output && problem_.has(spec(i));
  }

  void add(std::size_t i, std::uint64_t seed) {
    std::size_t elements = problem_.has(spec(i)) ? 1 : 0;
    for (const auto length : problem_.shape_of(spec(i)))
      elements *= static_cast<std::size_t>(length);
    const DataType dtype = problem_.dtype_of(spec(i));
    const bool aligned = std::get<bool>(problem_.values.at("aligned"));
    const std::size_t offset = aligned ? 0 : size_of(dtype);
    bytes_.push_back(elements * size_of(dtype));
    buffers_.push_back(backend_.allocate(bytes_[i] + guard_bytes + offset));
    pointers_.push_back(problem_.has(spec(i)) ? static_cast<std::byte*>(buffers_[i].data()) + offset
                                              : nullptr);
    if (spec(i).output || !problem_.has(spec(i))) return;
    const auto input = problem_.op->inputs.find(spec(i).name);
    const auto bytes = random_elements(
        input == problem_.op->inputs.end() ? InputSpec(NormalInput{}) : input->second, dtype,
        elements, seed);
    backend_.copy_to_device(pointers_[i], bytes.data(), bytes.size());
    expected_[i] = to_doubles(dtype, bytes);
  }

  std::string compare(std::size_t i) {
    std::vector<std::byte> bytes(bytes_[i] + guard_bytes);
    backend_.copy_to_host(bytes.data(), pointers_[i], bytes.size());
    for (std::size_t j = bytes_[i]; j < bytes.size(); ++j)
      if (bytes[j] != guard) return fmt::format("{}: wrote behind its end", spec(i).name);
    const DataType dtype = problem_.dtype_of(spec(i));
    const auto actual = to_doubles(dtype, std::span(bytes).first(bytes_[i]));
    double difference = 0, magnitude = 0;
    for (std::size_t j = 0; j < actual.size(); ++j) {
      if (!std::isfinite(actual[j]))
        return fmt::format("{}[{}] is {}, expected {}", spec(i).name, j, actual[j],
                           expected_[i][j]);
      difference += (actual[j] - expected_[i][j]) * (actual[j] - expected_[i][j]);
      magnitude += expected_[i][j] * expected_[i][j];
    }
    const double error = magnitude > 0 ? std::sqrt(difference / magnitude) : std::sqrt(difference);
    const double tolerance = problem_.tolerance(dtype);
    return error <= tolerance ? std::string()
                              : fmt::format("{}: relative error {:.3g}", spec(i).name, error);
  }

  Backend& backend_;
  const Problem& problem_;
  Tensors expected_;
  std::vector<Buffer> buffers_;
  std::vector<void*> pointers_;
  std::vector<std::size_t> bytes_;
};

class TemplateTest {
 public:
  explicit TemplateTest(std::unique_ptr<Backend> backend, int random_configurations)
      : backend_(std::move(backend)),
        random_configurations_(random_configurations),
        seed_(std::random_device{}()),
        generator_(seed_) {
    INFO("seed ", seed_);
  }

  void run(const char* op, const Values& given) {
    const auto entry = library_.find(op);
    const Problem problem = make_problem(entry->manifest, given);
    CAPTURE(problem.describe());
    CAPTURE(seed_);
    Bench bench(*backend_, problem, generator_());
    CompilePool pool(*backend_, store_, static_cast<int>(std::thread::hardware_concurrency()));
    int wanted = 0;
    for (const auto& kernel : entry->templates)
      if (why_unfit(*kernel, problem, backend_->device()).empty())
        for (const auto& configuration : configurations(kernel, problem)) {
          pool.submit(0, specialize(kernel, problem, configuration, backend_->device()));
          ++wanted;
        }
    CHECK_MESSAGE(wanted > 0, "no template fits");
    while (auto compiled = pool.next(std::chrono::steady_clock::now() + std::chrono::minutes(5)))
      check(bench, *compiled);
  }

 private:
  std::vector<Configuration> configurations(const std::shared_ptr<const KernelTemplate>& kernel,
                                            const Problem& problem) {
    const TuningSpace space(space_definition(*kernel, problem, backend_->device()));
    const auto chosen = default_configuration(*kernel, problem, backend_->device());
    REQUIRE_MESSAGE(chosen.has_value(), kernel->name, " has no valid configuration");
    std::vector<Configuration> all{*chosen};
    for (int i = 0; i < random_configurations_ && space.size() > 1; ++i)
      all.push_back(space.configuration(generator_() % space.size()));
    return all;
  }

  void check(Bench& bench, const Compiled& compiled) {
    CAPTURE(compiled.specialization.description);
    if (compiled.error) {
      FAIL_CHECK(std::string(compiled.error->what()), "\n", compiled.error->detail());
      return;
    }
    try {
      const auto executable =
          backend_->prepare(backend_->load(*compiled.binary), compiled.specialization.plan);
      // Twice: a kernel must leave its workspaces fit for the next launch.
      CHECK(bench.why_wrong(*executable) == "");
      CHECK(bench.why_wrong(*executable) == "");
    } catch (const Error& error) {
      FAIL_CHECK(std::string(error.what()));
    }
  }

  std::unique_ptr<Backend> backend_;
  int random_configurations_;
  TemplateLibrary library_{{}};
  Store store_{":memory:"};
  std::uint64_t seed_;
  std::mt19937_64 generator_;
};

Values gemm_problem(std::int64_t m, std::int64_t n, std::int64_t k, const char* dtype,
                    Values more = {}) {
  more.insert({{"m", m}, {"n", n}, {"k", k}, {"dtype", std::string(dtype)}});
  return more;
}

void gemm_shapes(TemplateTest& test, std::span<const char* const> dtypes) {
  const Values full{{"bias", true}, {"activation", std::string("gelu")}};
  const Values wide{{"out_dtype", std::string("f32")}, {"activation", std::string("silu")}};
  const Values swapped{
      {"layout_b", std::string("kn")}, {"bias", true}, {"activation", std::string("relu")}};
  for (const char* dtype : dtypes) {
    test.run("gemm", gemm_problem(1, 8, 8, dtype, full));
    test.run("gemm", gemm_problem(127, 136, 72, dtype, swapped));
    test.run("gemm", gemm_problem(129, 264, 520, dtype, full));
    test.run("gemm", gemm_problem(333, 120, 1000, dtype, wide));
    test.run("gemm", gemm_problem(37, 41, 43, dtype, swapped));
    test.run("gemm", gemm_problem(65, 127, 1, dtype, full));
    test.run("gemm", gemm_problem(16, 64, 0, dtype, full));
    test.run("gemm", gemm_problem(31, 64, 128, dtype, {{"aligned", false}}));
    for (const char* layout_b : {"nk", "kn"}) {
      const Values turned{{"layout_a", std::string("km")}, {"layout_b", std::string(layout_b)}};
      test.run("gemm", gemm_problem(128, 136, 72, dtype, turned));
      test.run("gemm", gemm_problem(61, 67, 53, dtype, turned));
      test.run("gemm", gemm_problem(3, 200, 301, dtype, turned));
    }
  }
}

// All that is done with the sums.
void gemm_epilogues(TemplateTest& test, std::span<const char* const> dtypes) {
  for (const char* dtype : dtypes)
    for (const char* activation : {"none", "relu", "gelu", "silu"}) {
      Values all{{"bias", true},
                 {"scale_a", true},
                 {"scale_b", true},
                 {"residual", true},
                 {"bias_dtype", std::string("f32")},
                 {"activation", std::string(activation)}};
      test.run("gemm", gemm_problem(65, 72, 40, dtype, all));
      all["out_dtype"] = std::string("f32");
      test.run("gemm", gemm_problem(13, 41, 29, dtype, all));
    }
  test.run("gemm", gemm_problem(33, 40, 64, "f32", {{"residual", true}}));
  test.run("gemm", gemm_problem(33, 40, 64, "f32", {{"scale_b", true}}));
  test.run("gemm", gemm_problem(64, 64, 64, "f32", {{"precision", std::string("tf32")}}));
  test.run("gemm", gemm_problem(5, 8, 0, "f32", {{"residual", true}, {"scale_a", true}}));
}

void rms_norm_shapes(TemplateTest& test, std::span<const char* const> dtypes) {
  const Values both{{"residual", true}, {"residual_out", true}};
  for (const char* dtype : dtypes)
    for (const auto& [rows, columns] : {std::pair<std::int64_t, std::int64_t>{1, 1},
                                        {3, 127},
                                        {17, 4096},
                                        {5, 8191},
                                        {2, 20000}}) {
      Values given = columns % 2 == 1 ? both : Values{};
      given.insert({{"rows", rows}, {"columns", columns}, {"dtype", std::string(dtype)}});
      test.run("rms_norm", given);
    }
}

TEST_CASE("host templates are right over awkward shapes") {
  TemplateTest test(open_device("host", Environment::read()), 1);
  constexpr std::array dtypes{"f32", "bf16"};
  SUBCASE("gemm") { gemm_shapes(test, dtypes); }
  SUBCASE("epilogues of gemm") { gemm_epilogues(test, dtypes); }
  SUBCASE("rms_norm") { rms_norm_shapes(test, dtypes); }
}

TEST_CASE("cuda templates are right over awkward shapes") {
  if (cuda_device_count() == 0) {
    MESSAGE("SKIPPED: no CUDA device");
    return;
  }
  TemplateTest test(open_device("cuda", Environment::read()), 4);
  constexpr std::array dtypes{"f32", "bf16", "f16"};
  SUBCASE("gemm") { gemm_shapes(test, dtypes); }
  SUBCASE("epilogues of gemm") { gemm_epilogues(test, dtypes); }
  SUBCASE("rms_norm") { rms_norm_shapes(test, dtypes); }
}

// Small enough for compute-sanitizer, which slows kernels down by hundreds of times.
TEST_CASE("cuda templates under a checker") {
  if (cuda_device_count() == 0) {
    MESSAGE("SKIPPED: no CUDA device");
    return;
  }
  TemplateTest test(open_device("cuda", Environment::read()), 1);
  test.run("gemm", gemm_problem(133, 136, 200, "bf16", {{"bias", true}}));
  test.run("gemm", gemm_problem(37, 41, 43, "f32", {{"layout_b", std::string("kn")}}));
  test.run("rms_norm", {{"rows", std::int64_t{5}},
                        {"columns", std::int64_t{1000}},
                        {"dtype", std::string("bf16")},
                        {"residual", true},
                        {"residual_out", true}});
}

}  // namespace
}  // namespace cudadent
