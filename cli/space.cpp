#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/common.h"
#include "runtime/language/value.h"
#include "tuner/t1_file.h"
#include "tuner/tuner.h"

namespace cudadent::cli {

namespace {

struct SpaceCommand {
  CommonOptions common;
  ProblemWords problem;
  std::vector<std::string> only;
  bool count = false;
  std::uint64_t limit = 50;
};

// A whole number, as long as it is exact.
nlohmann::json count_json(double count) {
  return count <= 0x1p53 ? nlohmann::json(static_cast<std::int64_t>(count)) : nlohmann::json(count);
}

// A space that a T1 file describes: no templates, no problem, no device.
void run_file(const SpaceCommand& command) {
  const TuningSpace space(read_t1(command.problem.op));
  const std::uint64_t shown = command.count ? 0 : std::min(space.size(), command.limit);
  if (command.common.json) {
    nlohmann::json json{{"file", command.problem.op},
                        {"parameters", space.parameters().size()},
                        {"valid", space.size()},
                        {"raw", count_json(space.raw_size())}};
    for (std::uint64_t i = 0; i < shown; ++i)
      json["configurations"].push_back(cudadent::to_json(space.configuration(i)));
    print_json(json);
    return;
  }
  fmt::print("{}: {} configurations of {} parameters; {:.10g} without the conditions\n",
             command.problem.op, space.size(), space.parameters().size(), space.raw_size());
  for (std::uint64_t i = 0; i < shown; ++i) fmt::print("{}\n", to_text(space.configuration(i)));
  if (!command.count && shown < space.size())
    fmt::print("… {} more (--limit)\n", space.size() - shown);
}

void run_space(const SpaceCommand& command) {
  if (command.problem.op.ends_with(".json")) return run_file(command);
  TemplateLibrary library = command.common.library();
  const Device device = device_facts(command.common.device);
  const auto entry = library.find(command.problem.op);
  const Problem problem = make_problem(entry->manifest, command.problem.values());
  const SearchSpace space = search_space(*entry, problem, device, command.only);

  auto json = nlohmann::json::array();
  std::vector<std::vector<std::string>> rows{{"template", "valid", "raw"}};
  for (const auto& member : space.members()) {
    rows.push_back({member.kernel_template->name, std::to_string(member.space.size()),
                    fmt::format("{:.10g}", member.space.raw_size())});
    nlohmann::json part{{"template", member.kernel_template->name},
                        {"valid", member.space.size()},
                        {"raw", count_json(member.space.raw_size())}};
    if (!command.count)
      for (std::uint64_t i = 0; i < std::min(member.space.size(), command.limit); ++i)
        part["configurations"].push_back(cudadent::to_json(member.space.configuration(i)));
    json.push_back(std::move(part));
  }
  if (command.common.json) {
    print_json(json);
    return;
  }
  fmt::print("{} on {}: {} configurations\n", problem.describe(), device.name, space.size());
  print_table(rows);
  if (command.count) return;
  for (const auto& member : space.members()) {
    const std::uint64_t shown = std::min(member.space.size(), command.limit);
    for (std::uint64_t i = 0; i < shown; ++i)
      fmt::print("{} {}\n", member.kernel_template->name, to_text(member.space.configuration(i)));
    if (shown < member.space.size())
      fmt::print("… {} more of {} (--limit)\n", member.space.size() - shown,
                 member.kernel_template->name);
  }
}

}  // namespace

void add_space(const Command& program) {
  const auto command =
      program.subcommand("space",
                         "list the configurations valid for a problem, or those of "
                         "a T1 file (a name ending in .json)");
  auto state = std::make_shared<SpaceCommand>();
  state->common.add_to(command);
  state->problem.add_to(command);
  command.describe(
      "--device",
      "auto, host, cuda, cuda:N, or an architecture such as sm_90a, which needs no device");
  command.option("--template", state->only, "only this template; may be repeated")
      .one_value_at_a_time();
  command.flag("--count", state->count, "only how many there are");
  command.option("--limit", state->limit, "configurations listed a template").show_default();
  command.run([state] { run_space(*state); });
}

}  // namespace cudadent::cli
