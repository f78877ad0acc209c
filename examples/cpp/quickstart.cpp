// Tunes and launches a matrix product on the GPU, or on the host where there is none.
//
//   quickstart [seconds of tuning, 10 by default]

#include <cudadent/cudadent.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include "device_array.h"

namespace {

constexpr std::int64_t m = 256, n = 384, k = 512;

// Some numbers between -1 and 1.
std::vector<float> numbers(std::int64_t count, std::uint32_t seed) {
  std::vector<float> values;
  for (std::int64_t i = 0; i < count; ++i) {
    seed = seed * 1664525u + 1013904223u;  // Numerical Recipes, "quick and dirty" generator
    values.push_back(static_cast<float>(seed >> 8) / (1 << 23) - 1.0f);
  }
  return values;
}

// How far c is from relu(a · bᵀ + bias), of the numbers above.
double largest_error(const std::vector<float>& c) {
  const auto a = numbers(m * k, 1), b = numbers(n * k, 2), bias = numbers(n, 3);
  double error = 0;
  for (std::int64_t row = 0; row < m; ++row)
    for (std::int64_t column = 0; column < n; ++column) {
      const auto at = [](std::int64_t i) { return static_cast<std::size_t>(i); };
      double sum = bias[at(column)];
      for (std::int64_t i = 0; i < k; ++i)
        sum += double{a[at(row * k + i)]} * b[at(column * k + i)];
      error = std::max(error, std::abs(c[at(row * n + column)] - std::max(sum, 0.0)));
    }
  return error;
}

void run(double seconds) {
  cudadent::RuntimeOptions options;
  options.device = example::device();
  options.tuning.budget.seconds = seconds;  // for problems that the cache does not know
  cudadent::Runtime runtime(options);
  std::cout << "device: " << runtime.device_name() << '\n';

  // Tuning ahead of time. The winner is in the user's cache for this and every later process.
  cudadent::TuneOptions tuning;
  tuning.budget.seconds = seconds;
  const cudadent::Values problem{{"m", m},         {"n", n},       {"k", k},
                                 {"dtype", "f32"}, {"bias", true}, {"activation", "relu"}};
  const auto result = runtime.tune("gemm", problem, tuning);
  std::cout << result.problem << ": " << 1e6 * result.winner.seconds << " µs with "
            << result.winner.kernel_template << '\n';
  if (result.default_seconds > 0)  // unless time was up before it was measured
    std::cout << "its default configuration: " << 1e6 * result.default_seconds << " µs\n";

  // Launching. A problem that nobody tuned would be tuned by its first launch.
  const auto gemm = runtime.op("gemm", {{"activation", "relu"}});
  example::DeviceArray a(numbers(m * k, 1)), b(numbers(n * k, 2)), bias(numbers(n, 3));
  example::DeviceArray c(std::vector<float>(m * n));
  gemm({a.tensor({m, k}), b.tensor({n, k}), bias.tensor({n}), c.tensor({m, n})});

  const double error = largest_error(c.values());
  std::cout << "largest error: " << error << '\n';
  if (!(error < 1e-3)) throw std::runtime_error("the result is wrong");
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(argc > 1 ? std::stod(argv[1]) : 10);
    return 0;
  } catch (const cudadent::Error& error) {
    std::cerr << error.what() << '\n' << error.detail() << '\n';
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
  }
  return 1;
}
