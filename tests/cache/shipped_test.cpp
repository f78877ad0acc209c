// Winners that ship: text below the layers, read when nothing above them has a winner.
#include "cache/shipped.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cache/formats/portable.h"
#include "runtime/base/environment.h"
#include "support.h"

namespace cudadent {
namespace {

using namespace cache_tests;

WinnerRecord winner_for(const std::string& tuning_key, const std::string& kernel_template,
                        const std::string& created = "2026-01-01T00:00:00.000Z") {
  WinnerRecord record = gemm_winner();
  record.problem.tuning_key = tuning_key;
  record.kernel_template = kernel_template;
  record.created = created;
  return record;
}

std::string text_of(const std::vector<WinnerRecord>& winners) {
  return to_portable({.winners = winners, .trials = {}, .runs = {}}).dump(1);
}

// What a store says of the gemm with a tuning key.
struct Shop {
  std::string text;
  int times_read = 0;
  std::vector<std::string> warnings;

  StoreOptions options() {
    return {.shipped =
                [this] {
                  ++times_read;
                  const std::vector<EmbeddedFile> files{{"shop.json", text}};
                  return std::make_shared<const ShippedWinners>(files);
                },
            .log =
                [this](LogLevel level, std::string_view message) {
                  if (level == LogLevel::warning) warnings.emplace_back(message);
                }};
  }
};

std::string template_of(const std::optional<WinnerRecord>& winner) {
  return winner ? winner->kernel_template : "none";
}

std::optional<WinnerRecord> look_up(Store& store, const std::string& key,
                                    const std::function<bool(const WinnerRecord&)>& usable = {}) {
  const ProblemRecord problem = gemm_problem();
  return store.winner(problem.op, key, problem.device_kind, usable);
}

TEST_CASE("what neither the database nor a layer has is looked for among what ships") {
  const TemporaryFolder folder;
  {
    Store layer(folder / "layer.db");
    layer.put_winner(winner_for("b", "layer"));
  }
  Shop shop{text_of({winner_for("a", "shop"), winner_for("b", "shop"), winner_for("c", "shop")})};
  StoreOptions options = shop.options();
  options.layers = {folder / "layer.db"};
  Store store(":memory:", options);
  store.put_winner(winner_for("a", "own"));
  CHECK(template_of(look_up(store, "a")) == "own");
  CHECK(template_of(look_up(store, "b")) == "layer");
  CHECK(shop.times_read == 0);  // nobody has asked for what only ships
  const auto shipped = look_up(store, "c");
  CHECK(template_of(shipped) == "shop");
  CHECK(shipped->shipped);
  CHECK(shipped->layer == "shop.json");
  CHECK(!look_up(store, "a")->shipped);
  CHECK(template_of(look_up(store, "d")) == "none");
  CHECK(!store.winner("gemm", "c", "another device"));
  CHECK(shop.times_read == 1);

  std::vector<std::string> all;
  for (const auto& winner : store.winners()) all.push_back(winner.kernel_template);
  CHECK(all == std::vector<std::string>{"own", "layer", "shop"});
  CHECK(store.winners("rms_norm").empty());
  CHECK(store.winners("gemm", "another device").empty());
  CHECK(store.counts().winners == 1);
}

TEST_CASE("of several that ship for one key the newest that can be used") {
  Shop shop{text_of({winner_for("a", "old", "2026-01-01T00:00:00.000Z"),
                     winner_for("a", "new", "2026-03-01T00:00:00.000Z"),
                     winner_for("a", "middle", "2026-02-01T00:00:00.000Z")})};
  Store store(":memory:", shop.options());
  CHECK(template_of(look_up(store, "a")) == "new");
  const auto not_new = [](const WinnerRecord& winner) { return winner.kernel_template != "new"; };
  CHECK(template_of(look_up(store, "a", not_new)) == "middle");
  CHECK(template_of(look_up(store, "a", [](const auto&) { return false; })) == "none");
  REQUIRE(store.winners().size() == 1);
  CHECK(store.winners().front().kernel_template == "new");
}

TEST_CASE("a winner out of date does not hide one that ships") {
  Shop shop{text_of({winner_for("a", "good")})};
  Store store(":memory:", shop.options());
  store.put_winner(winner_for("a", "outdated"));
  const auto good = [](const WinnerRecord& winner) { return winner.kernel_template == "good"; };
  CHECK(template_of(look_up(store, "a", good)) == "good");
}

TEST_CASE("what ships and cannot be read is a warning that names the file, once") {
  Shop shop{"{ this is no JSON"};
  Store store(":memory:", shop.options());
  CHECK(template_of(look_up(store, "a")) == "none");
  CHECK(store.winners().empty());
  REQUIRE(shop.warnings.size() == 1);
  CHECK(contains(shop.warnings.front(), "shop.json"));
  CHECK(shop.times_read == 1);
}

TEST_CASE("files of another version are refused with their place") {
  auto document = to_portable({.winners = {gemm_winner()}, .trials = {}, .runs = {}});
  document["winners"][0].erase("template_hash");
  const std::string text = document.dump();
  const std::vector<EmbeddedFile> files{{"shop.json", text}};
  std::string complaint;
  try {
    const ShippedWinners winners(files);
  } catch (const Error& error) {
    complaint = error.what();
  }
  CHECK(contains(complaint, "shop.json: winners[0]"));
}

TEST_CASE("the environment says what ships") {
  const TemporaryFolder folder;
  std::ofstream(folder / "device.json") << text_of({winner_for("a", "folder")});
  std::ofstream(folder / "notes.txt") << "not of interest";
  Environment environment;
  CHECK(shipped_source(environment)() == shipped_source(environment)());  // read once a process
  environment.shipped = folder.path().string();
  const auto winners = shipped_source(environment)();
  REQUIRE(winners->all().size() == 1);
  CHECK(winners->all().front().layer == folder / "device.json");
  environment.shipped = "none";
  CHECK(shipped_source(environment) == nullptr);
  environment.shipped = (folder / "missing").string();
  CHECK(contains(cache_error([&] { shipped_source(environment)(); }), "missing"));
  environment.shipped = (folder / "empty").string();
  std::filesystem::create_directory(folder / "empty");
  CHECK(contains(cache_error([&] { shipped_source(environment)(); }), "no .json file"));
}

TEST_CASE("every file that ships can be read") {
  for (const auto& file : shipped_files()) {
    CAPTURE(file.path);
    const ShippedWinners winners({&file, 1});
    CHECK(!winners.all().empty());
    for (const auto& winner : winners.all()) {
      CAPTURE(winner.problem.description);
      CHECK(winner.seconds > 0);
      CHECK(winner.uuid.empty());
    }
  }
}

}  // namespace
}  // namespace cudadent
