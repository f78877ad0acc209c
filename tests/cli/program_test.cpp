// The real program, end to end, in processes of its own.
#include <doctest/doctest.h>

#ifdef CUDADENT_TUNE_PROGRAM

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/support/child.h"
#include "tests/support/errors.h"
#include "tests/support/twice.h"

namespace cudadent {
namespace {

using namespace tests;
using nlohmann::json;

std::string read(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

struct Outcome {
  int code = -1;
  std::string out, err;
  [[nodiscard]] json parsed() const { return json::parse(out); }
};

// What `run` is given: a folder with the tiny operator, and a cache of its own.
struct Program {
  Folder folder;
  std::vector<std::string> environment{"PATH=" + std::string(std::getenv("PATH")),
                                       "HOME=/nonexistent", "CUDADENT_HOST_THREADS=1"};
  // Where what is printed goes in the place of Outcome::out; empty: there.
  std::string standard_output;

  Program() {
    write_twice(folder);
    // Two that work and one that does not: fewer to compile.
    folder.write("twice/kinds.json",
                 replaced(kinds_template, "\"let\"",
                          "\"constraints\": [\"KIND in ('slow', 'fast', 'wrong')\"], \"let\""));
  }

  [[nodiscard]] Outcome run(std::vector<std::string> words) const {
    return outcome_of(start(std::move(words)));
  }

  [[nodiscard]] Outcome outcome_of(pid_t child) const {
    int status = 0;
    ::waitpid(child, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1,
            standard_output.empty() ? read(folder / "stdout") : "", read(folder / "stderr")};
  }

  // Its output is in the folder.
  [[nodiscard]] pid_t start(std::vector<std::string> words) const {
    words.insert(words.begin(), CUDADENT_TUNE_PROGRAM);
    std::vector<char*> arguments, variables;
    for (auto& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    auto copies = environment;
    for (auto& variable : copies) variables.push_back(variable.data());
    variables.push_back(nullptr);
    const std::string out =
        standard_output.empty() ? (folder / "stdout").string() : standard_output;
    const std::string err = folder / "stderr";
    // Another user's, of whom a test made a child, cannot be written to.
    for (const char* name : {"stdout", "stderr"}) std::filesystem::remove(folder / name);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_addopen(&actions, 2, err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    pid_t child = 0;
    REQUIRE(::posix_spawn(&child, CUDADENT_TUNE_PROGRAM, &actions, nullptr, arguments.data(),
                          variables.data()) == 0);
    posix_spawn_file_actions_destroy(&actions);
    return child;
  }

  // A command about the tiny operator on the host.
  [[nodiscard]] Outcome twice(const std::string& command,
                              std::vector<std::string> more = {}) const {
    return run(words_about_twice(command, std::move(more)));
  }
  [[nodiscard]] std::vector<std::string> words_about_twice(const std::string& command,
                                                           std::vector<std::string> more) const {
    std::vector<std::string> words{command,
                                   "--device",
                                   "host",
                                   "--db",
                                   (folder / "cache.db").string(),
                                   "--templates",
                                   folder.path().string()};
    if (command != "show" && command != "ops")
      words.insert(words.end(), {"twice", "dtype=f32", "n=1000"});
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
};

// Within `seconds`, which are plenty.
bool eventually(double seconds, const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return true;
}

bool refuses(const Outcome& outcome, int code, std::initializer_list<std::string_view> parts) {
  if (outcome.code != code) MESSAGE("exit code ", outcome.code, ": ", outcome.err);
  return outcome.code == code && outcome.out.empty() && mentions(outcome.err, parts);
}

TEST_CASE("help, versions and usage") {
  const Program program;
  CHECK(program.run({"--version"}).out == std::string(CUDADENT_VERSION) + "\n");
  const Outcome help = program.run({"--help"});
  CHECK(help.code == 0);
  CHECK(mentions(help.out, {"devices", "tune", "run", "show", "space", "compile"}));
  CHECK(program.run({}).code == 2);
  CHECK(program.run({"dance"}).code == 2);
  CHECK(program.run({"tune"}).code == 2);
  CHECK(program.run({"tune", "--colour", "red", "twice"}).code == 2);
  CHECK(program.twice("run", {"--on-miss", "ignore"}).code == 2);
}

TEST_CASE("devices") {
  const Program program;
  const auto devices = program.run({"devices", "--json"}).parsed();
  REQUIRE(!devices.empty());
  CHECK(devices.back().at("backend") == "host");
  CHECK(devices.back().at("facts").at("device.cores") == 1);
  const Outcome plain = program.run({"devices"});
  CHECK(plain.code == 0);
  CHECK(mentions(plain.out, {"device", "host"}));
}

TEST_CASE("operators") {
  const Program program;
  const auto ops = program.twice("ops", {"--json"}).parsed();
  const auto twice =
      std::find_if(ops.begin(), ops.end(), [](const auto& op) { return op.at("op") == "twice"; });
  REQUIRE(twice != ops.end());
  CHECK(twice->at("doc") == "y = 2x");
  CHECK(twice->at("dimensions") == json{"n"});
  CHECK(twice->at("templates").size() == 2);
  CHECK(mentions(program.twice("ops").out, {"gemm", "twice", "kinds", "KIND(7)"}));
}

TEST_CASE("spaces") {
  const Program program;
  const auto space = program.twice("space", {"--json"}).parsed();
  REQUIRE(space.size() == 1);
  CHECK(space[0].at("template") == "kinds");
  CHECK(space[0].at("valid") == 3);
  CHECK(space[0].at("raw") == 7);
  CHECK(space[0].at("configurations").size() == 3);
  CHECK(!program.twice("space", {"--json", "--count"}).parsed()[0].contains("configurations"));
  CHECK(mentions(program.twice("space", {"--limit", "1"}).out,
                 {"twice n=1000 dtype=f32", "3 configurations", "kinds KIND=slow", "2 more"}));
  // Another architecture needs no such device.
  CHECK(program
            .run({"space", "gemm", "m=64", "n=64", "k=64", "dtype=bf16", "--device", "sm_90a",
                  "--count", "--json"})
            .code == 0);
}

TEST_CASE("a T1 file is counted and listed") {
  const Program program;
  const auto file = program.folder.write("space.json", R"json({"ConfigurationSpace": {
      "TuningParameters": [{"Name": "X", "Values": "[2**i for i in range(5)]"},
                           {"Name": "Y", "Values": "list(range(1, 4))"}],
      "Conditions": [{"Expression": "X * Y <= 16"}]}})json");
  const Outcome counted = program.run({"space", file.string(), "--count", "--json"});
  REQUIRE(counted.code == 0);
  CHECK(counted.parsed()["valid"] == 12);
  CHECK(counted.parsed()["raw"] == 15);
  const Outcome listed = program.run({"space", file.string(), "--limit", "2"});
  CHECK(listed.code == 0);
  CHECK(mentions(listed.out, {"12 configurations of 2 parameters", "X=", "Y=", "10 more"}));
  program.folder.write("space.json", "{}");
  CHECK(refuses(program.run({"space", file.string()}), 2, {"space.json", "ConfigurationSpace"}));
}

TEST_CASE("strategies are compared on a recorded space") {
  const Program program;
  std::string text = R"({"results": [)";
  for (int i = 0; i < 40; ++i) {
    text += (i == 0 ? "" : ",") + std::string(R"({"configuration": {"X": )") + std::to_string(i) +
            R"(}, "invalidity": "correct", "measurements": [{"name": "time", "value": )" +
            std::to_string(1 + (i - 17) * (i - 17)) + "}]}";
  }
  const auto file = program.folder.write("parabola.t4.json", text + "]}").string();
  const Outcome table = program.run(
      {"replay", file, "--strategy", "random,auto", "--budget", "5,20", "--repeat", "6"});
  CHECK(table.code == 0);
  CHECK(table.err.empty());
  CHECK(mentions(table.out, {"parabola", "40 configurations", "at 5", "at 20", "random", "auto"}));
  const auto curves =
      program
          .run({"replay", file, "--strategy", "all", "--budget", "40", "--repeat", "2", "--json"})
          .parsed();
  CHECK(curves["spaces"][0]["curves"].size() >= 8);
  for (const auto& curve : curves["spaces"][0]["curves"]) CHECK(curve["mean"].back() == 1.0);
  CHECK(refuses(program.run({"replay", file, "--strategy", "magic"}), 2, {"magic", "auto"}));
  CHECK(refuses(program.run({"replay", program.folder.write("x.json", "{").string()}), 2,
                {"x.json", "not JSON"}));
}

TEST_CASE("compiling") {
  const Program program;
  const Outcome source =
      program.twice("compile", {"--template", "kinds", "--set", "KIND=fast", "--dump-source"});
  CHECK(source.code == 0);
  CHECK(mentions(source.out,
                 {"struct Block", "constexpr KIND_kind KIND = KIND_kind::fast;", "void twice"}));
  const auto image = (program.folder / "twice.so").string();
  const auto compiled =
      program.twice("compile", {"--template", "kinds", "--json", "--output", image}).parsed();
  REQUIRE(compiled.size() == 1);
  CHECK(compiled[0].at("configuration").at("KIND") == "slow");
  CHECK(compiled[0].at("launches")[0].at("entry") == "twice");
  CHECK(std::filesystem::file_size(image) == compiled[0].at("bytes"));
}

TEST_CASE("what is tuned is launched by the next process, without a compiler") {
  Program program;
  const Outcome tuned = program.twice("tune", {"--json", "--budget", "3"});
  REQUIRE(tuned.code == 0);
  CHECK(tuned.err.empty());  // no progress line for who is not a terminal
  const auto result = tuned.parsed();
  CHECK(result.at("problem") == "twice n=1000 dtype=f32");
  CHECK(result.at("candidates") == 3);
  CHECK(result.at("trials").size() == 3);
  CHECK(result.at("winner").at("provenance") == "tuned");
  CHECK(result.at("winner").at("configuration").at("KIND") != "wrong");
  CHECK(result.at("error") == 0);

  program.environment = {"PATH=/nonexistent", "CUDADENT_HOST_COMPILER=/nonexistent",
                         "CUDADENT_HOST_THREADS=1", "HOME=/nonexistent"};
  const Outcome run = program.twice("run", {"--json", "--on-miss", "fail"});
  INFO(run.err);
  REQUIRE(run.code == 0);
  const auto launched = run.parsed();
  CHECK(launched.at("winner").at("provenance") == "cached");
  CHECK(launched.at("winner").at("configuration") == result.at("winner").at("configuration"));
  CHECK(launched.at("nvrtc_loaded") == false);
  CHECK(launched.at("correct") == true);
  CHECK(mentions(program.twice("run").out, {"cached", "NVRTC", "not loaded", "verified"}));

  const auto shown = program.twice("show", {"--json", "--trials", "twice"}).parsed();
  REQUIRE(shown.size() == 1);
  CHECK(shown[0].at("template") == "kinds");
  CHECK(shown[0].at("trials").size() == 3);
  CHECK(program.twice("show", {"--json", "twice", "n=7"}).parsed().empty());
  CHECK(mentions(program.twice("show").out, {"1 winners, 3 trials", "twice n=1000"}));

  // Nothing is measured again, and what there is suffices to say so: but tuning wants its compiler.
  CHECK(refuses(program.twice("tune"), 1, {"/nonexistent", "CUDADENT_HOST_COMPILER"}));
  program.environment.erase(program.environment.begin() + 1);
  CHECK(refuses(program.twice("tune"), 1, {"no C++ compiler", "CUDADENT_HOST_COMPILER"}));
}

TEST_CASE("figures of an observer are measured, shown, exported and imported, and can decide") {
  Program program;
  const Outcome tuned = program.twice(
      "tune", {"--json", "--observe", "binary", "--objective", "binary_bytes", "--budget", "3"});
  INFO(tuned.err);
  REQUIRE(tuned.code == 0);
  const auto result = tuned.parsed();
  CHECK(result.at("objective") == "binary_bytes");
  double least = 1e9;
  for (const auto& trial : result.at("trials"))
    if (trial.at("status") == "ok")
      least = std::min(least, trial.at("figures").at("binary_bytes").get<double>());
  for (const auto& trial : result.at("trials"))
    if (trial.at("configuration") == result.at("winner").at("configuration"))
      CHECK(trial.at("figures").at("binary_bytes") == least);
  CHECK(mentions(program.twice("tune", {"--observe", "binary", "--objective", "binary_bytes"}).out,
                 {"figures", "binary_bytes", "the least of all"}));

  CHECK(mentions(program.twice("show", {"--trials", "twice"}).out,
                 {"least binary_bytes", "spills", "binary_bytes", "template"}));
  const auto shown = program.twice("show", {"--json", "--trials", "twice"}).parsed();
  CHECK(shown.at(0).at("objective") == "binary_bytes");
  CHECK(shown.at(0).at("trials").dump().find("binary_bytes") != std::string::npos);
  const auto page = (program.folder / "page.html").string();
  CHECK(program.twice("report", {"--html", page}).code == 0);
  CHECK(read(page).find("binary_bytes") != std::string::npos);

  for (const std::string format : {"json", "t4", "kernel_tuner"}) {
    INFO(format);
    const auto file = (program.folder / ("export." + format + ".json")).string();
    const Outcome exported =
        program.twice("export", {"--format", format, "--trials", "--output", file});
    INFO(exported.err);
    CHECK(exported.code == 0);
    const auto other = (program.folder / (format + ".db")).string();
    const Outcome imported = program.run({"import", "--db", other, file});
    INFO(imported.err);
    CHECK(imported.code == 0);
    const Outcome again = program.run({"export", "--db", other, "--trials"});
    CHECK(again.out.find("binary_bytes") != std::string::npos);
  }
  CHECK(refuses(program.twice("tune", {"--observe", "power"}), 2, {"'power'", "binary"}));
  CHECK(refuses(program.twice("tune", {"--objective", "joules", "--fresh"}), 2,
                {"objective 'joules'", "seconds"}));
}

TEST_CASE(
    "the interrupt key ends a run that would take an hour, with the best so far and code 130") {
  Program program;
  const auto marker = program.folder / "marker";
  std::vector<std::string> more{"--budget",          "3600s", "--run-timeout", "3600",
                                "--compile-timeout", "3600"};
  SUBCASE("while a candidate runs") {
    program.folder.write(
        "twice/kinds.cpp",
        fmt::format(
            "extern \"C\" int creat(const char*, unsigned);\n"
            "extern \"C\" unsigned sleep(unsigned);\n"
            "{}\n",
            replaced(kinds_source,
                     "void twice(const Block&, const dtype* x, dtype* y, int n, int, int) {",
                     fmt::format(
                         "void twice(const Block&, const dtype* x, dtype* y, int n, int, int) {{\n"
                         "  if (KIND == KIND_kind::fast) {{ creat(\"{}\", 0600); sleep(3600); }}\n",
                         marker.string()))));
  }
  SUBCASE("while one is compiled") {
    const auto script = program.folder.write(
        "compiler",
        fmt::format("#!/bin/sh\n"
                    "for word; do case $word in *.cpp) source=$word;; esac; done\n"
                    "if [ -n \"$source\" ] && grep -q 'KIND = KIND_kind::fast' \"$source\"; then\n"
                    "  : > {}; exec sleep 3600\nfi\nexec g++ \"$@\"\n",
                    marker.string()));
    std::filesystem::permissions(script, std::filesystem::perms::owner_all);
    program.environment.push_back("CUDADENT_HOST_COMPILER=" + script.string());
    more.insert(more.end(), {"--compile-workers", "1"});
  }
  const pid_t child = program.start(program.words_about_twice("tune", more));
  const bool there = eventually(120, [&] { return std::filesystem::exists(marker); });
  CHECK(there);
  ::kill(child, SIGINT);
  siginfo_t info{};
  if (!eventually(60, [&] {
        return ::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
               info.si_pid == child;
      })) {
    ::kill(child, SIGKILL);
    FAIL("it goes on");
  }
  const Outcome outcome = program.outcome_of(child);
  INFO(outcome.err);
  CHECK(outcome.code == 130);
  CHECK(mentions(outcome.err, {"interrupted"}));
  if (!outcome.out.empty())
    CHECK(mentions(outcome.out, {"best", "KIND=slow", "stopped by cancelled"}));
}

TEST_CASE("files of other tuners are imported as they are replayed: as far as they are whole") {
  const Program program;
  const auto file =
      program.folder
          .write("cut.json", R"({"kernel_name": "k", "tune_params_keys": ["A"], "cache": {
    "1": {"A": 1, "time": 2.0}, "2": {"A": 2, "time": -1}, "3": {"A": 3, "time": 1.0}, "4": {"A)")
          .string();
  const auto replayed = program.run({"replay", file, "--budget", "3", "--repeat", "1", "--json"});
  CHECK(replayed.code == 0);
  const auto database = (program.folder / "imported.db").string();
  const Outcome imported = program.run({"import", file, "--db", database, "--json"});
  INFO(imported.err);
  REQUIRE(imported.code == 0);
  CHECK(imported.parsed().at("trials").at("added") == 3);
  const auto again = program.run({"replay", database, "--budget", "3", "--repeat", "1", "--json"});
  REQUIRE(again.code == 0);
  CHECK(again.parsed().at("spaces")[0].at("optimum") ==
        replayed.parsed().at("spaces")[0].at("optimum"));
}

TEST_CASE("people get tables") {
  const Program program;
  const Outcome tuned = program.twice("tune", {"--budget", "2"});
  CHECK(tuned.code == 0);
  CHECK(tuned.err.empty());
  CHECK(mentions(tuned.out,
                 {"twice n=1000 dtype=f32 on ", "best", "default", "verified", "tried", "2 of 3"}));
  CHECK(tuned.out.find('\x1b') == std::string::npos);
}

TEST_CASE("a miss, by its policy") {
  const Program program;
  CHECK(refuses(program.twice("run", {"--on-miss", "fail"}), 1,
                {"twice n=1000", "no winner", "cudadent-tune tune"}));
  const auto near = program.twice("run", {"--json", "--skip-check"}).parsed();
  CHECK(near.at("winner").at("provenance") == "default");
  CHECK(!near.contains("correct"));
}

TEST_CASE("wrong words are wrong usage") {
  const Program program;
  CHECK(refuses(program.run({"tune", "twise", "--device", "host", "--db", ":memory:"}), 2,
                {"no operator \"twise\"", "gemm"}));
  const std::string templates = program.folder.path().string();
  CHECK(refuses(program.run({"space", "twice", "n=7", "dtype=f33", "--templates", templates}), 2,
                {"dtype=f33", "f32, f64"}));
  CHECK(refuses(program.twice("space", {"m=3"}), 2, {"unknown name \"m\""}));
  CHECK(refuses(program.run({"space", "twice", "n=many", "dtype=f32", "--templates", templates}), 2,
                {"n is 'many'"}));
  CHECK(refuses(program.twice("space", {"n"}), 2, {"\"n\" is not name=value"}));
  CHECK(refuses(program.twice("space", {"--template", "quick"}), 2, {"no template \"quick\""}));
  CHECK(refuses(program.twice("compile", {"--template", "kinds", "--set", "KIND=quick"}), 2,
                {"KIND=quick is not allowed"}));
  CHECK(refuses(program.twice("compile", {"--template", "kinds", "--set", "SPEED=1"}), 2,
                {"unknown parameter \"SPEED\""}));
  CHECK(refuses(program.twice("tune", {"--budget", "soon"}), 2, {"budget \"soon\"", "30s"}));
  for (const char* wrong : {"nan", "inf", "0", "-1", "0s", "-3s"})
    CHECK(refuses(program.twice("tune", {"--budget", wrong}), 2, {"budget", wrong}));
  CHECK(refuses(program.twice("tune", {"--run-timeout", "nan"}), 2, {"run_timeout", "above 0"}));
  CHECK(refuses(program.twice("tune", {"--compile-timeout", "0"}), 2, {"compile_timeout"}));
  CHECK(refuses(program.twice("tune", {"--patience", "-1"}), 2, {"patience"}));
  CHECK(refuses(program.twice("verify", {"--margin", "nan"}), 2, {"--margin", "above 0"}));
  CHECK(refuses(program.twice("tune", {"--strategy", "guess"}), 2, {"guess", "auto"}));
  CHECK(refuses(program.run({"space", "gemm", "--device", "tpu"}), 2, {"\"tpu\""}));
  CHECK(refuses(program.run({"ops", "--templates", "/no/such/folder"}), 2, {"/no/such/folder"}));
}

TEST_CASE("what is given twice, or cannot go together, is wrong usage") {
  const Program program;
  CHECK(refuses(program.twice("space", {"n=2000"}), 2, {"n is given twice"}));
  CHECK(refuses(program.twice("tune", {"--budget", "1", "--budget", "2"}), 2, {"--budget"}));
  CHECK(refuses(program.twice("tune", {"--device", "cuda"}), 2, {"--device"}));
  CHECK(refuses(program.twice("compile", {"--set", "KIND=slow", "--set", "KIND=fast"}), 2,
                {"KIND is given twice"}));
  CHECK(refuses(program.twice("compile", {"--arch", "sm_80"}), 2, {"excludes"}));
  CHECK(refuses(program.twice("export", {"--from", "a.db"}), 2, {"excludes"}));
  CHECK(refuses(program.run({"prune", "--winners", "--failed"}), 2, {"--older-than"}));
}

TEST_CASE("what the environment asks for is done, or is an error") {
  Program program;
  const auto with = [&](const std::string& variable, std::vector<std::string> words) {
    Program other;
    other.environment.push_back(variable);
    return other.run(std::move(words));
  };
  CHECK(refuses(with("CUDADENT_DEVICE=tpu", {"tune", "gemm", "--db", ":memory:"}), 2,
                {"\"tpu\"", "CUDADENT_DEVICE", "cuda:N"}));
  CHECK(refuses(with("CUDADENT_TEMPLATE_PATH=/no/such/folder", {"ops"}), 2, {"/no/such/folder"}));
  program.environment.back() = "CUDADENT_HOST_THREADS=many";
  CHECK(refuses(program.run({"devices"}), 2, {"CUDADENT_HOST_THREADS=many", "1 to"}));
  program.environment.back() = "CUDADENT_HOST_THREADS=1";
  program.environment.emplace_back("CUDADENT_WORKER=/no/such/worker");
  CHECK(refuses(program.twice("tune", {"--budget", "1"}), 1,
                {"CUDADENT_WORKER", "/no/such/worker", "cudadent-worker"}));
  CHECK(program.twice("tune", {"--budget", "1", "--isolation", "in_process"}).code == 0);
  program.environment.emplace_back("CXX=/no/such/compiler");
  CHECK(
      refuses(program.twice("compile", {"--template", "kinds"}), 1, {"/no/such/compiler", "CXX"}));
  program.environment.emplace_back("CUDADENT_HOST_COMPILER=c++");
  CHECK(program.twice("compile", {"--template", "kinds"}).code == 0);
}

TEST_CASE("output that cannot be written is a failure, whatever the command") {
  Program program;
  REQUIRE(program.twice("tune", {"--budget", "2"}).code == 0);
  const std::string database = program.folder / "cache.db", image = program.folder / "image";
  const auto sweep = program.folder.write(
      "sweep.json", R"({"problems": [{"op": "twice", "problem": {"n": 5, "dtype": "f32"}}]})");
  const std::vector<std::string> common{"--device", "host",        "--db",
                                        database,   "--templates", program.folder.path().string()};
  const auto run = [&](std::vector<std::string> words) {
    words.insert(words.end(), common.begin(), common.end());
    return program.run(std::move(words));
  };
  program.standard_output = "/dev/full";
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"show"},
        {"show", "--json"},
        {"export"},
        {"export", "--trials"},
        {"export", "--format", "t4"},
        {"ops"},
        {"space", "twice", "n=1000", "dtype=f32"},
        {"space", "--json", "twice", "n=1000", "dtype=f32"},
        {"run", "twice", "n=1000", "dtype=f32"},
        {"verify", "--json"},
        {"tune", "--json", "--budget", "1", "twice", "n=1000", "dtype=f32"},
        {"compile", "twice", "n=1000", "dtype=f32", "--template", "kinds", "--dump-source"},
        {"compile", "twice", "n=1000", "dtype=f32", "--template", "kinds", "--json"},
        {"sweep", sweep.string(), "--json", "--dry-run"},
        {"sweep", sweep.string(), "--dry-run"}}) {
    const Outcome outcome = run(words);
    INFO(words.front(), ": ", outcome.err);
    CHECK(outcome.code == 1);
    CHECK(mentions(outcome.err, {"No space left on device"}));
  }
  CHECK(program.run({"devices"}).code == 1);
  CHECK(program.run({"--help"}).code == 1);
  CHECK(program.run({"--version"}).code == 1);
  program.standard_output.clear();
  // Files, too; and what was asked for twice over is written, not forgotten.
  for (const char* to : {"/dev/full", "/dev/null"}) {
    const int expected = std::string_view(to) == "/dev/full" ? 1 : 0;
    CHECK(run({"export", "-o", to}).code == expected);
    CHECK(run({"export", "--format", "t4", "-o", to}).code == expected);
    CHECK(run({"compile", "twice", "n=1000", "dtype=f32", "--template", "kinds", "--output", to})
              .code == expected);
  }
  CHECK(run({"compile", "twice", "n=1000", "dtype=f32", "--template", "kinds", "--dump-source",
             "--output", image})
            .out.empty());
  CHECK(mentions(read(image), {"struct Block", "void twice"}));
}

TEST_CASE("a result that the database cannot take is a failure of commands whose result that is") {
  Program program;
  const auto database = program.folder.write("cache.db", std::string(4096, 'x'));
  for (const char* command : {"tune", "show", "export", "verify"}) {
    INFO(command);
    const Outcome outcome = command == std::string("verify")
                                ? program.run({"verify", "--device", "host", "--db", database})
                                : program.twice(command);
    CHECK(refuses(outcome, 1, {"cache.db", "not an SQLite database"}));
  }
  const auto sweep = program.folder.write(
      "sweep.json", R"({"problems": [{"op": "twice", "problem": {"n": 5, "dtype": "f32"}}]})");
  CHECK(refuses(program.run({"sweep", sweep, "--device", "host", "--db", database, "--templates",
                             program.folder.path()}),
                1, {"cache.db"}));
  // To launch is another matter.
  const Outcome run = program.twice("run", {"--json"});
  CHECK(run.code == 0);
  CHECK(run.parsed().at("correct") == true);
  CHECK(mentions(run.err, {"warning", "cache.db", "kept in memory"}));
  CHECK(run.err.find("warning") == run.err.rfind("warning"));
  CHECK(read(database) == std::string(4096, 'x'));
}

TEST_CASE("without a place for the database") {
  Program program;
  if (::geteuid() != 0) {
    MESSAGE("skipped: only root can become a user without an account");
    return;
  }
  program.environment.erase(program.environment.begin() + 1);  // HOME
  std::filesystem::permissions(program.folder.path(), std::filesystem::perms::all);
  CHECK(wait_for(start_child([&] {
          if (::setuid(54321) != 0) return false;
          const std::vector<std::string> problem{"twice",
                                                 "n=1000",
                                                 "dtype=f32",
                                                 "--device",
                                                 "host",
                                                 "--templates",
                                                 program.folder.path().string()};
          const auto run = [&](std::vector<std::string> words, bool with_problem = true) {
            if (with_problem) words.insert(words.end(), problem.begin(), problem.end());
            return program.run(std::move(words));
          };
          const Outcome launched = run({"run"});
          return launched.code == 0 &&
                 mentions(launched.err, {"warning", "HOME", "CUDADENT_CACHE"}) &&
                 refuses(run({"tune", "--budget", "1"}), 1, {"HOME", "CUDADENT_CACHE"}) &&
                 refuses(run({"show"}, false), 1, {"HOME", "CUDADENT_CACHE", "--db"}) &&
                 refuses(run({"export"}, false), 1, {"CUDADENT_CACHE"}) &&
                 run({"tune", "--budget", "1", "--db", ":memory:"}).code == 0;
        })) == 0);
}

TEST_CASE("caches that cannot be used") {
  const Program program;
  CHECK(refuses(program.run({"show", "--db", "/dev/null/cache.db"}), 1, {"/dev/null"}));
  const auto text = program.folder.write("text.db", std::string(4096, 'x')).string();
  CHECK(refuses(program.run({"show", "--db", text}), 1, {"text.db"}));
  CHECK(read(text) == std::string(4096, 'x'));
}

TEST_CASE("templates that are wrong") {
  const Program program;
  SUBCASE("a manifest that is not JSON") {
    program.folder.write("twice/kinds.json", "{");
    CHECK(refuses(program.twice("space"), 1, {"kinds.json", "not JSON"}));
  }
  SUBCASE("a manifest with an unknown field") {
    program.folder.write("twice/op.json", replaced(twice_manifest, "\"flops\"", "\"flop\""));
    CHECK(refuses(program.twice("space"), 1, {"op.json", "unknown field \"flop\""}));
  }
  SUBCASE("a template that does not compile") {
    program.folder.write("twice/kinds.cpp", "void twice(const Block&) { nonsense; }\n");
    CHECK(refuses(program.twice("tune"), 1, {"twice n=1000", "3 compile_error", "nonsense"}));
    CHECK(
        refuses(program.twice("compile", {"--template", "kinds"}), 1, {"twice/kinds", "nonsense"}));
  }
  SUBCASE("no valid configuration") {
    program.folder.write("twice/kinds.json", replaced(kinds_template, "\"let\"",
                                                      "\"constraints\": [\"n < 0\"], \"let\""));
    CHECK(refuses(program.twice("compile", {"--template", "kinds"}), 1,
                  {"twice/kinds", "no valid configuration"}));
    CHECK(refuses(program.twice("tune", {"--template", "kinds"}), 1,
                  {"kinds", "none of its 7 configurations"}));
  }
}

TEST_CASE(
    "where a user may start few processes and threads, there are fewer, or an error says so") {
  Program program;
  for (auto& variable : program.environment)
    if (variable.starts_with("CUDADENT_HOST_THREADS")) variable = "CUDADENT_HOST_THREADS=16";
  std::filesystem::permissions(program.folder.path(), std::filesystem::perms::all);
  for (const auto& entry : std::filesystem::recursive_directory_iterator(program.folder.path()))
    std::filesystem::permissions(entry.path(), std::filesystem::perms::all);
  CHECK(wait_for(start_child([&] {  // ulimit -u 12, as an ordinary user
          if (!limit_threads(11)) return false;
          const Outcome run = program.twice("run", {"--on-miss", "nearest"});
          if (run.code == 0)
            return mentions(run.err, {"of its 16 threads", "ulimit -u"}) &&
                   mentions(run.out, {"verified"});
          MESSAGE(run.code, ": ", run.err);
          return run.code > 0 && run.code < 126 && !run.err.empty();
        })) == 0);
  CHECK(wait_for(start_child([&] {
          if (!limit_threads(11)) return false;
          const Outcome tuned = program.twice("tune", {"--budget", "2"});
          MESSAGE(tuned.code, ": ", tuned.err);
          return tuned.code >= 0 && tuned.code < 126 && (tuned.code == 0 || !tuned.err.empty());
        })) == 0);
}

}  // namespace
}  // namespace cudadent

#endif
