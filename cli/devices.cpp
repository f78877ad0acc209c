#include "runtime/devices/devices.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/common.h"
#include "runtime/language/value.h"

namespace cudadent::cli {

namespace {

void run_devices(const CommonOptions& options) {
  const Environment environment = Environment::read();
  std::vector<Device> devices;
  std::vector<std::string> without;
  for (const BackendKind* kind : backend_kinds()) {
    std::string why_none;
    const int count = device_count(*kind, &why_none);
    for (int i = 0; i < count; ++i)
      devices.push_back(open_backend({kind, i}, environment)->device());
    if (!why_none.empty())
      without.push_back(fmt::format("no {} device: {}", kind->title, why_none));
  }

  if (options.json) {
    auto json = nlohmann::json::array();
    for (const auto& device : devices)
      json.push_back({{"backend", device.backend},
                      {"ordinal", device.ordinal},
                      {"name", device.name},
                      {"kind", device.kind()},
                      {"architecture", device.architecture},
                      {"driver", device.driver},
                      {"uuid", device.uuid},
                      {"facts", cudadent::to_json(device.facts())}});
    print_json(json);
    return;
  }
  std::vector<std::vector<std::string>> rows{
      {"device", "name", "architecture", "units", "memory", "last cache", "shared a block"}};
  for (const auto& device : devices)
    rows.push_back({name_of(device).text(), device.name, device.architecture,
                    fmt::format("{} {}", device.sm_count, device.sm > 0 ? "SMs" : "cores"),
                    byte_text(device.memory_bytes), byte_text(device.l2_bytes),
                    device.sm > 0 ? byte_text(device.max_shared_memory) : "–"});
  print_table(rows);
  for (const auto& line : without) fmt::print("{}\n", line);
}

}  // namespace

void add_devices(const Command& program) {
  const auto command = program.subcommand("devices", "list the devices of this machine");
  auto options = std::make_shared<CommonOptions>();
  options->add_to(command);
  command.run([options] { run_devices(*options); });
}

}  // namespace cudadent::cli
