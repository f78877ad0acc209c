// What is read from the environment, in child processes: variables belong to the whole process.
#include "runtime/base/environment.h"

#include <doctest/doctest.h>
#include <pwd.h>
#include <unistd.h>

#include <cstdlib>
#include <map>
#include <string>

#include "tests/support/child.h"
#include "tests/support/errors.h"
#include "tests/support/folder.h"

namespace cudadent {
namespace {

using namespace tests;
namespace fs = std::filesystem;

// Whether `check` holds in a process with these variables and no others.
template <class Check>
bool with(const std::map<std::string, std::string>& variables, const Check& check) {
  return wait_for(start_child([&] {
           ::clearenv();
           for (const auto& [name, value] : variables) ::setenv(name.c_str(), value.c_str(), 1);
           return check();
         })) == 0;
}

bool cache_is(const std::map<std::string, std::string>& variables, const fs::path& expected) {
  return with(variables, [&] {
    const Environment environment = Environment::read();
    if (environment.cache != expected) MESSAGE(environment.cache.string());
    return environment.cache == expected && environment.why_no_cache.empty();
  });
}

TEST_CASE("where the database lies") {
  const Folder folder;
  const std::string here = folder.path().string();
  CHECK(cache_is({{"CUDADENT_CACHE", "/a/b.db"}, {"HOME", "/home/me"}}, "/a/b.db"));
  CHECK(cache_is({{"CUDADENT_CACHE", here}}, folder / "cudadent.db"));
  CHECK(cache_is({{"CUDADENT_CACHE", here + "/new/"}}, folder / "new/cudadent.db"));
  CHECK(cache_is({{"CUDADENT_CACHE", ":memory:"}}, ":memory:"));
  CHECK(cache_is({{"XDG_CACHE_HOME", "/x"}, {"HOME", "/h"}}, "/x/cudadent/cudadent.db"));
  CHECK(cache_is({{"XDG_CACHE_HOME", "x"}, {"HOME", "/h"}}, "/h/.cache/cudadent/cudadent.db"));
}

TEST_CASE("without HOME it lies below the account's home") {
  const struct passwd* const account = ::getpwuid(::getuid());
  if (account == nullptr) {
    MESSAGE("skipped: this user has no account");
    return;
  }
  const fs::path expected = fs::path(account->pw_dir) / ".cache/cudadent/cudadent.db";
  CHECK(cache_is({}, expected));
  CHECK(cache_is({{"HOME", ""}}, expected));
  CHECK(cache_is({{"HOME", "relative"}}, expected));
}

TEST_CASE("without an account's home there is no place, which is said") {
  if (::geteuid() != 0) {
    MESSAGE("skipped: only root can become a user without an account");
    return;
  }
  CHECK(with({}, [] {
    if (::setuid(54321) != 0) return false;
    const Environment environment = Environment::read();
    return environment.cache == ":memory:" &&
           mentions(environment.why_no_cache, {"HOME", "54321", "CUDADENT_CACHE"});
  }));
}

TEST_CASE("a number of threads is one") {
  const auto threads = [](const char* text, int expected) {
    return with({{"CUDADENT_HOST_THREADS", text}},
                [&] { return Environment::read().host_threads == expected; });
  };
  CHECK(threads("", 0));
  CHECK(threads("7", 7));
  for (const char* text : {"many", "4x", "-1", "0", "1.5", " 4", "99999999999999999999", "5000"})
    CHECK(with({{"CUDADENT_HOST_THREADS", text}}, [&] {
      return fails(ErrorCode::invalid_argument, {"CUDADENT_HOST_THREADS", text, "1 to"},
                   [] { Environment::read(); });
    }));
}

}  // namespace
}  // namespace cudadent
