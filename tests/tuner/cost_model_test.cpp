#include "tuner/cost_model.h"

#include <doctest/doctest.h>

#include <limits>
#include <map>
#include <random>
#include <string>

#include "runtime/language/value.h"
#include "runtime/operators/specialization.h"
#include "tuner/tuning_space.h"

namespace cudadent {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// Of two parameters, A and B, of "last", which is 10/A, and of the prior's own "twice" of that.
KernelTemplate kernel_with_prior(const char* prior) {
  KernelTemplate kernel;
  kernel.name = "made";
  kernel.parameters.push_back({"A", Expression::parse_list("[0, 1, 2]")});
  kernel.parameters.push_back({"B", Expression::parse_list("['x', 'y']")});
  kernel.let.emplace_back("last", Expression::parse("10 // A"));
  kernel.prior = {{{"twice", Expression::parse("2*last")}}, Expression::parse(prior)};
  return kernel;
}

TEST_CASE("a compiled prior says what its expression says, for every template that has one") {
  TemplateLibrary library{{}};
  const std::map<std::string, Values> problems{{"gemm",
                                                {{"m", std::int64_t{100}},
                                                 {"n", std::int64_t{4096}},
                                                 {"k", std::int64_t{4096}},
                                                 {"dtype", std::string("bf16")}}},
                                               {"attention",
                                                {{"batch", std::int64_t{4}},
                                                 {"query_length", std::int64_t{1}},
                                                 {"kv_length", std::int64_t{8192}},
                                                 {"heads", std::int64_t{32}},
                                                 {"kv_heads", std::int64_t{8}},
                                                 {"head_dim", std::int64_t{128}},
                                                 {"dtype", std::string("bf16")}}}};
  const Device device = *nominal_cuda_device("sm_90a");
  std::mt19937_64 random(7);
  int compared = 0;
  for (const auto& [op, values] : problems) {
    const auto entry = library.find(op);
    const Problem problem = make_problem(entry->manifest, values);
    for (const auto& kernel : entry->templates) {
      if (!kernel->prior || kernel->backend != "cuda" ||
          !why_unfit(*kernel, problem, device).empty())
        continue;
      CAPTURE(kernel->name);
      const CostModel model(*kernel, problem, device.facts());
      const TuningSpace space(space_definition(*kernel, problem, device));
      for (int i = 0; i < 50; ++i) {
        const Values configuration = space.configuration(random() % space.size());
        Values visible = evaluate_let(*kernel, problem, configuration, device.facts());
        for (const auto& [name, expression] : kernel->prior->let)
          visible[name] = expression.evaluate(Scope(visible));
        const double expected = as_real(kernel->prior->seconds.evaluate(Scope(visible)), "prior");
        CHECK(model(configuration) == doctest::Approx(expected).epsilon(1e-12));
        ++compared;
      }
    }
  }
  CHECK(compared >= 200);
}

TEST_CASE("a prior that fails for a configuration puts it last") {
  TemplateLibrary library{{}};
  const Problem problem = make_problem(
      library.find("rms_norm")->manifest,
      {{"rows", std::int64_t{8}}, {"columns", std::int64_t{64}}, {"dtype", std::string("f32")}});
  const auto costs = [&](const char* prior) {
    const CostModel model(kernel_with_prior(prior), problem, {{"device.sm", std::int64_t{90}}});
    return std::vector<double>{model({{"A", std::int64_t{0}}, {"B", std::string("x")}}),
                               model({{"A", std::int64_t{2}}, {"B", std::string("y")}})};
  };
  CHECK(costs("last + device.sm") == std::vector<double>{infinity, 95});
  CHECK(costs("twice if A > 0 else 7") == std::vector<double>{7, 10});
  CHECK(costs("A if B == 'x' else rows*1.5") == std::vector<double>{0, 12});
  CHECK(costs("3") == std::vector<double>{3, 3});
  CHECK(costs("unheard_of") == std::vector<double>{infinity, infinity});
  CHECK(costs("B") == std::vector<double>{infinity, infinity});
  const CostModel model(kernel_with_prior("A"), problem, {});
  CHECK(model({{"B", std::string("x")}}) == infinity);  // a parameter without a value
}

}  // namespace
}  // namespace cudadent
