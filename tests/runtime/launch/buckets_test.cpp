#include "runtime/launch/buckets.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>

#include "emulator/backend.h"
#include "runtime/backends/host/backend.h"
#include "runtime/language/value.h"
#include "runtime/operators/template_library.h"
#include "tests/emulator/cases.h"
#include "tests/support/allocations.h"
#include "tests/support/bench.h"
#include "tests/support/environment.h"
#include "tests/support/plans.h"
#include "tests/support/twice.h"

namespace cudadent {
namespace {

using emulator::Case;

// A call: tensors in manifest order at addresses that nobody reads, and scalars.
struct Call {
  std::vector<Tensor> tensors;
  std::vector<double> scalars;
};

// A call whose problem this is. Where an optional leading dimension changes nothing, it is left out now and then;
// scalars that are as by default are said now and then.
Call call_of(const Problem& problem, std::mt19937_64& random) {
  Call call;
  const bool aligned = is_true(problem.values.at("base_aligned"));
  bool lacks_first = random() % 2 == 0;  // of those that all may lack it
  for (const auto& dimension : problem.op->optional_dimensions)
    lacks_first = lacks_first && std::get<std::int64_t>(problem.values.at(dimension)) == 1;
  std::uintptr_t address = 1 << 20;
  for (const auto& spec : problem.op->tensors) {
    Tensor& tensor = call.tensors.emplace_back();
    if (!problem.has(spec)) continue;
    const auto shape = problem.shape_of(spec), strides = problem.strides_of(spec);
    const ShapeSpec& dimensions = spec.shape_for(problem.values);
    const bool may_lack = !dimensions.empty() && dimensions.front().optional;
    const bool lacks =
        may_lack && (lacks_first || (!spec.output && strides[0] == 0 && random() % 2 == 0));
    tensor.data = reinterpret_cast<void*>(address += aligned ? 4096 : 4098);
    tensor.dtype = problem.dtype_of(spec);
    tensor.rank = static_cast<std::int32_t>(shape.size() - (lacks ? 1 : 0));
    std::copy(shape.begin() + lacks, shape.end(), tensor.shape.begin());
    std::copy(strides.begin() + lacks, strides.end(), tensor.strides.begin());
  }
  const auto defaults = default_scalars(problem);
  for (std::size_t i = 0; i < defaults.size(); ++i)
    call.scalars.push_back(
        problem.scalars[i] == defaults[i] && random() % 4 != 0 ? std::nan("") : problem.scalars[i]);
  return call;
}

// A problem with other numbers, most of them of the same bucket; nothing where they do not go together.
std::optional<Problem> another(const Problem& problem, std::mt19937_64& random) {
  Values given = values_from_json(nlohmann::json::parse(problem.key()));
  const auto is_rounded = [&](const std::string& name) {
    return std::any_of(problem.op->tuning_key.begin(), problem.op->tuning_key.end(),
                       [&](const auto& entry) { return entry.first == name; });
  };
  for (auto& [name, value] : given) {
    const bool is_number = problem.op->is_dimension(name) || problem.op->scalar_index(name);
    if (!is_number || (!is_rounded(name) && random() % 20 != 0) || random() % 3 == 0) continue;
    if (const auto* extent = std::get_if<std::int64_t>(&value)) {
      const auto least = std::max<std::int64_t>(0, *extent * 3 / 4);
      value = least +
              static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(
                                                       std::max<std::int64_t>(1, *extent / 2 + 2)));
    } else if (const auto* real = std::get_if<double>(&value)) {
      value = *real * (random() % 8 == 0 ? 1000 : 1.5);
    }
  }
  try {
    return make_problem(problem.op, given);
  } catch (const Error&) {
    return std::nullopt;
  }
}

Values options_of(const Problem& problem) {
  Values options;
  for (const auto& option : problem.op->options)
    options[option.name] = problem.values.at(option.name);
  return options;
}

// What of a bucket's find() is compared.
struct Found {
  bool any = false, no_work = false;
  std::string plan;
  std::vector<double> scalars;
};

Found find(const BucketTable& table, const Call& call, std::size_t scalar_count) {
  Found found;
  found.any = table.find(call.tensors, call.scalars, [&](const BucketMember& member) {
    found.no_work = member.bucket == nullptr;
    if (member.plan != nullptr) found.plan = tests::describe(*member.plan);
    found.scalars.assign(member.scalars.begin(),
                         member.scalars.begin() + static_cast<std::ptrdiff_t>(scalar_count));
    return true;
  });
  return found;
}

std::vector<double> unbound(const OperatorManifest& op) {
  return std::vector<double>(op.scalars.size(), std::nan(""));
}

void add(BucketTable& table, const Problem& problem, const Call& call,
         const Specialization& specialization, const Device& device) {
  table.add(problem, call.tensors, unbound(*problem.op),
            {specialization.kernel_template, specialization.configuration, 0, Provenance::tuned},
            nullptr, nullptr, specialization, device.facts(), table.age());
}

struct Compared {
  int launched = 0, left = 0;
};

// Members of the problem's bucket, and others: what a bucket makes of them is what specialize() makes of them, and
// what is left to the slow path is so for a reason.
Compared compare(const std::shared_ptr<const KernelTemplate>& kernel, const Problem& given,
                 const Configuration& configuration, const Device& device,
                 std::mt19937_64& random) {
  constexpr int members = 12;
  Compared compared;
  BucketTable table;
  const Call first = call_of(given, random);
  // A drawn problem may say the type of a tensor that is not there.
  const Problem problem = problem_of(given.op, first.tensors, options_of(given), first.scalars);
  if (!why_invalid(*kernel, problem, configuration, device).empty()) return compared;
  const auto specialization = specialize(kernel, problem, configuration, device);
  add(table, problem, first, specialization, device);
  for (int i = 0; i < members; ++i) {
    const auto drawn = i == 0 ? problem : another(problem, random);
    if (!drawn) continue;
    const Call call = i == 0 ? first : call_of(*drawn, random);
    const Problem member = problem_of(drawn->op, call.tensors, options_of(*drawn), call.scalars);
    CAPTURE(member.describe());
    CAPTURE(problem.describe());
    CAPTURE(specialization.description);
    const Found found = find(table, call, member.scalars.size());
    std::optional<Specialization> expected;
    try {
      expected = specialize(kernel, member, configuration, device);
    } catch (const Error&) {  // not for this member
    }
    if (found.any) {
      CHECK(found.scalars == member.scalars);
      CHECK(found.no_work == member.has_no_work());
      if (found.no_work) continue;
      ++compared.launched;
      CHECK(member.tuning_key() == problem.tuning_key());
      REQUIRE(expected.has_value());
      CHECK(expected->hash == specialization.hash);
      CHECK(found.plan == tests::describe(expected->plan));
      continue;
    }
    ++compared.left;
    const auto same = [&](const char* name) {
      return member.values.at(name) == problem.values.at(name);
    };
    const bool same_kind = std::equal(
        call.tensors.begin(), call.tensors.end(), first.tensors.begin(),
        [](const Tensor& a, const Tensor& b) { return signature_word(a) == signature_word(b); });
    const bool belongs = same_kind && same("aligned") && same("base_aligned") &&
                         !problem.has_no_work() && member.tuning_key() == problem.tuning_key() &&
                         expected && expected->hash == specialization.hash &&
                         expected->plan.launches.size() == specialization.plan.launches.size();
    CHECK_FALSE(belongs);
  }
  return compared;
}

TEST_CASE("a bucket's numbers are those of the slow path, for every template") {
  TemplateLibrary library({});
  const auto seed = test::number_from_environment("CUDADENT_BUCKET_SEED", 21);
  const auto cases = test::number_from_environment("CUDADENT_BUCKET_CASES", 500);
  std::mt19937_64 random(seed);
  emulator::CaseRules rules;
  rules.draws = 1;
  rules.most_flops = 1e12;
  emulator::CaseMaker maker(library, seed, rules);
  const Device host = [] {
    Device device;
    device.backend = "host";
    device.architecture = "x86-64";
    device.simd_bytes = 32;
    device.cores = device.sm_count = 4;
    device.max_shared_memory = 64 << 20;
    return device;
  }();
  std::map<std::string, Compared> all;
  const auto count = [&](const KernelTemplate& kernel, const Compared& compared) {
    auto& total = all[kernel.op + "/" + kernel.name];
    total.launched += compared.launched;
    total.left += compared.left;
  };
  for (std::uint64_t i = 0; i < cases; ++i) {
    const Case given = maker.next();
    Device device = nominal_cuda_device(std::to_string(given.sm)).value();
    device.sm_count = given.sm_count;
    count(*given.kernel, compare(given.kernel, given.problem, given.configuration, device, random));
    for (const auto& kernel : library.find(given.kernel->op)->templates) {
      if (kernel->backend != "host" || !why_unfit(*kernel, given.problem, host).empty()) continue;
      if (const auto configuration = default_configuration(*kernel, given.problem, host))
        count(*kernel, compare(kernel, given.problem, *configuration, host, random));
    }
  }
  for (const auto& [name, compared] : all) {
    CAPTURE(name);
    MESSAGE(name, ": ", compared.launched, " as their bucket, ", compared.left, " not");
    CHECK(compared.launched > 0);
  }
  CHECK(all.size() >= 14);
}

// Launches what it is made for with a plan of another problem.
class WithPlan : public Executable {
 public:
  WithPlan(const Executable& executable, LaunchPlan plan)
      : executable_(executable), plan_(std::move(plan)) {}
  void launch(const LaunchArguments& arguments) const override {
    if (!executable_.launch_with(plan_, arguments))
      throw Error(ErrorCode::launch_failed, "a plan that was to be prepared by itself");
  }

 private:
  const Executable& executable_;
  LaunchPlan plan_;
};

// Launches members of a problem's bucket with what was compiled for it, and compares with float64.
void check_results(Backend& backend, const std::string& op, const std::string& name,
                   const Values& first, const std::string& rounded,
                   const std::vector<std::int64_t>& members) {
  CAPTURE(name);
  TemplateLibrary library({});
  const auto entry = library.find(op);
  const auto kernel = entry->template_named(name);
  const Problem problem = make_problem(entry->manifest, first);
  const auto configuration = default_configuration(*kernel, problem, backend.device()).value();
  const auto specialization = specialize(kernel, problem, configuration, backend.device());
  const auto module = backend.load(backend.compile(specialization));
  const auto executable = backend.prepare(module, specialization.plan);
  BucketTable table;
  std::mt19937_64 random(3);
  add(table, problem, call_of(problem, random), specialization, backend.device());
  for (const std::int64_t extent : members) {
    Values values = first;
    values[rounded] = extent;
    const Problem member = make_problem(entry->manifest, values);
    CAPTURE(member.describe());
    const Call call = call_of(member, random);
    std::optional<LaunchPlan> plan;
    REQUIRE(table.find(call.tensors, call.scalars, [&](const BucketMember& found) {
      plan = *found.plan;
      return true;
    }));
    test::Bench bench(backend, member, 5);
    CHECK(bench.why_wrong(WithPlan(*executable, *plan), *kernel) == "");
  }
}

const std::string f16 = "f16", f32 = "f32";

TEST_CASE("members of a bucket are right on the host, with the kernels of another") {
  const auto backend = make_host_backend(tests::host_environment());
  check_results(*backend, "rms_norm", "host",
                {{"rows", std::int64_t{40}}, {"columns", std::int64_t{72}}, {"dtype", f32}}, "rows",
                {33, 41, 64});
  check_results(
      *backend, "gemm", "host",
      {{"m", std::int64_t{100}}, {"n", std::int64_t{65}}, {"k", std::int64_t{33}}, {"dtype", f32}},
      "m", {65, 97, 101, 128});
  check_results(*backend, "attention", "host",
                {{"batch", std::int64_t{2}},
                 {"query_length", std::int64_t{1}},
                 {"kv_length", std::int64_t{100}},
                 {"heads", std::int64_t{4}},
                 {"kv_heads", std::int64_t{2}},
                 {"head_dim", std::int64_t{64}},
                 {"dtype", f16}},
                "kv_length", {65, 101, 128});
}

TEST_CASE("members of a bucket are right on the emulator, tensor maps and workspaces among them") {
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  MESSAGE("SKIPPED: the emulator's fibers are not for sanitizers");
#else
  const auto backend =
      emulator::make_emulator_backend({.sm = 90, .sm_count = 4}, Environment::read());
  check_results(
      *backend, "gemm", "wgmma",
      {{"m", std::int64_t{40}}, {"n", std::int64_t{64}}, {"k", std::int64_t{1024}}, {"dtype", f16}},
      "m", {33, 50, 64});
  check_results(*backend, "attention", "wgmma",
                {{"batch", std::int64_t{1}},
                 {"query_length", std::int64_t{1}},
                 {"kv_length", std::int64_t{300}},
                 {"heads", std::int64_t{2}},
                 {"kv_heads", std::int64_t{1}},
                 {"head_dim", std::int64_t{64}},
                 {"dtype", f16}},
                "kv_length", {257, 301, 511});
#endif
}

TEST_CASE("ever new members of a bucket allocate nothing on the host device") {
  if (!tests::allocations()) {
    MESSAGE("SKIPPED: a sanitizer's build cannot count allocations");
    return;
  }
  TemplateLibrary library({});
  const auto backend = make_host_backend(tests::host_environment());
  const auto entry = library.find("attention");
  const auto kernel = entry->template_named("host_reference");
  Values values{{"batch", std::int64_t{1}},
                {"query_length", std::int64_t{1}},
                {"kv_length", std::int64_t{1}},
                {"heads", std::int64_t{2}},
                {"kv_heads", std::int64_t{1}},
                {"head_dim", std::int64_t{8}},
                {"dtype", f16}};
  const auto problem_of_length = [&](std::int64_t length) {
    values["kv_length"] = length;
    return make_problem(entry->manifest, values);
  };
  const Problem problem = problem_of_length(600);
  const auto specialization = specialize(kernel, problem, {}, backend->device());
  const auto module = backend->load(backend->compile(specialization));
  const std::shared_ptr<const Executable> executable =
      backend->prepare(module, specialization.plan);
  const Buffer memory = backend->allocate(1 << 20);
  backend->fill(memory.data(), std::byte{0}, memory.bytes());
  std::mt19937_64 random(1);
  BucketTable table;
  Call call = call_of(problem, random);
  add(table, problem, call, specialization, backend->device());
  std::array<void*, max_tensors> pointers{};
  for (std::size_t i = 0; i < call.tensors.size(); ++i)
    if (call.tensors[i].present()) pointers[i] = memory.data();
  const auto launch = [&](std::int64_t length) {
    for (const std::size_t i : {1, 2}) {
      call.tensors[i].shape[1] = length;
      call.tensors[i].strides[0] = length * 8;
    }
    return table.find(call.tensors, call.scalars, [&](const BucketMember& member) {
      return executable->launch_with(*member.plan, {pointers, member.scalars, nullptr});
    });
  };
  REQUIRE(launch(601));
  const auto before = tests::allocations();
  bool all = true;
  for (std::int64_t length = 602; length <= 1024; ++length) all = launch(length) && all;
  CHECK(all);
  CHECK(tests::allocations() == before);
}

}  // namespace
}  // namespace cudadent
