#include "runtime/backends/cuda/cache_flush.h"

#include <cstdint>
#include <cstring>
#include <utility>

namespace cudadent::cuda {

namespace {

constexpr unsigned threads = 256;
constexpr std::size_t bytes_a_block = threads * 16;

// Every thread reads 16 bytes. In PTX, so that timing needs no compiler; volatile, since nothing uses what
// is read.
constexpr char source[] = R"(
.version 6.0
.target sm_60
.address_size 64
.visible .entry cudadent_read(.param .u64 memory)
{
  .reg .b32 %block, %threads, %thread, %a, %b, %c, %d;
  .reg .b64 %memory, %index, %address;
  ld.param.u64 %memory, [memory];
  cvta.to.global.u64 %memory, %memory;
  mov.u32 %block, %ctaid.x;
  mov.u32 %threads, %ntid.x;
  mov.u32 %thread, %tid.x;
  mul.wide.u32 %index, %block, %threads;
  cvt.u64.u32 %address, %thread;
  add.u64 %index, %index, %address;
  shl.b64 %index, %index, 4;
  add.u64 %address, %memory, %index;
  ld.volatile.global.v4.u32 {%a, %b, %c, %d}, [%address];
  ret;
}
)";

Binary binary() {
  Binary result;
  result.architecture = "any GPU";
  result.compiler = "hand";
  result.image.resize(sizeof(source));  // with the end of the text, which the driver looks for
  std::memcpy(result.image.data(), source, sizeof(source));
  return result;
}

}  // namespace

CacheFlush::CacheFlush(const std::shared_ptr<const Gpu>& gpu, Buffer memory)
    : gpu_(gpu),
      memory_(std::move(memory)),
      module_(std::make_unique<const CudaModule>(gpu, binary())),
      read_(module_->function("cudadent_read")) {}

void CacheFlush::queue(Stream stream) const {
  auto address = reinterpret_cast<std::uint64_t>(memory_.data());
  void* parameters[] = {&address};
  const auto blocks = static_cast<unsigned>(memory_.bytes() / bytes_a_block);
  gpu_->check(
      gpu_->driver.launch(read_, blocks, 1, 1, threads, 1, 1, 0, stream, parameters, nullptr),
      "flush the L2 cache");
}

}  // namespace cudadent::cuda
