#include "tuner/report/roofline.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>

#include "runtime/language/value.h"

namespace cudadent {

namespace {

// Floating-point operations a clock cycle and streaming multiprocessor, a fused multiply-add being two:
// of f32 on the ordinary cores (CUDA C++ Programming Guide 13.0, "Throughput of native arithmetic
// instructions") and of dense f16 and bf16 products summed in f32 on the tensor cores, out of the
// peak rates, clocks and multiprocessors of NVIDIA's architecture white papers and data sheets; parts
// that sum in f32 at half rate (GeForce) stay below.
struct Throughput {
  std::int64_t sm;
  double f32, half;
};
constexpr std::array throughputs{
    Throughput{75, 128, 1024},  Throughput{80, 128, 2048},  Throughput{86, 256, 1024},
    Throughput{87, 256, 2048},  Throughput{89, 256, 1024},  Throughput{90, 256, 4096},
    Throughput{100, 256, 8192}, Throughput{103, 256, 8192}, Throughput{110, 256, 8192},
    Throughput{120, 256, 1024}, Throughput{121, 256, 1024},
};

double fact(const Values& facts, std::string_view name) {
  const auto found = facts.find(name);
  return found != facts.end() && is_number(found->second) ? as_real(found->second, name) : 0;
}

Peak gpu_compute(const Values& facts, std::string_view data_type) {
  const auto* const known =
      std::find_if(throughputs.begin(), throughputs.end(), [&](const Throughput& entry) {
        return static_cast<double>(entry.sm) == fact(facts, "device.sm");
      });
  const double count = fact(facts, "device.sm_count"), clock = fact(facts, "device.clock_hertz");
  const bool half = data_type == "bf16" || data_type == "f16";
  if (known == throughputs.end() || count <= 0 || clock <= 0 || (!half && data_type != "f32"))
    return {};
  const double each = half ? known->half : known->f32;
  return {count * clock * each,
          fmt::format("nominal: {:.0f} multiprocessors × {:.2f} GHz × {:.0f} FLOP a cycle ({})",
                      count, clock / 1e9, each, half ? "tensor cores" : "ordinary cores")};
}

Peak host_compute(const Values& facts, std::string_view data_type) {
  const double cores = fact(facts, "device.cores"), clock = fact(facts, "device.clock_hertz");
  const double simd = fact(facts, "device.simd_bytes");
  const auto type = data_type_named(data_type);
  if (cores <= 0 || clock <= 0 || simd <= 0 || !type) return {};
  // Types of two bytes are computed in f32 on most hosts.
  const double bytes = std::max(4.0, static_cast<double>(size_of(*type)));
  return {cores * clock * 4 * simd / bytes,
          fmt::format("nominal: {:.0f} cores × {:.2f} GHz × {:.0f} FLOP a cycle (two vector "
                      "multiply-adds assumed)",
                      cores, clock / 1e9, 4 * simd / bytes)};
}

}  // namespace

double Roofs::attainable(double intensity) const {
  const double infinite = std::numeric_limits<double>::infinity();
  const double roof = std::min(compute.rate > 0 ? compute.rate : infinite,
                               memory.rate > 0 ? memory.rate * intensity : infinite);
  return roof < infinite ? roof : 0;
}

Roofs nominal_roofs(const Values& device_facts, std::string_view data_type) {
  const bool host = fact(device_facts, "device.sm") == 0;
  Roofs roofs;
  roofs.compute =
      host ? host_compute(device_facts, data_type) : gpu_compute(device_facts, data_type);
  roofs.memory.rate = fact(device_facts, "device.memory_bandwidth");
  if (roofs.memory.rate > 0) roofs.memory.basis = "nominal memory bandwidth";
  return roofs;
}

Roofs with_best_measured(Roofs roofs, const std::vector<Reached>& measured) {
  double flops = 0, bytes = 0;
  for (const Reached& one : measured) {
    if (one.seconds <= 0) continue;
    flops = std::max(flops, one.flops / one.seconds);
    bytes = std::max(bytes, one.bytes / one.seconds);
  }
  if (roofs.compute.rate <= 0 && flops > 0)
    roofs.compute = {flops, "best measured here; the nominal peak is not known"};
  if (roofs.memory.rate <= 0 && bytes > 0)
    roofs.memory = {bytes, "best measured here; the nominal bandwidth is not known"};
  return roofs;
}

}  // namespace cudadent
