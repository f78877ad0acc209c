#include "runtime/language/device.h"

#include <doctest/doctest.h>

#include <set>

using namespace cudadent;

TEST_CASE("an architecture is found by every way of writing it") {
  for (const std::string name : {"sm_90", "sm_90a", "90", "90a"}) {
    CAPTURE(name);
    const auto device = nominal_cuda_device(name);
    REQUIRE(device);
    CHECK(device->sm == 90);
    CHECK(device->architecture == "sm_90a");
  }
  CHECK(nominal_cuda_device("sm_80")->architecture == "sm_80");
  CHECK_FALSE(nominal_cuda_device("sm_80a"));
  CHECK_FALSE(nominal_cuda_device("sm_12"));
  CHECK_FALSE(nominal_cuda_device(""));
}

TEST_CASE("every nominal device is complete and plausible") {
  std::set<std::string> kinds;
  for (const auto& architecture : nominal_cuda_architectures()) {
    CAPTURE(architecture);
    const auto device = nominal_cuda_device(architecture);
    REQUIRE(device);
    CHECK(device->architecture == architecture);
    CHECK(device->backend == "cuda");
    // The architecture-specific target exists from 9.0 on.
    CHECK((device->architecture.back() == 'a') == (device->sm >= 90));
    CHECK(device->max_shared_memory <= device->shared_memory_per_sm);
    CHECK(device->shared_memory_per_sm <= device->l1_bytes);
    CHECK(device->max_threads_per_sm % device->warp_size == 0);
    for (const auto& [name, value] : device->facts()) {
      CAPTURE(name);
      if (name == "device.cores" || name == "device.simd_bytes") continue;  // the host's
      CHECK(value != Value(std::int64_t{0}));
      CHECK(value != Value(0.0));
    }
    CHECK(kinds.insert(device->kind()).second);
  }
  CHECK(kinds.size() == 11);
}

TEST_CASE("a kind says what winners are shared by, and not whose device it is") {
  Device device = *nominal_cuda_device("90");
  device.driver = "13.0";
  device.uuid = "GPU-1";
  device.ordinal = 3;
  CHECK(device.kind() == "NVIDIA H200 sm_90a 132 SMs");

  Device host;
  host.backend = "host";
  host.name = "AMD EPYC 9654";
  host.architecture = "avx512";
  host.cores = 16;
  CHECK(host.kind() == "AMD EPYC 9654 16 cores avx512");
}

TEST_CASE("facts carry the types expressions rely on") {
  const Values facts = nominal_cuda_device("90")->facts();
  CHECK(facts.at("device.sm") == Value(std::int64_t{90}));
  CHECK(facts.at("device.sm_count") == Value(std::int64_t{132}));
  CHECK(facts.at("device.max_shared_memory") == Value(std::int64_t{232448}));
  CHECK(facts.at("device.kind") == Value(std::string("cuda")));
  CHECK(std::holds_alternative<double>(facts.at("device.memory_bandwidth")));
}
