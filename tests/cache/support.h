// What the tests of the cache share: a folder that goes away, records, child processes, raw SQL.
#pragma once

#include <cudadent/cudadent.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "cache/sqlite.h"
#include "cache/store.h"
#include "tests/support/child.h"

namespace cudadent::cache_tests {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "cudadent-cache-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::permissions(path_, std::filesystem::perms::owner_all, ignored);
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

inline ProblemRecord gemm_problem() {
  return {.op = "gemm",
          .tuning_key = R"({"k":4096,"m":512,"n":4096})",
          .problem_key = R"({"k":4096,"m":500,"n":4096})",
          .description = "gemm m=500 n=4096 k=4096",
          .device_kind = "a device sm_90a"};
}

inline TrialRecord gemm_trial(std::int64_t number = 0) {
  TrialRecord record;
  record.problem = gemm_problem();
  record.template_hash = "template-1";
  record.compiler = "nvrtc 13.0.88";
  record.measurement = "events 1";
  record.specialization_hash = fmt::format("specialization-{}", number);
  record.resources = {{.entry = "gemm", .registers = 168, .spill_bytes = 0, .shared_bytes = 1024}};
  record.trial.kernel_template = "wgmma";
  record.trial.configuration = {{"BM", std::int64_t{128}}, {"NUMBER", number}};
  record.trial.samples = {1.25e-5, 1.5e-5, 0.1};
  record.trial.median = 1.5e-5;
  record.trial.spread = 0.02;
  record.trial.error = 1e-3;
  record.trial.compile_seconds = 1.5;
  record.trial.figures = {{"binary_bytes", 20480}, {"watts", 612.5}};
  return record;
}

inline WinnerRecord gemm_winner() {
  WinnerRecord record;
  record.problem = gemm_problem();
  record.template_hash = "template-1";
  record.kernel_template = "wgmma";
  record.configuration = {{"BM", std::int64_t{128}}, {"SCALE", 1.0}, {"RASTER", std::string("z")}};
  record.seconds = 1.5e-5;
  record.default_seconds = 2.5e-5;
  record.compiler = "nvrtc 13.0.88";
  record.specialization_hash = "specialization-0";
  record.device_name = "a device";
  record.driver = "580.1";
  record.uuid = "GPU-1";
  return record;
}

inline Binary gemm_binary(const std::string& compiler = "nvrtc 13.0.88") {
  Binary binary;
  binary.specialization_hash = "specialization-0";
  binary.architecture = "sm_90a";
  binary.compiler = compiler;
  for (int i = 0; i < 100'000; ++i) binary.image.push_back(static_cast<std::byte>(i * 7));
  binary.resources = {{.entry = "gemm", .registers = 168}};
  binary.compile_seconds = 1.5;
  binary.log = "a warning";
  return binary;
}

// Runs SQL on a file as sqlite3 would; the answer's first column when it has one.
inline std::string run_sql(const std::filesystem::path& file, const char* sql) {
  if (!std::filesystem::exists(file)) std::ofstream(file).close();
  sqlite::Connection connection(file, sqlite::Connection::Access::read_write,
                                std::chrono::seconds(10));
  return connection.query_text(sql);
}

inline std::string contents(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

// The message of the Error(cache_failed) that `action` raises; empty when it raises none.
template <class Action>
std::string cache_error(const Action& action) {
  try {
    action();
  } catch (const Error& error) {
    if (error.code() == ErrorCode::cache_failed) return error.what();
    return std::string("not cache_failed: ") + error.what();
  }
  return {};
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

using tests::start_child;
using tests::wait_for;

template <class Action>
int run_in_child(const Action& action) {
  return wait_for(start_child(action));
}

// For what permissions forbid: root is not bound by them, so there the child becomes nobody.
template <class Action>
int run_in_unprivileged_child(const TemporaryFolder& folder, const Action& action) {
  constexpr uid_t nobody = 65534;
  if (::geteuid() == 0) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder.path())) {
      if (::chown(entry.path().c_str(), nobody, nobody) != 0) return -1;
    }
    if (::chown(folder.path().c_str(), nobody, nobody) != 0) return -1;
  }
  return run_in_child([&] {
    if (::geteuid() == 0 && ::setuid(nobody) != 0) return false;
    return action();
  });
}

}  // namespace cudadent::cache_tests
