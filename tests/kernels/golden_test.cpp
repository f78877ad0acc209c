// What winners, trials and binaries of the built-in operators are known by.
#include "tests/support/golden.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cache/shipped.h"
#include "runtime/base/embedded_files.h"
#include "runtime/language/value.h"
#include "runtime/operators/prelude.h"
#include "runtime/operators/specialization.h"
#include "runtime/operators/template_library.h"
#include "tests/support/folder.h"
#include "tests/support/problems.h"
#include "tuner/cost_model.h"

namespace cudadent {
namespace {

using nlohmann::ordered_json;

struct Sample {
  const char* op;
  Values values;
};

// Problems of which each built-in template can do one.
std::vector<Sample> samples() {
  const auto gemm = [](const char* dtype, Values more = {}) {
    more.insert({{"m", std::int64_t{100}},
                 {"n", std::int64_t{4096}},
                 {"k", std::int64_t{1024}},
                 {"dtype", std::string(dtype)}});
    return more;
  };
  return {{"gemm", gemm("bf16", {{"bias", true}, {"activation", std::string("gelu")}})},
          {"gemm", gemm("bf16", {{"batch", std::int64_t{3}},
                                 {"layout_a", std::string("km")},
                                 {"row_stride_c", std::int64_t{4104}}})},
          {"gemm", gemm("f32")},
          {"attention", test::attention_problem(4, 1, 8192, 32, 8, 128, "bf16")},
          {"attention", test::attention_problem(2, 512, 512, 16, 16, 64, "f16",
                                                {{"causal", true}, {"lse", true}})},
          {"rms_norm",
           {{"rows", std::int64_t{100}},
            {"columns", std::int64_t{4096}},
            {"dtype", std::string("bf16")},
            {"residual", true}}}};
}

Device host_with_8_cores() {
  Device device;
  device.backend = "host";
  device.name = "host";
  device.architecture = "host";
  device.cores = 8;
  device.simd_bytes = 32;
  return device;
}

std::vector<Device> devices() { return {*nominal_cuda_device("sm_90a"), host_with_8_cores()}; }

// Calls visit(sample's problem, template, device) for all that fit together.
void for_each_fit(
    TemplateLibrary& library,
    const std::function<void(const Problem&, const std::shared_ptr<const KernelTemplate>&,
                             const Device&)>& visit) {
  for (const auto& [op, values] : samples()) {
    const auto entry = library.find(op);
    const Problem problem = make_problem(entry->manifest, values);
    for (const Device& device : devices())
      for (const auto& kernel : entry->templates)
        if (why_unfit(*kernel, problem, device).empty()) visit(problem, kernel, device);
  }
}

TEST_CASE("golden: hashes of the built-in templates") {
  TemplateLibrary library{{}};
  std::string text;
  for (const auto& file : embedded_files()) {
    if (!file.path.ends_with("/op.json")) continue;
    const auto op = file.path.substr(0, file.path.find('/'));
    text += op;  // a line for each, so that a new operator is one line here
    for (const auto& kernel : library.find(op)->templates)
      text += fmt::format(" {}:{}", kernel->name, kernel->hash);
    text += "\n";
  }
  tests::check_golden("template_hashes.txt", text);
}

TEST_CASE("golden: keys of problems") {
  TemplateLibrary library{{}};
  std::string text;
  for (const auto& [op, values] : samples()) {
    const Problem problem = make_problem(library.find(op)->manifest, values);
    text += fmt::format("{}\nproblem {}\ntuning  {}\n\n", problem.describe(), problem.key(),
                        problem.tuning_key());
  }
  tests::check_golden("problem_keys.txt", text);
}

TEST_CASE("golden: the prelude of a template of each backend") {
  TemplateLibrary library{{}};
  std::string text;
  for_each_fit(library, [&](const Problem& problem, const auto& kernel, const Device& device) {
    if (kernel->op != "rms_norm" || (kernel->name != "row" && kernel->name != "host")) return;
    const Configuration configuration = wanted_default(*kernel, problem, device);
    text += generate_prelude(*kernel, problem,
                             evaluate_let(*kernel, problem, configuration, device.facts()), device);
  });
  tests::check_golden("preludes.txt", text);
}

// ------------------------------------------------------------------------- constants of priors

// The text with each number that an expression has in it larger by one: one text for each.
std::vector<std::string> with_other_constants(const std::string& text) {
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  const auto in_word = [&](char c) { return is_digit(c) || c == '_' || std::isalpha(c) != 0; };
  std::vector<std::string> results;
  for (std::size_t i = 0; i < text.size();) {
    std::size_t end = i;
    if (is_digit(text[i])) {
      while (end < text.size() && (is_digit(text[end]) || text[end] == '.')) ++end;
      if (end + 1 < text.size() && text[end] == 'e') {
        end += text[end + 1] == '-' ? 2 : 1;
        while (end < text.size() && is_digit(text[end])) ++end;
      }
      results.push_back(fmt::format("{}({} + 1){}", text.substr(0, i), text.substr(i, end - i),
                                    text.substr(end)));
    } else {
      while (end < text.size() && in_word(text[end])) ++end;  // a name, digits and all
    }
    i = std::max(end, i + 1);
  }
  return results;
}

// Copies of a manifest, in each of which one constant of the prior is another.
std::vector<ordered_json> with_other_priors(const ordered_json& manifest) {
  std::vector<ordered_json> results;
  const ordered_json flat = manifest.at("prior").flatten();
  for (const auto& [pointer, value] : flat.items()) {
    std::vector<ordered_json> others;
    if (value.is_number()) others.push_back(value.get<double>() + 1);
    if (value.is_string())
      for (const auto& text : with_other_constants(value.get<std::string>()))
        others.push_back(text);
    for (const auto& other : others) {
      results.push_back(manifest);
      results.back()["prior"][ordered_json::json_pointer(pointer)] = other;
    }
  }
  return results;
}

// The one copy in which all of them are.
ordered_json with_all_constants_changed(const ordered_json& manifest) {
  ordered_json changed = manifest;
  const ordered_json flat = manifest.at("prior").flatten();
  for (const auto& [pointer, value] : flat.items()) {
    auto& place = changed["prior"][ordered_json::json_pointer(pointer)];
    if (value.is_number()) place = value.get<double>() + 1;
    // The constants that are left stay where they are as those behind them change.
    if (value.is_string()) {
      std::string text = value.get<std::string>();
      for (std::size_t i = with_other_constants(text).size(); i-- > 0;)
        text = with_other_constants(text).at(i);
      place = text;
    }
  }
  return changed;
}

void check_shipped(TemplateLibrary& library) {
  const Device device = *nominal_cuda_device("sm_90a");
  int winners = 0;
  for (const auto& file : shipped_files()) {
    const ShippedWinners shipped({&file, 1});
    for (const auto& winner : shipped.all()) {
      CAPTURE(winner.problem.description);
      const auto entry = library.find(winner.problem.op);
      const auto kernel = entry->template_named(winner.kernel_template);
      REQUIRE(kernel);
      CHECK(winner.template_hash == kernel->hash);
      const Problem problem = make_problem(
          entry->manifest, values_from_json(nlohmann::json::parse(winner.problem.problem_key)));
      CHECK(problem.key() == winner.problem.problem_key);
      CHECK(problem.tuning_key() == winner.problem.tuning_key);
      CHECK(why_unfit(*kernel, problem, device) == "");
      CHECK(why_invalid(*kernel, problem, winner.configuration, device) == "");
      ++winners;
    }
  }
  CHECK(winners > 0);
}

TEST_CASE("every winner that ships is of the present templates, and valid") {
  TemplateLibrary library{{}};
  check_shipped(library);
}

TEST_CASE("constants of priors are in no hash, no source and no key") {
  TemplateLibrary library{{}};
  const tests::Folder folder;
  int constants = 0, priors = 0;
  for (const auto& file : embedded_files()) {
    const std::string path(file.path), op = path.substr(0, path.find('/'));
    if (!path.ends_with(".json") || path.ends_with("/op.json") || op == "suites" || op == "schema")
      continue;
    CAPTURE(path);
    const auto manifest = ordered_json::parse(file.text, nullptr, true, true);
    if (!manifest.contains("prior")) continue;
    ++priors;
    const OperatorManifest& described = *library.find(op)->manifest;
    const std::string hash = parse_template(file.text, path, described).hash;
    for (const auto& changed : with_other_priors(manifest)) {
      CHECK(parse_template(changed.dump(), path, described).hash == hash);
      ++constants;
    }
    folder.write(path, with_all_constants_changed(manifest).dump());
  }
  CHECK(priors >= 10);
  CHECK(constants > 200);

  TemplateLibrary changed({folder.path()});
  int compared = 0;
  for_each_fit(library, [&](const Problem& problem, const auto& kernel, const Device& device) {
    CAPTURE(kernel->op + "/" + kernel->name);
    const auto other = changed.find(kernel->op)->template_named(kernel->name);
    CHECK(other->hash == kernel->hash);
    const auto configuration = default_configuration(*kernel, problem, device);
    REQUIRE(configuration);
    const auto before = specialize(kernel, problem, *configuration, device);
    const auto after = specialize(other, problem, *configuration, device);
    CHECK(after.source == before.source);
    CHECK(after.hash == before.hash);
    if (!kernel->prior) return;
    CHECK(CostModel(*other, problem, device.facts())(*configuration) !=
          CostModel(*kernel, problem, device.facts())(*configuration));
    ++compared;
  });
  CHECK(compared >= 15);
  check_shipped(changed);
}

}  // namespace
}  // namespace cudadent
