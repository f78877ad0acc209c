// What a sweep looks like: to a person at a terminal, in a log, to a program.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "tuner/sweep/sweep.h"

namespace cudadent::cli {

class SweepView {
 public:
  enum class Style : std::uint8_t {
    live,   // a line for each device, drawn again and again, below those of the problems done
    lines,  // a line for each problem
    json,   // a JSON object a line, for each problem and each trial; a trial told of is stored
  };
  SweepView(Style style, const std::vector<SweepJob>& jobs, double total_seconds, int devices);

  void begin();
  void start(const SweepJob& job);
  void progress(const SweepJob& job, const Trial* trial);
  void end(const SweepJob& job);
  void finish();

 private:
  [[nodiscard]] std::string summary() const;
  [[nodiscard]] std::string time_left() const;
  [[nodiscard]] std::string status_line(const SweepJob& job) const;
  [[nodiscard]] std::string result_line(const SweepJob& job) const;
  [[nodiscard]] double elapsed() const;
  void clear();
  void draw();

  const Style style_;
  const std::vector<SweepJob>& jobs_;
  const double total_seconds_;
  const int devices_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point drawn_at_{};
  int drawn_lines_ = 0;
};

// A table of the jobs and what would become of them.
void print_plan(const std::vector<SweepJob>& jobs, const SweepOptions& options);
nlohmann::json plan_json(const std::vector<SweepJob>& jobs);

}  // namespace cudadent::cli
