#include "tests/emulator/cases.h"

#include <fmt/format.h>

#include <array>
#include <chrono>
#include <map>
#include <optional>

#include "emulator/backend.h"
#include "emulator/driver.h"
#include "runtime/language/value.h"
#include "runtime/operators/strides.h"
#include "tests/support/bench.h"
#include "tuner/tuning_space.h"

namespace cudadent::emulator {

namespace {

constexpr int configurations_a_problem = 8;  // of which one is taken

template <class Container>
const auto& any_of(const Container& all, std::mt19937_64& random) {
  return all[random() % std::size(all)];
}

bool happens(unsigned percent, std::mt19937_64& random) { return random() % 100 < percent; }

// Rows and matrices further apart than they need be; of inputs, sometimes one for all of a batch.
void add_random_strides(const TensorSpec& tensor, Values& given, std::mt19937_64& random) {
  constexpr std::array<std::int64_t, 6> gaps{0, 1, 3, 8, 16, 64};
  const ShapeSpec& shape = tensor.shape_for(given);
  const StrideSpec& names = tensor.strides.at(given);
  Packing packing;
  for (std::size_t i = shape.size(); i-- > 0;) {
    const std::int64_t extent = shape[i].extent(given);
    std::int64_t stride = packing.stride();
    if (!names[i].empty()) {
      stride += any_of(gaps, random);
      if (shape[i].optional && !tensor.output && happens(25, random)) stride = 0;
      given[names[i]] = stride;
    }
    packing.add(extent, stride);
  }
}

// Dimensions of attention, drawn from these: others would be refused, or take long and show nothing new.
const std::map<std::string, std::vector<std::int64_t>> few_are_enough{
    {"batch", {1, 1, 1, 2, 3}},
    {"heads", {1, 2, 4, 6, 12}},
    {"kv_heads", {1, 2, 3, 4}},
    {"pages", {1, 3, 9, 40}},
    {"page_size", {1, 7, 8, 16, 16, 32, 64, 64, 128, 256}},
    {"pages_a_sequence", {1, 1, 2, 3, 5, 9}},
    {"head_dim", {8, 16, 40, 64, 64, 64, 72, 80, 96, 112, 128, 128, 128, 192, 256, 256}}};

// What scalars are, where not what they are by default.
const std::map<std::string, std::vector<double>> scalar_values{
    {"scale", {0.05, 0.5, 1}},
    {"softcap", {0, 0, 0.5, 5, 50}},
    {"window", {-1, -1, -1, 0, 1, 5, 37, 64, 100, 200}},
    {"eps", {1e-5, 0.1}}};

// Nothing where the manifest does not allow what was drawn. Many problems keep all types, all places, or
// all optional tensors as they are by default: what templates refuse at once would leave few for some.
std::optional<Problem> random_problem(const std::shared_ptr<const OperatorManifest>& op,
                                      const CaseRules& rules, std::mt19937_64& random) {
  const bool usual_types = happens(40, random), usual_places = happens(50, random);
  const unsigned optional_tensors = happens(25, random) ? 0 : 50;
  Values given;
  for (const auto& dimension : op->dimensions)
    if (!op->is_optional_dimension(dimension))
      given[dimension] = random_extent(dimension, random);
    else
      given[dimension] =
          !usual_places && happens(60, random) ? static_cast<std::int64_t>(random() % 5) : 1;
  for (const auto& dtype : op->dtypes)
    if (!dtype.otherwise || (!usual_types && happens(60, random)))
      given[dtype.symbol] = any_of(dtype.values, random);
  for (const auto& option : op->options) given[option.name] = any_of(option.values, random);
  for (const auto& scalar : op->scalars)
    if (scalar_values.contains(scalar.name) && happens(70, random))
      given[scalar.name] = any_of(scalar_values.at(scalar.name), random);
  for (const auto& tensor : op->tensors)
    if (tensor.optional && !rules.problem.contains(tensor.name))
      given["has_" + tensor.name] = happens(optional_tensors, random);
  if (!usual_places) {
    if (!rules.problem.contains("aligned") && happens(30, random)) given["base_aligned"] = false;
    for (const auto& tensor : op->tensors)
      if (tensor.has_strides() && happens(40, random)) add_random_strides(tensor, given, random);
  }
  for (const auto& [name, value] : rules.problem) given[name] = value;
  try {
    Problem problem = make_problem(op, given);
    if (problem.flops() > rules.most_flops) return std::nullopt;
    return problem;
  } catch (const Error& error) {
    if (error.code() != ErrorCode::invalid_argument) throw;
    return std::nullopt;
  }
}

}  // namespace

std::int64_t random_extent(const std::string& dimension, std::mt19937_64& random) {
  constexpr std::array<std::int64_t, 16> even{8,   16,  24,  32,  40,  64,  72,  96,
                                              120, 128, 136, 192, 200, 256, 264, 328};
  constexpr std::array<std::int64_t, 18> odd{1,  2,  3,  5,   7,   13,  17,  31,  33,
                                             37, 61, 65, 100, 127, 129, 130, 191, 257};
  constexpr std::array<std::int64_t, 6> large{520, 777, 1000, 1024, 1031, 2048};
  if (const auto few = few_are_enough.find(dimension); few != few_are_enough.end())
    return any_of(few->second, random);
  if (happens(2, random)) return 0;
  if (happens(12, random)) return any_of(large, random);
  return happens(60, random) ? any_of(even, random) : any_of(odd, random);
}

// ------------------------------------------------------------------------------- a case

std::vector<std::string> Case::features() const {
  std::vector<std::string> all;
  const auto add = [&](const std::string& name, const Value& value) {
    all.push_back(fmt::format("{}/{} {}={}", kernel->op, kernel->name, name, to_text(value)));
  };
  for (const auto& [name, value] : configuration) add(name, value);
  for (const auto& dtype : problem.op->dtypes) add(dtype.symbol, problem.values.at(dtype.symbol));
  for (const auto& option : problem.op->options) add(option.name, problem.values.at(option.name));
  for (const auto& tensor : problem.op->tensors)
    if (tensor.optional) add("has_" + tensor.name, problem.has(tensor));
  add("aligned", problem.values.at("aligned"));
  add("sm", std::int64_t{sm});
  for (const auto& dimension : problem.op->dimensions)
    if (problem.op->is_optional_dimension(dimension))
      add(dimension + " > 1", std::get<std::int64_t>(problem.values.at(dimension)) > 1);
  for (const auto& tensor : problem.op->tensors)
    if (tensor.has_strides())
      add("strides of " + tensor.name,
          problem.strides_of(tensor) != packed_strides(problem.shape_of(tensor)));
  // What templates have code of their own for is often a type in one of its places.
  for (const auto& dtype : problem.op->dtypes) {
    const auto with = [&](const std::string& name, const Value& value) {
      add(fmt::format("{}={} {}", dtype.symbol, to_text(problem.values.at(dtype.symbol)), name),
          value);
    };
    if (dtype.otherwise) continue;
    for (const auto& option : problem.op->options)
      with(option.name, problem.values.at(option.name));
    with("aligned", problem.values.at("aligned"));
    with("sm", std::int64_t{sm});
  }
  return all;
}

std::string Case::describe() const {
  const std::string words = problem.describe();  // begins with the operator
  return fmt::format("emulate {} {}{}{}{} --sm {} --sms {} --seed {}", kernel->op, kernel->name,
                     words.substr(std::min(words.find(' '), words.size())),
                     configuration.empty() ? "" : " --set ", to_text(configuration), sm, sm_count,
                     seed);
}

Outcome try_case(const Case& given, int launches, bool plain_first,
                 const std::vector<std::string>& compile_options) {
  Outcome outcome;
  try {
    const auto backend = make_emulator_backend(
        {.sm = given.sm, .sm_count = given.sm_count, .compile_options = compile_options},
        Environment::read());
    const auto specialization =
        specialize(given.kernel, given.problem, given.configuration, backend->device());
    const Binary binary = backend->compile(specialization);
    outcome.compile_seconds = binary.compile_seconds;
    const auto executable = backend->prepare(backend->load(binary), specialization.plan);
    // Two of them, for other inputs each time: what an earlier launch left behind must not pass for right.
    test::Bench bench(*backend, given.problem, given.seed);
    test::Bench other(*backend, given.problem, given.seed + 1);
    const auto start = std::chrono::steady_clock::now();
    EmulatedStream stream{given.seed | 1};
    for (int i = 0; i < launches && outcome.fault.empty(); ++i) {
      EmulatedStream plain;
      const bool is_plain = plain_first && i == 0;
      const auto schedule = Schedule::from_seed(is_plain ? 0 : stream.seed).describe();
      test::Bench& used = i % 2 == 0 ? bench : other;
      EmulatedStream& on = is_plain ? plain : stream;
      outcome.fault = used.why_wrong(*executable, *given.kernel, &on);
      if (outcome.fault.empty()) outcome.fault = dirty_kept_memory(on);
      if (!outcome.fault.empty()) outcome.fault += fmt::format(" [{}]", schedule);
      outcome.error = std::max(outcome.error, used.error());
    }
    outcome.run_seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  } catch (const Error& error) {
    outcome.fault = error.detail().empty() ? std::string(error.what())
                                           : fmt::format("{}\n{}", error.what(), error.detail());
  }
  return outcome;
}

// ------------------------------------------------------------------------------- drawing

CaseMaker::CaseMaker(TemplateLibrary& library, std::uint64_t seed, CaseRules rules)
    : rules_(std::move(rules)), random_(seed) {
  for (const auto& op : library.operators()) {
    if (!rules_.op.empty() && op != rules_.op) continue;
    const auto entry = library.find(op);
    for (const auto& kernel : entry->templates)
      if (kernel->backend == "cuda" && (rules_.kernel.empty() || kernel->name == rules_.kernel))
        templates_.push_back({entry->manifest, kernel});
  }
  if (templates_.empty())
    throw Error(ErrorCode::invalid_argument,
                fmt::format("no CUDA template {}/{}", rules_.op, rules_.kernel));
  for (std::size_t i = 0; i < templates_.size(); ++i) {
    std::size_t weight = 2;
    for (const auto& parameter : templates_[i].kernel->parameters)
      weight += parameter.values.size() - 1;
    turns_.insert(turns_.end(), weight, i);
  }
}

Case CaseMaker::next() {
  const Candidate& candidate = templates_[turns_[random_() % turns_.size()]];
  std::optional<Case> best;
  std::size_t most = 0;
  for (int i = 0; i < rules_.draws; ++i)
    for (Case& drawn : draw(candidate)) {
      std::size_t fresh = 0;
      for (const auto& feature : drawn.features()) fresh += met_.contains(feature) ? 0 : 1;
      if (best && fresh <= most) continue;
      most = fresh;
      best = std::move(drawn);
    }
  for (const auto& feature : best->features()) met_.insert(feature);
  return *best;
}

std::vector<Case> CaseMaker::draw(const Candidate& candidate) {
  for (int attempt = 0; attempt < 20000; ++attempt)
    if (const auto problem = random_problem(candidate.op, rules_, random_))
      if (auto cases = draw_configurations(candidate, *problem); !cases.empty()) return cases;
  throw Error(ErrorCode::invalid_argument,
              fmt::format("no problem of 20000 that were drawn fits {}/{} with {} and {}",
                          candidate.op->name, candidate.kernel->name, to_text(rules_.problem),
                          to_text(rules_.parameters)));
}

// Some configurations of the template for a problem; none when it does not fit.
std::vector<Case> CaseMaker::draw_configurations(const Candidate& candidate,
                                                 const Problem& problem) {
  constexpr std::array architectures{75, 80, 86, 89, 90, 90, 90, 100, 120};
  constexpr std::array sm_counts{2, 3, 4, 8, 16, 132};
  Case drawn{candidate.kernel,           problem,  {}, any_of(architectures, random_),
             any_of(sm_counts, random_), random_()};
  if (rules_.sm != 0) drawn.sm = rules_.sm;
  if (rules_.sm_count != 0) drawn.sm_count = rules_.sm_count;
  auto device = nominal_cuda_device(std::to_string(drawn.sm));
  if (!device)
    throw Error(ErrorCode::invalid_argument, fmt::format("unknown architecture sm_{}", drawn.sm));
  device->sm_count = drawn.sm_count;
  if (!why_unfit(*candidate.kernel, problem, *device).empty()) return {};
  auto definition = space_definition(*candidate.kernel, problem, *device);
  for (auto& parameter : definition.parameters)
    if (const auto fixed = rules_.parameters.find(parameter.name); fixed != rules_.parameters.end())
      parameter.values = {fixed->second};
  const TuningSpace space(std::move(definition));
  std::vector<Case> cases;
  for (int i = 0; i < configurations_a_problem && space.size() > 0; ++i) {
    drawn.configuration = space.configuration(random_() % space.size());
    // Devices with fewer multiprocessors than a cluster has blocks are ours alone.
    if (drawn.sm_count < 16) try {
        specialize(drawn.kernel, problem, drawn.configuration, *device);
      } catch (const Error&) {
        continue;
      }
    cases.push_back(drawn);
  }
  return cases;
}

std::vector<std::string> CaseMaker::missed() const {
  std::vector<std::string> all;
  for (const auto& [op, kernel] : templates_)
    for (const auto& parameter : kernel->parameters)
      for (const auto& value : parameter.values) {
        auto feature =
            fmt::format("{}/{} {}={}", kernel->op, kernel->name, parameter.name, to_text(value));
        if (!met_.contains(feature)) all.push_back(std::move(feature));
      }
  return all;
}

}  // namespace cudadent::emulator
