// What every record is made of is described once: the database has a column for each stored member.
#include "cache/fields.h"

#include <doctest/doctest.h>

#include <set>

#include "cache/schema.h"
#include "support.h"

namespace cudadent {
namespace {

using namespace cache_tests;

std::set<std::string> columns_of(sqlite::Connection& connection, const std::string& table) {
  sqlite::Query rows = connection.query("SELECT name FROM pragma_table_info(?)");
  rows.bind(table);
  std::set<std::string> names;
  while (rows.step()) names.insert(rows.text());
  return names;
}

template <class... Records>
std::set<std::string> stored_columns() {
  std::set<std::string> names;
  const auto add = [&](const auto& field) { CHECK(names.insert(field.column).second); };
  (each_stored_field<Records>(add), ...);
  return names;
}

TEST_CASE("each stored member has a column, and each column but the row's number a member") {
  sqlite::Connection connection(":memory:", sqlite::Connection::Access::read_write,
                                std::chrono::seconds(1));
  bring_up_to_date(connection);
  const auto check = [&](const char* table, std::set<std::string> expected,
                         const std::set<std::string>& besides) {
    INFO(table);
    expected.insert(besides.begin(), besides.end());
    CHECK(columns_of(connection, table) == expected);
  };
  check("problems", stored_columns<ProblemRecord>(), {"id"});
  check("trials", stored_columns<TrialRecord, Trial>(), {"id", "problem"});
  check("winners", stored_columns<ProblemRecord, WinnerRecord>(), {"id"});
  check("runs", stored_columns<RunRecord>(), {"id", "problem"});
}

TEST_CASE("no member is named twice, and each is explained") {
  const auto check = [](auto record) {
    std::set<std::string> names;
    each_field<decltype(record)>([&](const auto& field) {
      INFO(field.name);
      CHECK(names.insert(field.name).second);
      CHECK(std::string_view(field.doc).size() > 3);
    });
  };
  check(Trial());
  check(TrialRecord());
  check(WinnerRecord());
  check(RunRecord());
  check(Winner());
  check(TuneResult());
  check(TuneProgress());
}

}  // namespace
}  // namespace cudadent
