// cudadent-tune: tunes, launches, shows and compiles from the command line.
//
// Exit codes: 0 done, 1 the work failed, 2 wrong usage, 130 interrupted.

#include <fmt/format.h>

#include "cli/common.h"
#include "cli/output.h"

namespace cudadent::cli {

namespace {

// The exit code of the words given; what goes wrong is on standard error.
int run(int argc, char** argv) {
  CommandLine line(
      "cudadent-tune",
      "Finds, by measurement, the fastest configuration of a kernel, and remembers it.", version());
  const Command program = line.program();
  add_devices(program);
  add_ops(program);
  add_tune(program);
  add_run(program);
  add_show(program);
  add_space(program);
  add_report(program);
  add_replay(program);
  add_compile(program);
  add_sweep(program);
  add_interchange(program);
  add_verify(program);
  try {
    return line.run(argc, argv);
  } catch (const Error& error) {
    const bool interrupted = error.code() == ErrorCode::cancelled;
    fmt::print(stderr, "cudadent-tune: {}{}\n", interrupted ? "interrupted: " : "", error.what());
    if (!error.detail().empty()) fmt::print(stderr, "{}\n", error.detail());
    if (interrupted) return 130;
    return error.code() == ErrorCode::invalid_argument ? 2 : 1;
  } catch (const std::exception& error) {
    fmt::print(stderr, "cudadent-tune: {}\n", error.what());
    return 1;
  }
}

}  // namespace

}  // namespace cudadent::cli

int main(int argc, char** argv) {
  const int code = cudadent::cli::run(argc, argv);
  try {
    cudadent::cli::finish_output();
    return code;
  } catch (const cudadent::cli::OutputError& error) {
    fmt::print(stderr, "cudadent-tune: {}\n", error.what());
    return code == 0 ? 1 : code;
  }
}
