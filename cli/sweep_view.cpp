#include "cli/sweep_view.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "cli/common.h"
#include "runtime/language/value.h"

namespace cudadent::cli {

namespace {

constexpr auto redraw_every = std::chrono::milliseconds(100);

// "1:02:03" or "2:03".
std::string clock_text(double seconds) {
  const auto whole = static_cast<std::int64_t>(std::llround(std::max(seconds, 0.0)));
  if (whole >= 3600)
    return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

std::size_t terminal_width() {
  winsize size{};
  return ::ioctl(1, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

// The first columns of a text in UTF-8, all of whose characters are one column wide here.
std::string fitted(const std::string& text, std::size_t columns) {
  std::size_t used = 0, end = 0;
  while (end < text.size()) {
    const bool starts_character = (static_cast<unsigned char>(text[end]) & 0xC0) != 0x80;
    if (starts_character && used++ == columns) break;
    ++end;
  }
  return text.substr(0, end);
}

void print_line(const nlohmann::json& json) {
  fmt::print("{}\n", json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  std::fflush(stdout);
}

nlohmann::json job_json(const SweepJob& job) {
  nlohmann::json json{{"number", job.number + 1},        {"op", job.given.op},
                      {"problem", job.description},      {"device_kind", job.device_kind},
                      {"priority", job.given.priority},  {"state", name_of(job.state)},
                      {"known_trials", job.known_trials}};
  if (!job.given.label.empty()) json["label"] = job.given.label;
  if (!job.device.empty()) json["device"] = job.device;
  if (job.same_as) json["same_as"] = *job.same_as + 1;
  if (job.winner) json["winner"] = to_json(*job.winner);
  if (!job.error.empty()) json["error"] = job.error;
  if (job.state != SweepState::pending && job.state != SweepState::known) {
    json["elapsed"] = job.elapsed;
    json["new_trials"] = job.new_trials;
  }
  if (job.state == SweepState::tuned) {
    json["stopped_by"] = job.stopped_by;
    json["default_seconds"] = job.default_seconds;
  }
  return json;
}

nlohmann::json event(const char* name, nlohmann::json json) {
  json["event"] = name;
  return json;
}

std::int64_t count(const std::vector<SweepJob>& jobs, SweepState state) {
  return std::count_if(jobs.begin(), jobs.end(),
                       [&](const SweepJob& job) { return job.state == state; });
}

std::string winner_text(const SweepJob& job) {
  if (!job.winner) return "";
  const std::string rate = rate_text(job.flops, job.bytes, job.winner->seconds);
  return fmt::format("{}{}{}, {} {}", duration_text(job.winner->seconds), rate.empty() ? "" : ", ",
                     rate, job.winner->kernel_template, to_text(job.winner->configuration));
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

}  // namespace

SweepView::SweepView(Style style, const std::vector<SweepJob>& jobs, double total_seconds,
                     int devices)
    : style_(style), jobs_(jobs), total_seconds_(total_seconds), devices_(devices) {}

double SweepView::elapsed() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

std::string SweepView::summary() const {
  std::vector<std::string> parts;
  for (const SweepState state : {SweepState::tuned, SweepState::known, SweepState::elsewhere,
                                 SweepState::failed, SweepState::interrupted, SweepState::pending})
    if (const auto n = count(jobs_, state))
      parts.push_back(fmt::format(
          "{} {}", n, state == SweepState::pending ? "not begun" : std::string(name_of(state))));
  return fmt::format("{} problems: {}", jobs_.size(), fmt::join(parts, ", "));
}

// By the shared budget, else by what a problem took so far.
std::string SweepView::time_left() const {
  if (total_seconds_ > 0) return clock_text(total_seconds_ - elapsed()) + " left";
  double seconds = 0;
  std::int64_t done = 0;
  for (const auto& job : jobs_)
    if (job.state == SweepState::tuned) {
      seconds += job.elapsed;
      ++done;
    }
  if (done == 0) return "";
  const auto left = static_cast<double>(count(jobs_, SweepState::pending)) + 0.5;
  return fmt::format("about {} left",
                     clock_text(seconds / static_cast<double>(done) * left / devices_));
}

std::string SweepView::status_line(const SweepJob& job) const {
  std::string line = fmt::format("[{}/{}] {}  {} {} tried", job.number + 1, jobs_.size(),
                                 job.description, clock_text(job.elapsed), job.progress.measured);
  if (job.progress.failed > 0) line += fmt::format(", {} failed", job.progress.failed);
  if (job.progress.best > 0) {
    line += fmt::format(", best {}", duration_text(job.progress.best));
    if (const auto rate = rate_text(job.flops, job.bytes, job.progress.best); !rate.empty())
      line += ", " + rate;
  }
  if (devices_ > 1) line += "  " + job.device;
  return line;
}

std::string SweepView::result_line(const SweepJob& job) const {
  std::string line = fmt::format("[{}/{}] {}: ", job.number + 1, jobs_.size(), job.description);
  switch (job.state) {
    case SweepState::tuned:
      line += winner_text(job);
      if (job.default_seconds > 0)
        line += fmt::format(", {:.2f}× default", job.default_seconds / job.winner->seconds);
      return line + fmt::format("; {} new trials in {} on {}", job.new_trials,
                                clock_text(job.elapsed), job.device);
    case SweepState::known:
      return line + (job.same_as ? fmt::format("shares the winner of [{}]", *job.same_as + 1)
                                 : "known: " + winner_text(job));
    case SweepState::elsewhere:
      return line + (job.winner ? "tuned by another process: " + winner_text(job)
                                : "left to others: " + job.error);
    case SweepState::failed:
      return line + "failed: " + first_line(job.error);
    case SweepState::interrupted:
      return line + fmt::format("interrupted after {} new trials", job.new_trials);
    case SweepState::pending:
    case SweepState::running:
      break;
  }
  return line + std::string(name_of(job.state));
}

void SweepView::clear() {
  if (drawn_lines_ > 0) fmt::print("\x1b[{}A", drawn_lines_);  // up
  fmt::print("\r\x1b[J");                                      // and clear all below
  drawn_lines_ = 0;
}

void SweepView::draw() {
  clear();
  const std::size_t width = terminal_width() - 1;
  for (const auto& job : jobs_) {
    if (job.state != SweepState::running) continue;
    fmt::print("{}\n", fitted(status_line(job), width));
    ++drawn_lines_;
  }
  const auto done = static_cast<std::int64_t>(jobs_.size()) - count(jobs_, SweepState::pending) -
                    count(jobs_, SweepState::running);
  fmt::print("{}\n", fitted(fmt::format("{}/{} done, {} {}", done, jobs_.size(),
                                        clock_text(elapsed()), time_left()),
                            width));
  ++drawn_lines_;
  std::fflush(stdout);
  drawn_at_ = std::chrono::steady_clock::now();
}

void SweepView::begin() {
  if (style_ == Style::json)
    print_line({{"event", "sweep"},
                {"problems", jobs_.size()},
                {"known", count(jobs_, SweepState::known)},
                {"failed", count(jobs_, SweepState::failed)},
                {"devices", devices_}});
  for (const auto& job : jobs_)
    if (job.state != SweepState::pending) end(job);
  if (style_ == Style::live) draw();
}

void SweepView::start(const SweepJob& job) {
  if (style_ == Style::json) print_line(event("start", job_json(job)));
  if (style_ == Style::live) draw();
}

void SweepView::progress(const SweepJob& job, const Trial* trial) {
  if (style_ == Style::json && trial != nullptr)
    print_line({{"event", "trial"},
                {"number", job.number + 1},
                {"template", trial->kernel_template},
                {"configuration", cudadent::to_json(trial->configuration)},
                {"status", name_of(trial->status)},
                {"median", trial->median},
                {"best", job.progress.best}});
  if (style_ == Style::live && std::chrono::steady_clock::now() - drawn_at_ > redraw_every) draw();
}

void SweepView::end(const SweepJob& job) {
  if (style_ == Style::json) {
    print_line(event("end", job_json(job)));
    return;
  }
  if (style_ == Style::live) clear();
  fmt::print("{}\n", result_line(job));
  std::fflush(stdout);
  if (style_ == Style::live) draw();
}

void SweepView::finish() {
  if (style_ == Style::json) {
    nlohmann::json json{{"event", "finished"}, {"elapsed", elapsed()}};
    for (const SweepState state :
         {SweepState::tuned, SweepState::known, SweepState::elsewhere, SweepState::failed,
          SweepState::interrupted, SweepState::pending})
      json[std::string(name_of(state))] = count(jobs_, state);
    print_line(json);
    return;
  }
  if (style_ == Style::live) clear();
  fmt::print("{} in {}\n", summary(), clock_text(elapsed()));
}

void print_plan(const std::vector<SweepJob>& jobs, const SweepOptions& options) {
  std::vector<std::vector<std::string>> rows{{"", "problem", "priority", "device", "state", "of"}};
  double seconds = 0;
  for (const auto& job : jobs) {
    std::string state;
    if (job.same_as)
      state = fmt::format("shares the winner of {}", *job.same_as + 1);
    else if (job.state == SweepState::known)
      state = "known, " + duration_text(job.winner->seconds);
    else if (job.state == SweepState::failed)
      state = "cannot be tuned: " + first_line(job.error);
    else
      state =
          job.known_trials > 0 ? fmt::format("to do, {} trials known", job.known_trials) : "to do";
    if (job.state == SweepState::pending)
      seconds += job.given.budget.value_or(options.per_problem).seconds;
    rows.push_back({std::to_string(job.number + 1), job.description,
                    fmt::format("{}", job.given.priority), job.device_kind, state,
                    job.given.label});
  }
  print_table(rows);
  fmt::print("{} problems, {} to do", jobs.size(), count(jobs, SweepState::pending));
  if (options.total_seconds > 0)
    fmt::print(", {} in all", clock_text(options.total_seconds));
  else if (seconds > 0)
    fmt::print(", {} of measuring at most", clock_text(seconds));
  fmt::print("\n");
}

nlohmann::json plan_json(const std::vector<SweepJob>& jobs) {
  auto json = nlohmann::json::array();
  for (const auto& job : jobs) json.push_back(job_json(job));
  return json;
}

}  // namespace cudadent::cli
