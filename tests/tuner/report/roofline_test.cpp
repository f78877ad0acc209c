// How fast a device could be at most.
#include "tuner/report/roofline.h"

#include <doctest/doctest.h>

#include "runtime/language/device.h"

namespace cudadent {
namespace {

TEST_CASE("an H200's roofs are near its data sheet's") {
  const Values facts = nominal_cuda_device("sm_90a")->facts();
  const Roofs bf16 = nominal_roofs(facts, "bf16");
  CHECK(bf16.compute.rate == doctest::Approx(989e12).epsilon(0.1));  // at its highest clock
  CHECK(bf16.memory.rate == 4.8e12);
  CHECK(bf16.compute.basis.find("132 multiprocessors") != std::string::npos);
  const Roofs f32 = nominal_roofs(facts, "f32");
  CHECK(f32.compute.rate == doctest::Approx(67e12).epsilon(0.1));
}

TEST_CASE("every architecture with nominal facts has a peak for bf16") {
  for (const auto& architecture : nominal_cuda_architectures())
    CHECK(nominal_roofs(nominal_cuda_device(architecture)->facts(), "bf16").compute.rate > 1e12);
}

TEST_CASE("what facts do not tell is the best measured, and says so") {
  const Roofs unknown = nominal_roofs({}, "f32");
  CHECK(unknown.compute.rate == 0);
  CHECK(unknown.memory.rate == 0);
  CHECK(unknown.attainable(1) == 0);
  const Roofs measured =
      with_best_measured(unknown, {{2e9, 1e6, 1.0}, {1e9, 4e6, 0.0}, {1e9, 8e6, 2.0}});
  CHECK(measured.compute.rate == 2e9);
  CHECK(measured.memory.rate == 4e6);
  CHECK(measured.compute.basis.find("measured") != std::string::npos);
  const Roofs nominal = nominal_roofs(nominal_cuda_device("sm_80")->facts(), "f16");
  CHECK(with_best_measured(nominal, {{1e30, 1e30, 1.0}}).compute.rate == nominal.compute.rate);
}

TEST_CASE("below the ridge memory is the limit, above it arithmetic") {
  const Roofs roofs{{100, ""}, {10, ""}};
  CHECK(roofs.attainable(1) == 10);
  CHECK(roofs.attainable(10) == 100);
  CHECK(roofs.attainable(1000) == 100);
  CHECK(Roofs{{0, ""}, {10, ""}}.attainable(3) == 30);
}

}  // namespace
}  // namespace cudadent
