#include "tuner/sweep/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "runtime/language/value.h"
#include "tuner/budget.h"
#include "tuner/sweep/json_reader.h"

namespace cudadent {

namespace {

using nlohmann::json;

constexpr std::size_t most_problems = 100'000;  // more is a slip in a range

// {"from": 1024, "to": 8192, "factor": 2}: both ends included.
std::vector<Value> range_values(const JsonReader& range) {
  range.allow({"from", "to", "step", "factor"});
  const double from = range.number("from"), to = range.number("to");
  if (range.has("step") == range.has("factor"))
    range.fail("a range has a \"step\" or a \"factor\"");
  const bool grows_by_factor = range.has("factor");
  const double by = range.number(grows_by_factor ? "factor" : "step");
  const bool ends = grows_by_factor ? by > 1 && from > 0 : by > 0;
  if (!ends || !(from <= to))
    range.fail(
        "a range goes up: \"from\" at most \"to\", a \"step\" above 0, a \"factor\" above 1 with "
        "\"from\" above 0");
  const auto whole = [](double number) { return number == std::floor(number); };
  const bool integers = whole(from) && (grows_by_factor || whole(by));
  if (integers && (to > 0x1p53 || from < -0x1p53))
    range.fail("whole numbers of a range are from -2^53 to 2^53");
  std::vector<Value> values;
  double last = 0;
  // Each from the start, so that rounding does not add up.
  for (int i = 0;; ++i) {
    const double exact = grows_by_factor ? from * std::pow(by, i) : from + by * i;
    if (exact > to * (1 + 1e-12)) return values;
    if (values.size() >= most_problems)
      range.fail(fmt::format("a range of more than {} values", most_problems));
    const double number = integers ? std::round(exact) : exact;
    if (!values.empty() && number == last) continue;
    last = number;
    if (integers)
      values.emplace_back(static_cast<std::int64_t>(number));
    else
      values.emplace_back(number);
  }
}

// One value, a list, or a range.
std::vector<Value> alternatives(const json& given, const std::string& place) {
  if (given.is_object()) return range_values(JsonReader(given, place));
  const auto scalar = [&](const json& value) {
    if (value.is_structured() || value.is_null())
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("{}: expected a number, a text, true or false, found {}", place,
                              value.dump()));
    return value_from_json(value);
  };
  std::vector<Value> values;
  if (!given.is_array()) return {scalar(given)};
  for (const auto& value : given) {
    if (value.is_object()) {
      const auto part = range_values(JsonReader(value, place));
      values.insert(values.end(), part.begin(), part.end());
    } else {
      values.push_back(scalar(value));
    }
  }
  if (values.empty())
    throw Error(ErrorCode::invalid_argument, fmt::format("{}: an empty list", place));
  return values;
}

// All combinations of the values of each name.
std::vector<Values> combinations(const json& given, const std::string& place) {
  std::vector<Values> all{{}};
  for (const auto& entry : given.items()) {
    const auto values = alternatives(entry.value(), fmt::format("{}: {}", place, entry.key()));
    if (all.size() * values.size() > most_problems)
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("{}: more than {} problems", place, most_problems));
    std::vector<Values> next;
    for (const Values& combination : all)
      for (const Value& value : values) {
        next.push_back(combination);
        next.back()[entry.key()] = value;
      }
    all = std::move(next);
  }
  return all;
}

// Those of `given`, one object or a list of them.
std::vector<Values> combinations_of_each(const JsonReader& entry, const char* name) {
  const json& given = entry.json().at(name);
  if (!given.is_array()) return combinations(entry.object(name).json(), entry.object(name).place());
  std::vector<Values> all;
  for (const auto& one : entry.list(name)) {
    const auto part = combinations(one.json(), one.place());
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

// "$tokens" → what `with` says.
json substituted(const json& problem, const json& with, const Suite& suite,
                 const std::string& place) {
  json result = problem;
  for (auto& value : result) {
    if (!value.is_string() || !value.get_ref<const std::string&>().starts_with('$')) continue;
    const std::string name = value.get<std::string>().substr(1);
    if (!with.contains(name))
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("{}: suite {} needs \"{}\" in \"with\", like \"with\": {{\"{}\": "
                              "[1, 512]}}",
                              place, suite.name, name, name));
    value = with.at(name);
  }
  return result;
}

class PlanReader {
 public:
  PlanReader(const Suites& suites, SweepPlan& plan) : suites_(suites), plan_(plan) {}

  void read(const JsonReader& entry) {
    if (entry.has("suite") == entry.has("op"))
      entry.fail("expected either an \"op\" or a \"suite\"");
    common_ = SweepProblem();
    if (entry.has("priority")) common_.priority = entry.number("priority");
    if (!(common_.priority > 0) || !std::isfinite(common_.priority))
      entry.fail("\"priority\" must be a number above 0");
    if (entry.has("budget")) common_.budget = parse_budget(entry.text("budget"));
    if (entry.has("op"))
      read_operator(entry);
    else
      read_suite(entry);
  }

 private:
  void read_operator(const JsonReader& entry) {
    entry.allow({"op", "problem", "each", "priority", "budget"});
    common_.op = entry.text("op");
    const auto problems =
        entry.has("problem") ? combinations_of_each(entry, "problem") : std::vector<Values>(1);
    const auto each =
        entry.has("each") ? combinations_of_each(entry, "each") : std::vector<Values>(1);
    add(problems, each, entry.place());
  }

  void read_suite(const JsonReader& entry) {
    entry.allow({"suite", "with", "ops", "problem", "priority", "budget"});
    const Suite& suite = suites_.find(entry.text("suite"));
    const json none = json::object();
    const json& with = entry.has("with") ? entry.object("with").json() : none;
    const auto extra =
        entry.has("problem") ? combinations_of_each(entry, "problem") : std::vector<Values>(1);
    std::vector<std::string> ops;
    if (entry.has("ops"))
      for (const auto& op : entry.json().at("ops"))
        ops.push_back(op.is_string() ? op.get<std::string>() : op.dump());
    bool any = false;
    for (const auto& layer : suite.layers) {
      if (!ops.empty() && std::find(ops.begin(), ops.end(), layer.op) == ops.end()) continue;
      any = true;
      common_.op = layer.op;
      common_.label =
          fmt::format("{}: {}", suite.name, layer.label.empty() ? layer.op : layer.label);
      add(combinations(substituted(layer.problem, with, suite, entry.place()), entry.place()),
          extra, entry.place());
    }
    if (!any) entry.fail(fmt::format("suite {} has no problem of these \"ops\"", suite.name));
  }

  // Every one of `a` with every one of `b`, whose values go first.
  void add(const std::vector<Values>& a, const std::vector<Values>& b, const std::string& place) {
    for (const Values& one : a)
      for (const Values& other : b) {
        SweepProblem problem = common_;
        problem.problem = other;
        problem.problem.insert(one.begin(), one.end());
        plan_.problems.push_back(std::move(problem));
        if (plan_.problems.size() > most_problems)
          throw Error(ErrorCode::invalid_argument,
                      fmt::format("{}: more than {} problems", place, most_problems));
      }
  }

  const Suites& suites_;
  SweepPlan& plan_;
  SweepProblem common_;
};

}  // namespace

SweepPlan parse_sweep(const json& given, const std::string& origin, Suites suites) {
  const JsonReader reader(given, origin);
  reader.allow({"doc", "budget", "per_problem", "suites", "problems"});
  SweepPlan plan;
  if (reader.has("budget")) {
    const Budget budget = parse_budget(reader.text("budget"));
    if (budget.seconds <= 0)
      reader.fail(
          "\"budget\" is shared by all problems and must be a time, like 30m; a number of "
          "trials goes to \"per_problem\"");
    plan.total_seconds = budget.seconds;
  }
  if (reader.has("per_problem")) plan.per_problem = parse_budget(reader.text("per_problem"));
  if (reader.has("suites"))
    for (const auto& suite : reader.list("suites")) suites.add(suite.json(), suite.place());
  PlanReader entries(suites, plan);
  for (const auto& entry : reader.list("problems")) entries.read(entry);
  std::stable_sort(plan.problems.begin(), plan.problems.end(),
                   [](const auto& a, const auto& b) { return a.priority > b.priority; });
  return plan;
}

}  // namespace cudadent
