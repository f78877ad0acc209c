#include "cli/common.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "cache/formats/record_json.h"
#include "runtime/language/value.h"

namespace cudadent::cli {

void CommonOptions::add_to(const Command& command) {
  command.flag("--json", json, "print JSON for programs");
  command.option("--device", device, "auto, host, cuda, cuda:N").show_default();
  command.option("--db", database, "the database file (default: the user's cache)");
  command.flag("--no-shipped", no_shipped, "without the winners that ship with cudadent");
  command
      .option("--templates", template_paths,
              "a folder with operators and templates of your own; may be repeated")
      .one_value_at_a_time();  // else the operator after it would be taken for a folder
}

RuntimeOptions CommonOptions::runtime_options() const {
  RuntimeOptions options;
  options.device = device;
  options.cache = database;
  options.shipped_winners = !no_shipped;
  options.template_paths.assign(template_paths.begin(), template_paths.end());
  options.log = [](LogLevel level, std::string_view message) {
    fmt::print(stderr, "{}: {}\n", level == LogLevel::warning ? "warning" : "note", message);
  };
  return options;
}

TemplateLibrary CommonOptions::library() const {
  auto folders = Environment::read().template_paths;
  folders.insert(folders.end(), template_paths.begin(), template_paths.end());
  return TemplateLibrary(folders);
}

void ProblemWords::add_to(const Command& command, bool op_required) {
  const auto name = command.option("op", op, "the operator: gemm, rms_norm, …");
  if (op_required) name.required();
  command.option("problem", words,
                 "name=value words: dimensions, data types, options (m=4096 dtype=bf16)");
}

Values ProblemWords::values() const {
  Values values;
  for (const auto& word : words) {
    const auto equals = word.find('=');
    if (equals == 0 || equals == std::string::npos)
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("\"{}\" is not name=value, like m=4096 or dtype=bf16", word));
    if (!values
             .emplace(word.substr(0, equals),
                      parse_value(std::string_view(word).substr(equals + 1)))
             .second)
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("{} is given twice", word.substr(0, equals)));
  }
  return values;
}

Device device_facts(const std::string& name) {
  if (auto device = nominal_cuda_device(name)) return *device;
  return open_device(name, Environment::read())->device();
}

namespace {

// Columns a terminal needs for UTF-8 text, all of whose characters are one column wide here.
std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

}  // namespace

void print_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (widths.size() <= i) widths.push_back(0);
      widths[i] = std::max(widths[i], width_of(row[i]));
    }
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += row[i];
      if (i + 1 < row.size()) line += std::string(widths[i] - width_of(row[i]) + 2, ' ');
    }
    fmt::print("{}\n", line);
  }
}

void print_json(const nlohmann::json& json) { fmt::print("{}\n", json.dump(2)); }

std::string duration_text(double seconds) {
  if (seconds <= 0) return "–";
  if (seconds < 1e-3) return fmt::format("{:.2f} µs", seconds * 1e6);
  if (seconds < 1) return fmt::format("{:.3f} ms", seconds * 1e3);
  return fmt::format("{:.2f} s", seconds);
}

std::string byte_text(std::int64_t bytes) {
  if (bytes < 10000) return fmt::format("{} B", bytes);
  if (bytes < 10000000) return fmt::format("{:.1f} kB", static_cast<double>(bytes) / 1e3);
  if (bytes < 10000000000) return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6);
  return fmt::format("{:.1f} GB", static_cast<double>(bytes) / 1e9);
}

std::string rate_text(double flops, double bytes, double seconds) {
  if (seconds <= 0) return "";
  if (flops > 0) {
    const double rate = flops / seconds;
    return rate < 1e12 ? fmt::format("{:.1f} GFLOP/s", rate / 1e9)
                       : fmt::format("{:.1f} TFLOP/s", rate / 1e12);
  }
  if (bytes > 0) {
    const double rate = bytes / seconds;
    return rate < 1e12 ? fmt::format("{:.1f} GB/s", rate / 1e9)
                       : fmt::format("{:.2f} TB/s", rate / 1e12);
  }
  return "";
}

std::string sparkline(const std::vector<double>& samples, int bins) {
  if (samples.empty()) return "";
  const auto [low, high] = std::minmax_element(samples.begin(), samples.end());
  const double width = std::log(*high / *low) / bins;
  std::vector<int> counts(static_cast<std::size_t>(bins), 0);
  for (const double sample : samples) {
    const double position = width > 0 ? std::log(sample / *low) / width : 0;
    ++counts[std::min(static_cast<std::size_t>(position), counts.size() - 1)];
  }
  static constexpr std::array<const char*, 9> bars{" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  const int most = *std::max_element(counts.begin(), counts.end());
  std::string line;
  for (const int count : counts)
    line += bars[static_cast<std::size_t>((count * 8 + most - 1) / most)];  // any is at least ▁
  return line;
}

bool is_terminal(int file) { return ::isatty(file) == 1; }

nlohmann::json to_json(const Winner& winner) {
  auto json = nlohmann::json::object();
  add_members(json, winner, NotFinite::null);
  return json;
}

nlohmann::json to_json(const Trial& trial) {
  auto json = nlohmann::json::object();
  add_members(json, trial, NotFinite::null);
  if (trial.message.empty()) json.erase("message");
  if (trial.figures.empty()) json.erase("figures");
  return json;
}

nlohmann::json to_json(const KernelResources& resources) {
  auto json = nlohmann::json::object();
  add_members(json, resources, NotFinite::null);
  return json;
}

std::string number_text(double number) { return fmt::format("{:.6g}", number); }

}  // namespace cudadent::cli
