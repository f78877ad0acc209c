// Floats where kernels can reach them: in a GPU's memory, or in the host's.
#pragma once

#include <cudadent/cudadent.h>

#include <cstddef>
#include <initializer_list>
#include <stdexcept>
#include <utility>
#include <vector>

#ifdef EXAMPLE_WITH_CUDA
#include <cuda_runtime_api.h>
#endif

namespace example {

// The device to run on: the first GPU if this program can use one, else the host.
inline bool has_gpu() {
#ifdef EXAMPLE_WITH_CUDA
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
#else
  return false;
#endif
}
inline const char* device() { return has_gpu() ? "cuda:0" : "host"; }

class DeviceArray {
 public:
  explicit DeviceArray(std::vector<float> values) : host_(std::move(values)), data_(host_.data()) {
#ifdef EXAMPLE_WITH_CUDA
    if (!has_gpu()) return;
    void* memory = nullptr;
    check(cudaMalloc(&memory, bytes()));
    data_ = static_cast<float*>(memory);
    check(cudaMemcpy(data_, host_.data(), bytes(), cudaMemcpyHostToDevice));
#endif
  }
  ~DeviceArray() {
#ifdef EXAMPLE_WITH_CUDA
    if (is_on_gpu()) cudaFree(data_);
#endif
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  // A view for cudadent, row-major.
  cudadent::Tensor tensor(std::initializer_list<std::int64_t> shape) const {
    return {data_, cudadent::DataType::f32, shape, is_on_gpu() ? 0 : cudadent::host_memory};
  }

  // What is in it; waits for the kernels that were launched.
  const std::vector<float>& values() {
#ifdef EXAMPLE_WITH_CUDA
    if (is_on_gpu()) check(cudaMemcpy(host_.data(), data_, bytes(), cudaMemcpyDeviceToHost));
#endif
    return host_;
  }

 private:
  [[nodiscard]] bool is_on_gpu() const { return data_ != host_.data(); }
#ifdef EXAMPLE_WITH_CUDA
  [[nodiscard]] std::size_t bytes() const { return host_.size() * sizeof(float); }
  static void check(cudaError_t error) {
    if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
  }
#endif

  std::vector<float> host_;
  float* data_;
};

}  // namespace example
