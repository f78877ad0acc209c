// The CUDA backend: what the rest of cudadent sees of CUDA.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "runtime/backends/backend.h"
#include "runtime/backends/cuda/driver.h"
#include "runtime/backends/cuda/nvrtc.h"
#include "runtime/base/environment.h"

namespace cudadent {

// CUDA devices this process may use; 0 when there is no driver or no device, and then `why_none`
// says which. Initialises the driver (about 0.2 s, once a process); never throws for want of one. Throws
// Error(device_unavailable) in the child of a fork whose parent has used CUDA, as the driver refuses it there.
int cuda_device_count(std::string* why_none = nullptr);

// Opens a device; NVRTC is looked for only when something is to be compiled. `site_packages` are
// folders to look for NVIDIA's wheels in, before the usual places.
// Throws Error(device_unavailable).
std::unique_ptr<Backend> make_cuda_backend(
    int ordinal, const Environment& environment,
    std::span<const std::filesystem::path> site_packages = {});

// The same with a driver and compiler handed in: tests bring a driver made of functions.
std::unique_ptr<Backend> make_cuda_backend(int ordinal, const cuda::Driver& driver,
                                           cuda::NvrtcSearch search);

}  // namespace cudadent
