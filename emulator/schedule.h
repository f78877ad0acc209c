// How a launch on the emulator runs: who goes on when, and how late what is asynchronous is carried out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace cudadent::emulator {

// Small, quick and good enough to shuffle with (xorshift64*).
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ull + 0x1234567) {
    for (int i = 0; i < 4; ++i) next();
  }
  std::uint64_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545F4914F6CDD1Dull;
  }
  std::uint32_t below(std::size_t count) {
    return static_cast<std::uint32_t>((next() >> 32) * count >> 32);
  }
  bool happens(double probability) {
    return static_cast<double>(next() >> 11) * 0x1p-53 < probability;
  }

 private:
  std::uint64_t state_;
};

enum class WarpOrder : std::uint8_t { random, ascending, descending, one_last };
enum class LaneOrder : std::uint8_t { ascending, descending, random };

// How a launch runs. Extremes find more than the average does.
struct Schedule {
  std::uint64_t seed = 0;
  WarpOrder warps = WarpOrder::random;
  LaneOrder lanes = LaneOrder::ascending;
  double stay = 0.9;          // probability of going on with the same warp
  double eagerness = 0.1;     // of carrying out something asynchronous when threads change
  double early = 0.1;         // of carrying it out as soon as it is issued
  int resident_clusters = 1;  // that run at the same time from the start, if there is room

  static Schedule from_seed(std::uint64_t seed);
  [[nodiscard]] std::string describe() const;
};

}  // namespace cudadent::emulator
