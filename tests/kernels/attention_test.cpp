// What attention makes of rows, keys and values that do not count, and of scores that are no numbers: the same on
// every template. On the host, on the emulator, and on a GPU where there is one.

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <random>

#include "emulator/backend.h"
#include "runtime/backends/cuda/backend.h"
#include "runtime/backends/host/backend.h"
#include "runtime/base/environment.h"
#include "runtime/operators/specialization.h"
#include "runtime/operators/template_library.h"
#include "tests/support/bench.h"
#include "tests/support/problems.h"
#include "tuner/tuning_space.h"

namespace cudadent {
namespace {

using test::attention_problem;
using test::Bench;
using test::Tensors;

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr bool have_emulator = false;  // its fibers: see emulated_test.cpp
#else
constexpr bool have_emulator = true;
#endif

const Value one = std::int64_t{1}, two = std::int64_t{2}, four = std::int64_t{4};

// Small tiles, and what a problem of a few hundred keys can be split into.
const std::map<std::string, std::vector<Configuration>> configurations{
    {"reference", {{}}},
    {"host_reference", {{}}},
    {"host", {{{"QUERIES", four}, {"TILES", one}, {"KEYS", std::int64_t{32}}, {"COLUMNS", one}}}},
    {"mma",
     {{{"WARPS", four}, {"BN", std::int64_t{32}}, {"PACK", false}, {"SPLIT", one}},
      {{"WARPS", four}, {"BN", std::int64_t{16}}, {"PACK", true}, {"SPLIT", two}},
      {{"WARPS", one}, {"BN", std::int64_t{16}}, {"PACK", true}, {"SPLIT", two}}}},
    {"wgmma",
     {{{"CONSUMERS", one},
       {"BN", std::int64_t{48}},
       {"STAGES", two},
       {"PACK", true},
       {"SPLIT", two}},
      {{"CONSUMERS", two},
       {"BN", std::int64_t{64}},
       {"STAGES", two},
       {"PACK", false},
       {"SPLIT", one},
       {"FMA_EXP2", two},
       {"OVERLAP", true}}}}};

class EveryTemplate {
 public:
  EveryTemplate() {
    backends_.push_back(make_host_backend(Environment::read()));
    if (have_emulator)
      backends_.push_back(emulator::make_emulator_backend({.sm_count = 16}, Environment::read()));
    if (cuda_device_count() > 0) backends_.push_back(make_cuda_backend(0, Environment::read()));
  }

  [[nodiscard]] Problem problem(const Values& given) {
    return make_problem(library_.find("attention")->manifest, given);
  }

  // With inputs where these are not empty, else random ones; with `in_place` out is q.
  void check(const Problem& problem, const Tensors& inputs, bool in_place = false) {
    each(problem, inputs,
         [&](Bench& bench, const Executable& executable, const KernelTemplate& kernel) {
           if (in_place) bench.put("out", "q");
           CHECK(bench.why_wrong(executable, kernel) == "");
         });
  }
  // Whatever comes out, nothing outside of tensors is written, nor read on the emulator.
  void survives(const Problem& problem, const Tensors& inputs) {
    each(problem, inputs,
         [&](Bench& bench, const Executable& executable, const KernelTemplate& kernel) {
           CHECK(bench.why_wrong(executable, kernel).find("behind its end") == std::string::npos);
         });
  }

 private:
  void each(const Problem& problem, const Tensors& inputs,
            const std::function<void(Bench&, const Executable&, const KernelTemplate&)>& action) {
    CAPTURE(problem.describe());
    int tried = 0;
    for (const auto& backend : backends_)
      for (const auto& kernel : library_.find("attention")->templates) {
        if (!why_unfit(*kernel, problem, backend->device()).empty()) continue;
        for (const auto& chosen : configurations.at(kernel->name)) {
          const auto configuration = valid(kernel, problem, *backend, chosen);
          if (!configuration) continue;
          const auto specialization =
              specialize(kernel, problem, *configuration, backend->device());
          CAPTURE(specialization.description);
          const auto executable =
              backend->prepare(module_of(*backend, specialization), specialization.plan);
          Bench bench(*backend, problem, 7, inputs);
          action(bench, *executable, *kernel);
          ++tried;
        }
      }
    CHECK(tried >= (have_emulator ? 4 : 2));
  }

  // The default with what is chosen; nothing where a constraint forbids that.
  static std::optional<Configuration> valid(const std::shared_ptr<const KernelTemplate>& kernel,
                                            const Problem& problem, const Backend& backend,
                                            const Configuration& chosen) {
    auto definition = space_definition(*kernel, problem, backend.device());
    for (auto& parameter : definition.parameters)
      if (const auto fixed = chosen.find(parameter.name); fixed != chosen.end())
        parameter.values = {fixed->second};
    const TuningSpace space(std::move(definition));
    if (space.size() == 0) return std::nullopt;
    return space.configuration(space.size() / 2);
  }

  std::shared_ptr<const Module> module_of(Backend& backend, const Specialization& specialization) {
    auto& module =
        modules_[fmt::format("{} {}", static_cast<const void*>(&backend), specialization.hash)];
    if (module == nullptr) module = backend.load(backend.compile(specialization));
    return module;
  }

  TemplateLibrary library_{{}};
  std::vector<std::unique_ptr<Backend>> backends_;
  std::map<std::string, std::shared_ptr<const Module>> modules_;
};

// Inputs of a problem by name; the others stay empty.
class Inputs {
 public:
  explicit Inputs(const Problem& problem) : problem_(problem), all_(problem.op->tensors.size()) {}

  std::vector<double>& operator[](const char* name) {
    return all_[*problem_.op->tensor_index(name)];
  }
  // Random numbers for a tensor.
  std::vector<double>& draw(const char* name) {
    std::size_t count = 1;
    const auto& spec = problem_.op->tensors[*problem_.op->tensor_index(name)];
    for (const auto extent : problem_.shape_of(spec)) count *= static_cast<std::size_t>(extent);
    std::normal_distribution<double> normal;
    auto& elements = (*this)[name];
    elements.resize(count);
    for (double& element : elements) element = normal(random_);
    return elements;
  }
  [[nodiscard]] const Tensors& all() const { return all_; }

 private:
  const Problem& problem_;
  Tensors all_;
  std::mt19937_64 random_{5};
};

Values with_lse(Values values) {
  values["lse"] = true;
  return values;
}

TEST_CASE("attention leaves rows of no sequence as they are") {
  EveryTemplate every;
  Values given = with_lse(attention_problem(3, 0, 0, 2, 1, 16, "bf16", {{"causal", true}}));
  given.insert({{"cu_queries", true},
                {"queries", std::int64_t{150}},
                {"cu_keys", true},
                {"keys", std::int64_t{200}}});
  const Problem problem = every.problem(given);
  const std::vector<std::vector<double>> lists{
      {16, 20, 20, 20},  // in front and behind
      {0, 0, 0, 0},      // all
      {100, 100, 149, 150},
      {0, 10, 30, 1000},  // as if it were within the tensor
  };
  for (const auto& list : lists) {
    CAPTURE(list.back());
    Inputs inputs(problem);
    inputs["cu_queries"] = list;
    inputs["cu_keys"] = {3, 90, 90, 180};
    every.check(problem, inputs.all());
  }
  for (const auto& list : std::vector<std::vector<double>>{
           {-7, 10, 30, 150}, {0, 90, 40, 150}, {-100, -50, -20, -1}, {400, 300, 200, 100}}) {
    CAPTURE(list.front());
    Inputs inputs(problem);
    inputs["cu_queries"] = list;
    inputs["cu_keys"] = {3, 90, 90, 180};
    every.survives(problem, inputs.all());
  }
}

TEST_CASE("a score that is a NaN or infinite makes a NaN of attention's row, and of its lse") {
  EveryTemplate every;
  const Problem problem = every.problem(with_lse(attention_problem(1, 70, 200, 2, 1, 16, "bf16")));
  const std::size_t row = 16;
  const auto with = [&](const char* what, auto change) {
    CAPTURE(what);
    Inputs inputs(problem);
    inputs.draw("q");
    inputs.draw("k");
    change(inputs);
    every.check(problem, inputs.all());
  };
  with("in a query", [&](Inputs& inputs) {
    auto& q = inputs["q"];
    q[5 * row + 3] = NAN;
    q[40 * row + 1] = INFINITY;
    q[77 * row] = -INFINITY;
  });
  with("in a key", [&](Inputs& inputs) { inputs["k"][150 * row + 2] = NAN; });
  with("in all keys", [&](Inputs& inputs) { inputs["k"].assign(inputs["k"].size(), NAN); });
  // Of which −infinity counts nothing beside others, and is no number alone.
  const auto all_but = [&](std::size_t one_of_them) {
    return [&, one_of_them](Inputs& inputs) {
      for (double& x : inputs["q"]) x = std::abs(x) + 0.1;
      for (std::size_t key = 0; key < 200; ++key)
        if (key != one_of_them) inputs["k"][key * row] = -INFINITY;
    };
  };
  with("-infinity but for one key", all_but(11));
  with("-infinity everywhere", all_but(200));
}

TEST_CASE("keys that a row does not see do not count in attention, whatever is in them") {
  EveryTemplate every;
  const std::size_t row = 16;
  const Problem causal =
      every.problem(with_lse(attention_problem(1, 200, 200, 2, 1, 16, "bf16", {{"causal", true}})));
  for (const char* name : {"k", "v"}) {
    CAPTURE(name);
    Inputs inputs(causal);
    inputs.draw(name)[150 * row + 7] = NAN;
    every.check(causal, inputs.all());
  }
  const Problem near = every.problem(
      with_lse(attention_problem(1, 200, 200, 2, 1, 16, "bf16", {{"window", std::int64_t{15}}})));
  for (const char* name : {"k", "v"}) {
    CAPTURE(name);
    Inputs inputs(near);
    inputs.draw(name)[100 * row + 7] = NAN;
    every.check(near, inputs.all());
  }
}

// Bench makes NaNs and −1 of all that is not to be read.
TEST_CASE("attention looks up no page in front of a window, nor what is behind a sequence's end") {
  EveryTemplate every;
  Values given = with_lse(attention_problem(3, 3, 0, 4, 2, 16, "bf16", {{"causal", true}}));
  given.insert({{"block_table", true},
                {"kv_lengths", true},
                {"page_size", std::int64_t{16}},
                {"pages", std::int64_t{60}},
                {"pages_a_sequence", std::int64_t{14}}});
  for (const std::int64_t window : {20, 0, 1, 65}) {
    given["window"] = window;
    const Problem problem = every.problem(given);
    Inputs inputs(problem);
    inputs["kv_lengths"] = {200, 2, 97};
    every.check(problem, inputs.all());
  }
}

TEST_CASE("attention in the place of its queries") {
  EveryTemplate every;
  const Problem problem =
      every.problem(with_lse(attention_problem(2, 90, 70, 2, 1, 16, "bf16", {{"causal", true}})));
  Inputs inputs(problem);
  inputs.draw("q");
  every.check(problem, inputs.all(), true);
}

}  // namespace
}  // namespace cudadent
