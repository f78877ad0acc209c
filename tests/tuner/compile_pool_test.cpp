#include "tuner/compile_pool.h"

#include <doctest/doctest.h>

#include <memory>
#include <set>

#include "tests/support/child.h"
#include "tests/support/errors.h"
#include "tests/support/tuning.h"

namespace cudadent {
namespace {

using namespace tests;
using Clock = std::chrono::steady_clock;

Specialization kind(Tuning& tuning, const char* name) {
  const auto entry = tuning.entry();
  for (const auto& kernel : entry->templates)
    if (kernel->name == "kinds")
      return specialize(kernel, tuning.problem(), {{"KIND", std::string(name)}},
                        tuning.backend.device());
  throw std::runtime_error("no template");
}

Clock::time_point soon() { return Clock::now() + std::chrono::minutes(1); }

TEST_CASE("everything submitted comes out once, failed or not") {
  Tuning tuning;
  CompilePool pool(tuning.backend, tuning.store, 2);
  CHECK(!pool.next(soon()));  // nothing under way: no waiting
  Candidate candidate = 10;
  for (const char* name : {"slow", "fast", "broken"}) pool.submit(candidate++, kind(tuning, name));
  CHECK(pool.under_way() == 3);
  std::set<Candidate> seen;
  while (const auto compiled = pool.next(soon())) {
    CHECK(seen.insert(compiled->candidate).second);
    CHECK(compiled->binary.has_value() != compiled->error.has_value());
    CHECK(compiled->error.has_value() == (compiled->candidate == 12));
    if (compiled->binary)
      CHECK(compiled->binary->specialization_hash == compiled->specialization.hash);
    else
      CHECK(compiled->error->code() == ErrorCode::compile_failed);
  }
  CHECK(seen == std::set<Candidate>{10, 11, 12});
  CHECK(pool.under_way() == 0);
}

TEST_CASE("what is known is not compiled, and what is new is not stored") {
  Tuning tuning;
  const auto fast = kind(tuning, "fast"), slow = kind(tuning, "slow");
  tuning.store.put_binary(tuning.backend.compile(fast));
  tuning.backend.compiles = 0;
  CompilePool pool(tuning.backend, tuning.store, 1);
  pool.submit(0, fast);
  CHECK(pool.next(soon())->binary);
  CHECK(tuning.backend.compiles == 0);
  pool.submit(1, slow);
  CHECK(pool.next(soon())->binary);
  CHECK(tuning.backend.compiles == 1);
  CHECK(!tuning.store.find_binary(slow.hash));
}

TEST_CASE("a deadline that has passed gives nothing, and loses nothing") {
  Tuning tuning;
  CompilePool pool(tuning.backend, tuning.store, 1);
  pool.submit(0, kind(tuning, "fast"));
  const auto at_once = pool.next(Clock::now() - std::chrono::seconds(1));
  if (!at_once) CHECK(pool.next(soon()));
  CHECK(pool.under_way() == 0);
}

TEST_CASE("a pool that goes away drops what has not begun") {
  Tuning tuning;
  tuning.backend.compile(kind(tuning, "fast"));
  const auto fast = kind(tuning, "fast");
  {
    CompilePool pool(tuning.backend, tuning.store, 1);
    for (Candidate candidate = 0; candidate < 100; ++candidate) pool.submit(candidate, fast);
  }
  CHECK(tuning.backend.compiles <= 101);
}

TEST_CASE("of many threads there are as many as the system has left, but at least one") {
  Tuning tuning;
  const auto known = kind(tuning, "fast");
  tuning.store.put_binary(tuning.backend.compile(known));
  CHECK(wait_for(start_child([&] {
          if (!limit_threads(2)) return false;
          if (::geteuid() < 100'000) return true;  // not root's child: it may have none at all
          CompilePool pool(tuning.backend, tuning.store, 8);
          pool.submit(0, known);
          return pool.next(soon()).has_value();
        })) == 0);
  CHECK(wait_for(start_child([&] {
          return limit_threads(0) && fails(ErrorCode::machine_failed, {"thread", "ulimit -u"},
                                           [&] { CompilePool(tuning.backend, tuning.store, 8); });
        })) == 0);
}

TEST_CASE("the child of a fork that destroys a pool waits for none of its threads") {
  Tuning tuning;
  auto pool = std::make_unique<CompilePool>(tuning.backend, tuning.store, 2);
  pool->submit(0, kind(tuning, "fast"));
  CHECK(wait_for(start_child([&] {
          pool.reset();
          return true;
        })) == 0);
  CHECK(pool->next(soon()));
}

}  // namespace
}  // namespace cudadent
