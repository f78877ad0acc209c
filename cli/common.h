// What the commands of cudadent-tune share: options, problems from the command line, output.
#pragma once

#include <cudadent/cudadent.h>

#include <chrono>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "api/parts.h"
#include "cli/command_line.h"

namespace cudadent::cli {

struct CommonOptions {
  bool json = false;
  std::string device = "auto";
  std::string database;
  bool no_shipped = false;
  std::vector<std::string> template_paths;

  void add_to(const Command& command);
  [[nodiscard]] RuntimeOptions runtime_options() const;
  [[nodiscard]] TemplateLibrary library() const;
};

// An operator's name followed by name=value words.
struct ProblemWords {
  std::string op;
  std::vector<std::string> words;

  void add_to(const Command& command, bool op_required = true);
  // Throws Error(invalid_argument) for a word without "=", and for a name that is there twice.
  [[nodiscard]] Values values() const;
};

// A command adds itself to the program; its work runs when the command line asked for it.
void add_devices(const Command& program);
void add_ops(const Command& program);
void add_tune(const Command& program);
void add_run(const Command& program);
void add_show(const Command& program);
void add_space(const Command& program);
void add_report(const Command& program);
void add_replay(const Command& program);
void add_compile(const Command& program);
void add_sweep(const Command& program);
void add_interchange(const Command& program);  // export, import, merge, prune
void add_verify(const Command& program);

// Facts for "sm_90a" without such a device, else those of the device named.
Device device_facts(const std::string& name);

// Rows of cells in aligned columns; the first row is the heading.
void print_table(const std::vector<std::vector<std::string>>& rows);
void print_json(const nlohmann::json& json);

std::string duration_text(double seconds);  // "12.3 µs"
std::string byte_text(std::int64_t bytes);  // "1.5 MB"
std::string number_text(double number);     // six digits at most: "20480", "1.25e-07"
// "612.3 TFLOP/s", or the bandwidth for problems without operations; empty when neither is known.
std::string rate_text(double flops, double bytes, double seconds);
// Eight-level bars of how many samples fall in each of `bins` equal log-width bins, fastest left.
std::string sparkline(const std::vector<double>& samples, int bins);

bool is_terminal(int file);  // 1: standard output, 2: standard error

nlohmann::json to_json(const Winner& winner);
nlohmann::json to_json(const Trial& trial);
nlohmann::json to_json(const KernelResources& resources);

}  // namespace cudadent::cli
