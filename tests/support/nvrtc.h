// Whether tests can compile for CUDA here.
#pragma once

#include <doctest/doctest.h>

#include "runtime/backends/cuda/nvrtc.h"

namespace cudadent {

// Continuous integration has NVRTC; a machine without it skips, visibly. So does a thread sanitizer's build:
// NVRTC hangs or dies under it, in code the sanitizer has not seen compiled.
inline bool have_nvrtc(cuda::CudaCompiler& compiler) {
#ifdef __SANITIZE_THREAD__
  (void)compiler;
  MESSAGE("SKIPPED: NVRTC does not run under the thread sanitizer");
  return false;
#else
  try {
    compiler.name();
    return true;
  } catch (const Error& error) {
    REQUIRE(error.code() == ErrorCode::compiler_unavailable);
    MESSAGE("SKIPPED: no NVRTC");
    return false;
  }
#endif
}

}  // namespace cudadent
