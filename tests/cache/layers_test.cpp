// Layers: databases that are only read, below the user's own.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "cache/store.h"
#include "support.h"

namespace cudadent {
namespace {

using namespace cache_tests;

struct Warnings {
  std::vector<std::string> messages;
  StoreOptions options(std::vector<std::filesystem::path> layers) {
    return {.layers = std::move(layers), .log = [this](LogLevel level, std::string_view message) {
              if (level == LogLevel::warning) messages.emplace_back(message);
            }};
  }
};

WinnerRecord winner_for(const std::string& tuning_key, const std::string& kernel_template) {
  WinnerRecord record = gemm_winner();
  record.problem.tuning_key = tuning_key;
  record.kernel_template = kernel_template;
  return record;
}

std::filesystem::path database_with(const std::filesystem::path& file,
                                    const std::vector<WinnerRecord>& winners) {
  Store store(file);
  for (const auto& winner : winners) store.put_winner(winner);
  return file;
}

std::size_t files_in(const std::filesystem::path& folder) {
  const std::filesystem::directory_iterator files(folder);
  return static_cast<std::size_t>(std::distance(begin(files), end(files)));
}

std::string template_of(const std::optional<WinnerRecord>& winner) {
  return winner ? winner->kernel_template : "none";
}

TEST_CASE("what the own database lacks comes from the layers, in their order") {
  const TemporaryFolder folder;
  const auto first =
      database_with(folder / "first.db", {winner_for("a", "first"), winner_for("b", "first")});
  const auto second = database_with(
      folder / "second.db",
      {winner_for("a", "second"), winner_for("b", "second"), winner_for("c", "second")});
  { Store(second).put_binary(gemm_binary()); }
  Warnings warnings;
  Store store(folder / "own.db", warnings.options({first, second}));
  store.put_winner(winner_for("a", "own"));

  const ProblemRecord problem = gemm_problem();
  const auto look_up = [&](const std::string& key) {
    return store.winner(problem.op, key, problem.device_kind);
  };
  CHECK(template_of(look_up("a")) == "own");
  CHECK(look_up("a")->layer.empty());
  CHECK(template_of(look_up("b")) == "first");
  CHECK(look_up("b")->layer == first);
  CHECK(template_of(look_up("c")) == "second");
  CHECK(template_of(look_up("d")) == "none");
  CHECK(store.find_binary("specialization-0"));

  std::vector<std::string> all;
  for (const auto& winner : store.winners()) all.push_back(winner.kernel_template);
  CHECK(all == std::vector<std::string>{"own", "first", "second"});
  CHECK(warnings.messages.empty());
}

TEST_CASE("a winner out of date does not hide a good one below it") {
  const TemporaryFolder folder;
  const auto layer = database_with(folder / "layer.db", {winner_for("a", "good")});
  Warnings warnings;
  Store store(folder / "own.db", warnings.options({layer}));
  store.put_winner(winner_for("a", "outdated"));
  const ProblemRecord problem = gemm_problem();
  const auto good = [](const WinnerRecord& winner) { return winner.kernel_template == "good"; };
  CHECK(template_of(store.winner(problem.op, "a", problem.device_kind)) == "outdated");
  CHECK(template_of(store.winner(problem.op, "a", problem.device_kind, good)) == "good");
}

TEST_CASE("layers are never written, nor is anything put beside them") {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "product");
  const auto layer = database_with(folder / "product" / "layer.db", {winner_for("a", "shipped")});
  const std::string before = contents(layer);
  {
    Warnings warnings;
    Store store(folder / "own.db", warnings.options({layer}));
    store.put_winner(winner_for("a", "own"));
    store.put_trial(gemm_trial());
    store.put_binary(gemm_binary());
    CHECK(store.claim(gemm_problem()) != nullptr);
    CHECK(store.winners().size() == 1);
    CHECK(files_in(folder / "product") == 1);
  }
  CHECK(files_in(folder / "product") == 1);
  CHECK(contents(layer) == before);
}

TEST_CASE("a layer may lie where nothing can be written") {
  const TemporaryFolder folder;
  const auto product = folder / "product";
  const auto layer = database_with(product / "layer.db", {winner_for("a", "shipped")});
  std::filesystem::create_directory(folder / "user");
  std::filesystem::permissions(layer, std::filesystem::perms::owner_read);
  std::filesystem::permissions(
      product, std::filesystem::perms::owner_read | std::filesystem::perms::owner_exec);
  CHECK(run_in_unprivileged_child(folder, [&] {
          Warnings warnings;
          Store store(folder / "user" / "own.db", warnings.options({layer}));
          return store.winners().size() == 1 && warnings.messages.empty() && files_in(product) == 1;
        }) == 0);
  std::filesystem::permissions(product, std::filesystem::perms::owner_all);
}

TEST_CASE("a layer of the first schema is read as it is") {
  const TemporaryFolder folder;
  const auto layer = database_with(folder / "layer.db", {winner_for("a", "shipped")});
  run_sql(layer, "DROP TABLE claims");
  run_sql(layer, "DROP TABLE runs");
  run_sql(layer, "PRAGMA user_version = 1");
  Warnings warnings;
  const std::string before = contents(layer);
  CHECK(Store(folder / "own.db", warnings.options({layer})).winners().size() == 1);
  CHECK(warnings.messages.empty());
  CHECK(contents(layer) == before);
}

TEST_CASE("a missing, foreign or damaged layer is a warning that names it") {
  const TemporaryFolder folder;
  const auto good = database_with(folder / "good.db", {winner_for("a", "good")});
  std::ofstream(folder / "text.db") << "this is no database, however long one looks at it";
  run_sql(folder / "foreign.db", "CREATE TABLE dogs (name TEXT)");
  Warnings warnings;
  Store store(folder / "own.db", warnings.options({folder / "missing.db", folder / "text.db",
                                                   folder / "foreign.db", good}));
  CHECK(store.winners().size() == 1);
  REQUIRE(warnings.messages.size() == 3);
  for (const char* name : {"missing.db", "text.db", "foreign.db"})
    CHECK(std::any_of(warnings.messages.begin(), warnings.messages.end(),
                      [&](const auto& message) { return contains(message, name); }));
  CHECK(!std::filesystem::exists(folder / "missing.db"));
}

TEST_CASE("a layer that turns out to be damaged is left out from then on") {
  const TemporaryFolder folder;
  const auto layer = database_with(folder / "layer.db", {winner_for("a", "shipped")});
  {
    // Everything but the header and the schema, which lie in the first page.
    std::fstream stream(layer, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(4096);
    stream << std::string(std::filesystem::file_size(layer) - 4096, '\xAB');
  }
  Warnings warnings;
  Store store(folder / "own.db", warnings.options({layer}));
  CHECK(store.winners().empty());
  CHECK(store.winners().empty());
  CHECK(!store.find_binary("specialization-0"));
  CHECK(warnings.messages.size() == 1);
}

TEST_CASE("a layer that its owner writes to is read anew") {
  const TemporaryFolder folder;
  const auto layer = database_with(folder / "layer.db", {winner_for("a", "old")});
  Warnings warnings;
  Store store(folder / "own.db", warnings.options({layer}));
  CHECK(template_of(store.winner("gemm", "a", gemm_problem().device_kind)) == "old");
  {
    Store owner(layer);
    owner.put_winner(winner_for("a", "new"));
    CHECK(template_of(store.winner("gemm", "a", gemm_problem().device_kind)) == "new");
  }
  CHECK(template_of(store.winner("gemm", "a", gemm_problem().device_kind)) == "new");
  CHECK(warnings.messages.empty());
}

TEST_CASE("the own database among the layers is passed over") {
  const TemporaryFolder folder;
  Warnings warnings;
  Store store(folder / "own.db", warnings.options({folder / "own.db"}));
  store.put_winner(winner_for("a", "own"));
  CHECK(store.winners().size() == 1);
  CHECK(store.winners().front().layer.empty());
  CHECK(warnings.messages.empty());
}

}  // namespace
}  // namespace cudadent
