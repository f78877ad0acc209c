#include "cli/command_line.h"

#include <CLI/CLI.hpp>
#include <map>

namespace cudadent::cli {

const Option& Option::required() const {
  option_->required();
  return *this;
}

const Option& Option::show_default() const {
  option_->capture_default_str();
  return *this;
}

const Option& Option::show_default(const std::string& text) const {
  option_->default_str(text);
  return *this;
}

const Option& Option::excludes(const std::string& other) const {
  option_->excludes(other);
  return *this;
}

const Option& Option::needs(const std::string& other) const {
  option_->needs(other);
  return *this;
}

const Option& Option::one_value_at_a_time() const {
  option_->allow_extra_args(false);
  return *this;
}

const Option& Option::separated_by(char separator) const {
  option_->delimiter(separator);
  return *this;
}

const Option& Option::one_of(const std::vector<std::string>& values) const {
  option_->check(CLI::IsMember(values));
  return *this;
}

const Option& Option::within(int low, int high) const {
  option_->check(CLI::Range(low, high));
  return *this;
}

const Option& Option::within(std::uint64_t low, std::uint64_t high) const {
  option_->check(CLI::Range(low, high));
  return *this;
}

const Option& Option::existing_file() const {
  option_->check(CLI::ExistingFile);
  return *this;
}

Command Command::subcommand(const std::string& name, const std::string& doc) const {
  return Command(*app_->add_subcommand(name, doc));
}

template <typename T>
Option Command::option(const std::string& names, T& value, const std::string& doc) const {
  return Option(*app_->add_option(names, value, doc));
}

template Option Command::option(const std::string&, std::string&, const std::string&) const;
template Option Command::option(const std::string&, double&, const std::string&) const;
template Option Command::option(const std::string&, int&, const std::string&) const;
template Option Command::option(const std::string&, std::int64_t&, const std::string&) const;
template Option Command::option(const std::string&, std::uint64_t&, const std::string&) const;
template Option Command::option(const std::string&, std::vector<std::string>&,
                                const std::string&) const;
template Option Command::option(const std::string&, std::vector<std::uint64_t>&,
                                const std::string&) const;

Option Command::option(const std::string& names, Isolation& value, const std::string& doc) const {
  const std::map<std::string, Isolation> words{{"auto", Isolation::automatic},
                                               {"worker", Isolation::worker},
                                               {"in_process", Isolation::in_process}};
  return Option(*app_->add_option(names, value, doc)->transform(CLI::CheckedTransformer(words)));
}

Option Command::flag(const std::string& names, bool& value, const std::string& doc) const {
  return Option(*app_->add_flag(names, value, doc));
}

void Command::describe(const std::string& option, const std::string& doc) const {
  app_->get_option(option)->description(doc);
}

bool Command::given(const std::string& option) const { return app_->count(option) > 0; }

void Command::run(std::function<void()> work) const { app_->callback(std::move(work)); }

CommandLine::CommandLine(const std::string& name, const std::string& doc, std::string_view version)
    : app_(std::make_unique<CLI::App>(doc, name)) {
  app_->set_version_flag("--version", std::string(version));
  app_->require_subcommand(1);
}

CommandLine::~CommandLine() = default;

Command CommandLine::program() const { return Command(*app_); }

int CommandLine::run(int argc, char** argv) {
  try {
    app_->parse(argc, argv);
    return 0;
  } catch (const Exit& exit) {
    return exit.code;
  } catch (const CLI::ParseError& error) {
    return app_->exit(error) == 0 ? 0 : 2;
  }
}

}  // namespace cudadent::cli
