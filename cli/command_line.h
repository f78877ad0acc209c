// What commands take from the command line. CLI11 reads it; its headers take six seconds to compile, so that only
// command_line.cpp includes them.
#pragma once

#include <cudadent/cudadent.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace cudadent::cli {

// Thrown by a command to end the program with this code: all that there is to say has been said.
struct Exit {
  int code;
};

// Says more of an option. Belongs to the CommandLine.
class Option {
 public:
  explicit Option(CLI::Option& option) : option_(&option) {}

  const Option& required() const;
  const Option& show_default() const;  // in --help: the value the variable has now
  const Option& show_default(const std::string& text) const;
  const Option& excludes(const std::string& other) const;
  const Option& needs(const std::string& other) const;
  // For lists. Each value has the option's name in front: a word after a value is not another one.
  const Option& one_value_at_a_time() const;
  const Option& separated_by(char separator) const;
  const Option& one_of(const std::vector<std::string>& values) const;
  const Option& within(int low, int high) const;
  const Option& within(std::uint64_t low, std::uint64_t high) const;
  const Option& existing_file() const;

 private:
  CLI::Option* option_;
};

// The program, or one of its commands. Variables that are handed over must outlive the CommandLine.
class Command {
 public:
  explicit Command(CLI::App& app) : app_(&app) {}

  [[nodiscard]] Command subcommand(const std::string& name, const std::string& doc) const;
  // Of std::string, double, int, std::int64_t, std::uint64_t, and vectors of std::string and std::uint64_t.
  // Without dashes it is a word at its place.
  template <typename T>
  Option option(const std::string& names, T& value, const std::string& doc) const;
  Option option(const std::string& names, Isolation& value, const std::string& doc) const;
  Option flag(const std::string& names, bool& value, const std::string& doc) const;
  // Another text in --help for an option that it has.
  void describe(const std::string& option, const std::string& doc) const;
  [[nodiscard]] bool given(const std::string& option) const;
  // What the command does, when the words ask for it.
  void run(std::function<void()> work) const;

 private:
  CLI::App* app_;
};

class CommandLine {
 public:
  CommandLine(const std::string& name, const std::string& doc, std::string_view version);
  ~CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;

  [[nodiscard]] Command program() const;
  // Reads the words and runs the command; what that throws goes on, but for Exit. The exit code: 2 for wrong usage, which
  // standard error describes.
  [[nodiscard]] int run(int argc, char** argv);

 private:
  std::unique_ptr<CLI::App> app_;
};

}  // namespace cudadent::cli
