// cudadent-tune: tunes, launches, shows and compiles from the command line.
//
// Exit codes: 0 done, 1 the work failed, 2 wrong usage, 130 interrupted.

#include <fmt/format.h>

#include "tuner/cli/common.h"

int main(int argc, char** argv) {
  using namespace cudadent;
  CLI::App program(
      "Finds, by measurement, the fastest configuration of a kernel, and remembers it.",
      "cudadent-tune");
  program.set_version_flag("--version", std::string(version()));
  program.require_subcommand(1);
  cli::add_devices(program);
  cli::add_ops(program);
  cli::add_tune(program);
  cli::add_run(program);
  cli::add_show(program);
  cli::add_space(program);
  cli::add_report(program);
  cli::add_replay(program);
  cli::add_compile(program);
  cli::add_sweep(program);
  cli::add_interchange(program);
  cli::add_verify(program);
  try {
    program.parse(argc, argv);
    return 0;
  } catch (const CLI::RuntimeError& error) {
    return error.get_exit_code();  // all that there is to say has been said
  } catch (const CLI::ParseError& error) {
    return program.exit(error) == 0 ? 0 : 2;
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
