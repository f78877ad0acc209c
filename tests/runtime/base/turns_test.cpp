#include "runtime/base/turns.h"

#include <doctest/doctest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/child.h"
#include "tests/support/processes.h"

namespace cudadent {
namespace {

using namespace tests;

TEST_CASE("one thread at a time has a name's turn; other names wait for nothing") {
  Turns turns;
  int unguarded = 0;  // the thread sanitizer looks at it, too
  std::atomic<int> inside{0}, most{0};
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&] {
        for (int i = 0; i < 50; ++i) {
          const auto turn = turns.take("a");
          most = std::max(most.load(), ++inside);
          ++unguarded;
          --inside;
        }
      });
  }
  CHECK(unguarded == 200);
  CHECK(most == 1);
  const auto held = turns.take("a");
  std::jthread([&] { CHECK(turns.take("b").has_value()); }).join();
}

TEST_CASE("who waits goes on when the turn ends, also by an exception") {
  Turns turns;
  std::atomic<bool> begun{false}, taken{false};
  std::jthread owner([&] {
    try {
      const auto turn = turns.take("a");
      begun = true;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      throw std::runtime_error("failed");
    } catch (const std::runtime_error&) {
    }
  });
  REQUIRE(eventually([&] { return begun.load(); }));
  std::jthread waiter([&] { taken = turns.take("a").has_value(); });
  CHECK(eventually([&] { return taken.load(); }));
}

TEST_CASE("who waits longest is next, before who comes by again; who gives up is passed over") {
  Turns turns;
  std::vector<int> order;  // guarded by the turn
  std::atomic<bool> gives_up{false};
  std::vector<std::jthread> threads;
  const auto come = [&](int number, const std::function<bool()>& cancelled) {
    const auto here = std::make_shared<std::atomic<bool>>(false);
    threads.emplace_back([&turns, &order, number, cancelled, here] {
      const auto turn = turns.take("a", [&] {
        *here = true;  // in line, since it waits
        return cancelled && cancelled();
      });
      if (turn) order.push_back(number);
    });
    return eventually([&] { return here->load(); });
  };
  auto first = turns.take("a");
  REQUIRE(come(1, {}));
  REQUIRE(come(2, [&] { return gives_up.load(); }));
  REQUIRE(come(3, {}));
  gives_up = true;
  threads[1].join();
  first.reset();
  const auto again = turns.take("a");
  CHECK(order == std::vector<int>{1, 3});
}

TEST_CASE("who waits hears a cancellation, and what asking throws") {
  Turns turns;
  const auto held = turns.take("a");
  std::jthread([&] {
    int asked = 0;
    CHECK(!turns.take("a", [&] { return ++asked == 2; }));
    CHECK(asked == 2);
    CHECK_THROWS_AS((void)turns.take("a", []() -> bool { throw std::runtime_error("no"); }),
                    std::runtime_error);
  }).join();
}

TEST_CASE("a thread does not wait for itself, and is told so") {
  Turns turns;
  auto outer = turns.take("a");
  CHECK(!outer->nested());
  {
    const auto inner = turns.take("a");
    CHECK(inner->nested());
  }
  std::jthread([&] { CHECK(!turns.take("a", [] { return true; })); }).join();  // still held
  outer.reset();
  std::jthread([&] { CHECK(!turns.take("a")->nested()); }).join();
}

TEST_CASE("in the child of a fork the turns of the parent's threads are over") {
  Turns turns;
  std::atomic<bool> held{false}, end{false};
  std::jthread owner([&] {
    const auto turn = turns.take("a");
    held = true;
    while (!end) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  });
  REQUIRE(eventually([&] { return held.load(); }));
  std::atomic<bool> waited{false};
  std::jthread waiter([&] { waited = turns.take("a").has_value(); });
  std::this_thread::sleep_for(std::chrono::milliseconds(60));  // so that it waits, most likely
  auto own = turns.take("own");
  CHECK(wait_for(start_child([&] {
          own.reset();  // the parent's
          const auto turn = turns.take("a");
          return turn && !turn->nested() && turns.take("own") && turns.take("b");
        })) == 0);
  CHECK(!waited);
  end = true;
  CHECK(eventually([&] { return waited.load(); }));
}

}  // namespace
}  // namespace cudadent
