// Every built-in template against a float64 reference, on fresh random inputs, over awkward shapes, with its
// default and random configurations. Outputs are poisoned first, and what lies behind them is watched.

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <random>

#include "api/parts.h"
#include "runtime/backends/cuda/backend.h"
#include "runtime/operators/specialization.h"
#include "tests/support/bench.h"
#include "tests/support/problems.h"
#include "tuner/compile_pool.h"

namespace cudadent {
namespace {

using test::attention_problem;
using test::Bench;

// Which configurations are tried: the default and some at random; or one at random with the shortest ring that
// is one, and two parts of what can be split, so that small problems go around and split.
enum class Tried : std::uint8_t { usual, smallest };

class TemplateTest {
 public:
  explicit TemplateTest(std::unique_ptr<Backend> backend, int random_configurations,
                        Tried tried = Tried::usual)
      : backend_(std::move(backend)),
        random_configurations_(random_configurations),
        tried_(tried),
        seed_(std::random_device{}()),
        generator_(seed_) {
    INFO("seed ", seed_);
  }

  // With `chosen`, only templates that have these parameters, with these values.
  void run(const char* op, const Values& given, const Configuration& chosen = {}) {
    const auto entry = library_.find(op);
    const Problem problem = make_problem(entry->manifest, given);
    CAPTURE(problem.describe());
    CAPTURE(seed_);
    Bench bench(*backend_, problem, generator_());
    CompilePool pool(*backend_, store_, static_cast<int>(std::thread::hardware_concurrency()));
    int wanted = 0;
    for (const auto& kernel : entry->templates)
      if (why_unfit(*kernel, problem, backend_->device()).empty())
        for (const auto& configuration : configurations(kernel, problem, chosen)) {
          pool.submit(0, specialize(kernel, problem, configuration, backend_->device()));
          ++wanted;
        }
    CHECK_MESSAGE(wanted > 0, "no template fits");
    while (auto compiled = pool.next(std::chrono::steady_clock::now() + std::chrono::minutes(5)))
      check(bench, *compiled);
  }

 private:
  std::vector<Configuration> configurations(const std::shared_ptr<const KernelTemplate>& kernel,
                                            const Problem& problem, const Configuration& chosen) {
    auto definition = space_definition(*kernel, problem, backend_->device());
    for (const auto& [name, value] : chosen) {
      const auto parameter =
          std::find_if(definition.parameters.begin(), definition.parameters.end(),
                       [&](const auto& candidate) { return candidate.name == name; });
      if (parameter == definition.parameters.end()) return {};
      parameter->values = {value};
    }
    if (tried_ == Tried::smallest) return {smallest(*kernel, std::move(definition))};
    const TuningSpace space(definition);
    if (!chosen.empty()) return {space.configuration(generator_() % space.size())};
    const auto standard = default_configuration(*kernel, problem, backend_->device());
    REQUIRE_MESSAGE(standard.has_value(), kernel->name, " has no valid configuration");
    std::vector<Configuration> all{*standard};
    for (int i = 0; i < random_configurations_ && space.size() > 1; ++i)
      all.push_back(space.configuration(generator_() % space.size()));
    return all;
  }

  Configuration smallest(const KernelTemplate& kernel, SpaceDefinition definition) {
    const Value one = std::int64_t{1}, two = std::int64_t{2};
    std::vector<Value> lengths{one};
    for (auto& [name, values] : definition.parameters) {
      if ((name == "SPLIT" || name == "SPLIT_K") && values.size() > 1) values = {two};
      if (name == "CLUSTER_K") values = {one, two};
      if (name == "STAGES") lengths = values;
    }
    for (const Value& length : lengths) {
      if (lengths.size() > 1 && length == one) continue;
      for (auto& [name, values] : definition.parameters)
        if (name == "STAGES") values = {length};
      const TuningSpace space(definition);
      if (space.size() > 0) return space.configuration(generator_() % space.size());
    }
    FAIL(kernel.name, " has nothing so small");
    return {};
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
      CHECK(bench.why_wrong(*executable, *compiled.specialization.kernel_template) == "");
      // Twice: a kernel must leave its workspaces fit for the next launch.
      if (tried_ == Tried::usual)
        CHECK(bench.why_wrong(*executable, *compiled.specialization.kernel_template) == "");
    } catch (const Error& error) {
      FAIL_CHECK(std::string(error.what()));
    }
  }

  std::unique_ptr<Backend> backend_;
  int random_configurations_;
  Tried tried_;
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

// Batches, and rows and matrices further apart than they need be.
void gemm_places(TemplateTest& test, std::span<const char* const> dtypes) {
  const auto number = [](std::int64_t x) { return Value(x); };
  for (const char* dtype : dtypes) {
    test.run("gemm", gemm_problem(65, 72, 40, dtype, {{"batch", number(3)}, {"bias", true}}));
    test.run("gemm", gemm_problem(65, 72, 40, dtype,
                                  {{"row_stride_a", number(48)}, {"row_stride_c", number(80)}}));
    // One b for all; c between the rows of another matrix, of every second of its rows.
    test.run("gemm", gemm_problem(16, 24, 136, dtype,
                                  {{"batch", number(2)},
                                   {"residual", true},
                                   {"batch_stride_b", number(0)},
                                   {"batch_stride_c", number(32)},
                                   {"row_stride_c", number(64)}}));
    // Rows that start anywhere, along k and across.
    for (const char* layout : {"mk", "km"})
      test.run("gemm", gemm_problem(13, 41, 29, dtype,
                                    {{"batch", number(2)},
                                     {"layout_a", std::string(layout)},
                                     {"row_stride_a", number(31)},
                                     {"row_stride_b", number(43)},
                                     {"batch_stride_c", number(1001)}}));
  }
}

void gemm_8_bits(TemplateTest& test) {
  const Value e4m3 = std::string("e4m3"), e5m2 = std::string("e5m2"), f32 = std::string("f32");
  const Value kn = std::string("kn"), km = std::string("km"), block = std::string("block");
  const Values scales{{"scale_a", true}, {"scale_b", true}};
  const auto scaled = [&](Values more) {
    more.insert(scales.begin(), scales.end());
    return more;
  };
  test.run("gemm", gemm_problem(127, 136, 208, "e4m3", scaled({{"bias", true}})));
  test.run("gemm", gemm_problem(64, 48, 512, "e4m3", {{"b_dtype", e5m2}, {"out_dtype", f32}}));
  test.run("gemm", gemm_problem(37, 41, 43, "e5m2", {{"b_dtype", e4m3}, {"layout_a", km}}));
  test.run("gemm", gemm_problem(65, 136, 80, "e5m2", scaled({{"layout_b", kn}})));
  test.run("gemm", gemm_problem(65, 264, 520, "e4m3", scaled({{"scaling", block}})));
  test.run("gemm", gemm_problem(33, 130, 257, "e4m3",
                                scaled({{"scaling", block}, {"batch", std::int64_t{2}}})));
  test.run("gemm", gemm_problem(129, 128, 384, "e4m3",
                                {{"scaling", block}, {"scale_b", true}, {"residual", true}}));
  test.run("gemm", gemm_problem(5, 40, 300, "bf16", {{"scaling", block}, {"scale_a", true}}));
}

// f32 that may be rounded on its way into tensor cores, and 8-bit floats: all layouts, rows at multiples
// of 16 bytes, of 4 and of one element.
void gemm_layouts(TemplateTest& test) {
  const auto text = [](const char* word) { return Value(std::string(word)); };
  for (const char* layout_a : {"mk", "km"})
    for (const char* layout_b : {"nk", "kn"}) {
      Values given{{"layout_a", text(layout_a)}, {"layout_b", text(layout_b)}, {"bias", true}};
      test.run("gemm", gemm_problem(144, 160, 208, "e4m3", given));
      test.run("gemm", gemm_problem(68, 76, 84, "e5m2", given));
      test.run("gemm", gemm_problem(61, 67, 53, "e4m3", given));
      given["precision"] = text("tf32");
      test.run("gemm", gemm_problem(128, 136, 72, "f32", given));
      test.run("gemm", gemm_problem(61, 67, 53, "f32", given));
      given["batch"] = std::int64_t{3};
      test.run("gemm", gemm_problem(36, 44, 260, "f32", given));
    }
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

void attention_shapes(TemplateTest& test) {
  const auto number = [](std::int64_t x) { return Value(x); };
  const Values causal{{"causal", true}, {"lse", true}}, capped{{"softcap", 2.0}};
  const Values near{{"window", number(37)}, {"lse", true}};
  Values all = near;
  all.insert(capped.begin(), capped.end());
  all["causal"] = true;
  for (const char* dtype : {"bf16", "f16"}) {
    test.run("attention", attention_problem(2, 1, 1, 1, 1, 8, dtype, causal));
    test.run("attention", attention_problem(2, 127, 129, 4, 4, 64, dtype, causal));
    test.run("attention", attention_problem(2, 257, 191, 6, 2, 128, dtype, near));
    test.run("attention", attention_problem(2, 64, 300, 4, 1, 256, dtype, all));
    test.run("attention", attention_problem(2, 65, 333, 2, 2, 96, dtype, capped));
    test.run("attention", attention_problem(2, 1, 777, 8, 2, 192, dtype, causal));
    test.run("attention", attention_problem(2, 7, 1031, 10, 2, 80, dtype, all));
    // Queries that see no key, and no keys at all.
    test.run("attention", attention_problem(2, 200, 61, 2, 1, 64, dtype, causal));
    test.run("attention", attention_problem(2, 5, 0, 2, 1, 64, dtype, causal));
    // Factors of scores; q, and what comes out, as batch × heads × sequence × head_dim.
    test.run("attention", attention_problem(2, 100, 100, 3, 3, 72, dtype,
                                            {{"scale", 0.5},
                                             {"sequence_stride_q", number(72)},
                                             {"head_stride_q", number(7200)},
                                             {"sequence_stride_out", number(72)},
                                             {"head_stride_out", number(7200)}}));
    // Rows that start anywhere.
    test.run("attention", attention_problem(2, 33, 65, 2, 1, 40, dtype,
                                            {{"sequence_stride_k", number(43)},
                                             {"head_stride_v", number(41)},
                                             {"base_aligned", false}}));
  }
}

// Sequences of different lengths: queries and keys one behind the other, pages, and parts of k and v.
void attention_sequences(TemplateTest& test) {
  const auto number = [](std::int64_t x) { return Value(x); };
  const Values lengths{{"cu_queries", true}, {"queries", number(333)}, {"lse", true}};
  const Values packed{{"cu_keys", true}, {"keys", number(700)}};
  const auto pages = [&](std::int64_t size, std::int64_t a_sequence) {
    return Values{{"block_table", true},
                  {"kv_lengths", true},
                  {"page_size", number(size)},
                  {"pages", number(19)},
                  {"pages_a_sequence", number(a_sequence)}};
  };
  const auto run = [&](std::int64_t batch, std::int64_t heads, std::int64_t kv_heads,
                       std::int64_t dim, std::initializer_list<Values> parts) {
    Values given = attention_problem(2, 0, 0, heads, kv_heads, dim, "bf16");
    for (const Values& part : parts) given.insert(part.begin(), part.end());
    given["batch"] = batch;
    for (const char* name : {"query_length", "kv_length"})
      if (const auto more = std::find_if(parts.begin(), parts.end(),
                                         [&](const Values& part) { return part.contains(name); });
          more != parts.end())
        given[name] = more->at(name);
    test.run("attention", given);
  };
  const Values causal{{"causal", true}}, near{{"window", number(50)}};
  run(5, 4, 2, 64, {lengths, packed, causal});
  run(40, 2, 2, 128, {lengths, packed, near});  // shorter than most tiles, some empty
  run(3, 2, 1, 40, {lengths, {{"kv_length", number(100)}}});
  run(2, 4, 4, 72, {{{"query_length", number(65)}}, packed, causal});
  run(3, 4, 1, 128, {{{"query_length", number(1)}}, pages(16, 11)});
  run(3, 4, 2, 64, {{{"query_length", number(20)}, {"softcap", 3.0}}, pages(7, 30), causal});
  run(4, 2, 2, 96, {lengths, pages(64, 3), causal, near});
  run(2, 4, 2, 256, {lengths, pages(256, 2)});
  run(4, 8, 2, 128,
      {{{"query_length", number(3)}, {"kv_length", number(520)}, {"kv_lengths", true}}, causal});
}

// What lays out the inputs of tuning runs.
void repeat_shapes(TemplateTest& test) {
  for (const char* dtype : {"e4m3", "bf16", "f32"})
    for (const auto& [period, count] :
         {std::pair<std::int64_t, std::int64_t>{1, 1}, {97, 1000}, {1009, 40'000}, {1000, 999}})
      test.run("_repeat", {{"period", period}, {"count", count}, {"dtype", std::string(dtype)}});
}

TEST_CASE("host templates are right over awkward shapes") {
  TemplateTest test(open_device("host", Environment::read()), 1);
  constexpr std::array dtypes{"f32", "bf16"};
  SUBCASE("gemm") { gemm_shapes(test, dtypes); }
  SUBCASE("epilogues of gemm") { gemm_epilogues(test, dtypes); }
  SUBCASE("places of gemm") { gemm_places(test, dtypes); }
  SUBCASE("8-bit floats of gemm") { gemm_8_bits(test); }
  SUBCASE("rms_norm") { rms_norm_shapes(test, dtypes); }
  SUBCASE("repeat") { repeat_shapes(test); }
  SUBCASE("attention") { attention_shapes(test); }
  SUBCASE("sequences of attention") { attention_sequences(test); }
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
  SUBCASE("places of gemm") { gemm_places(test, dtypes); }
  SUBCASE("8-bit floats of gemm") { gemm_8_bits(test); }
  SUBCASE("layouts of gemm") { gemm_layouts(test); }
  SUBCASE("rms_norm") { rms_norm_shapes(test, dtypes); }
  SUBCASE("repeat") { repeat_shapes(test); }
  SUBCASE("attention") { attention_shapes(test); }
  SUBCASE("sequences of attention") { attention_sequences(test); }
}

// Of attention: blocks that share what they copy, and probabilities that pass through shared memory.
const Configuration together{{"CLUSTER", std::int64_t{2}},
                             {"SPLIT", std::int64_t{1}},
                             {"PROBABILITIES", std::string("shared")}};

// Small enough for compute-sanitizer, which slows kernels down by hundreds of times.
TEST_CASE("cuda templates under a checker") {
  if (cuda_device_count() == 0) {
    MESSAGE("SKIPPED: no CUDA device");
    return;
  }
  TemplateTest test(open_device("cuda", Environment::read()), 2);
  const Value kn = std::string("kn"), km = std::string("km"), block = std::string("block");
  test.run("gemm", gemm_problem(133, 136, 200, "bf16", {{"bias", true}}));
  test.run("gemm", gemm_problem(37, 41, 43, "f32", {{"layout_b", kn}}));
  test.run("gemm", gemm_problem(37, 41, 43, "bf16", {{"layout_a", km}, {"residual", true}}));
  test.run("gemm", gemm_problem(9, 72, 264, "f16", {{"batch", std::int64_t{2}}}));
  test.run("gemm", gemm_problem(33, 64, 96, "f32", {{"precision", std::string("tf32")}}));
  test.run("gemm", gemm_problem(65, 136, 256, "e4m3",
                                {{"scaling", block}, {"scale_a", true}, {"scale_b", true}}));
  // So long a k that it is split, over clusters and through memory.
  test.run("gemm", gemm_problem(5, 24, 16384, "bf16"));
  test.run("gemm", gemm_problem(37, 48, 261, "e5m2", {{"layout_a", km}, {"layout_b", kn}}));
  test.run("attention", attention_problem(2, 133, 200, 4, 2, 64, "bf16", {{"causal", true}}));
  test.run("attention", attention_problem(1, 300, 200, 2, 2, 64, "bf16", {{"causal", true}}),
           together);
  test.run("attention", attention_problem(2, 33, 0, 4, 2, 64, "bf16",
                                          {{"block_table", true},
                                           {"kv_lengths", true},
                                           {"pages", std::int64_t{9}},
                                           {"page_size", std::int64_t{16}},
                                           {"pages_a_sequence", std::int64_t{4}}}));
  test.run("rms_norm", {{"rows", std::int64_t{5}},
                        {"columns", std::int64_t{1000}},
                        {"dtype", std::string("bf16")},
                        {"residual", true},
                        {"residual_out", true}});
}

// The least that still goes around every ring and splits what can be split: to look for races takes a hundred
// times as long again.
TEST_CASE("cuda templates under a race checker") {
  if (cuda_device_count() == 0) {
    MESSAGE("SKIPPED: no CUDA device");
    return;
  }
  TemplateTest test(open_device("cuda", Environment::read()), 0, Tried::smallest);
  const auto number = [](std::int64_t x) { return Value(x); };
  test.run("gemm", gemm_problem(37, 72, 2080, "bf16", {{"bias", true}}));
  test.run("gemm", gemm_problem(37, 41, 2083, "f16", {{"layout_a", std::string("km")}}));
  test.run("gemm", gemm_problem(9, 40, 4160, "e4m3",
                                {{"scaling", std::string("block")}, {"scale_a", true}}));
  test.run("attention", attention_problem(1, 70, 900, 2, 1, 64, "bf16", {{"causal", true}}));
  test.run("attention", attention_problem(1, 300, 500, 1, 1, 64, "bf16", {{"causal", true}}),
           together);
  Values pages = attention_problem(2, 3, 0, 4, 2, 64, "bf16");
  pages.insert({{"block_table", true},
                {"kv_lengths", true},
                {"pages", number(60)},
                {"page_size", number(32)},
                {"pages_a_sequence", number(28)}});
  test.run("attention", pages);
  Values lengths = attention_problem(3, 0, 0, 2, 1, 64, "bf16", {{"causal", true}});
  lengths.insert(
      {{"cu_queries", true}, {"queries", number(150)}, {"cu_keys", true}, {"keys", number(1500)}});
  test.run("attention", lengths);
  test.run("rms_norm",
           {{"rows", number(2)}, {"columns", number(1000)}, {"dtype", std::string("bf16")}});
}

}  // namespace
}  // namespace cudadent
