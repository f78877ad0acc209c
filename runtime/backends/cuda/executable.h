// Launching a plan: arguments laid out once, patched and passed to the driver at each launch.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/backends/backend.h"
#include "runtime/backends/cuda/gpu.h"
#include "runtime/backends/cuda/kept_memory.h"
#include "runtime/base/scratch_pool.h"
#include "runtime/operators/launch_plan.h"

namespace cudadent::cuda {

// A loaded cubin.
class CudaModule final : public Module {
 public:
  // Throws Error(launch_failed) when the driver rejects the image.
  CudaModule(std::shared_ptr<const Gpu> gpu, const Binary& binary);
  ~CudaModule() override;
  CudaModule(const CudaModule&) = delete;
  CudaModule& operator=(const CudaModule&) = delete;

  // Throws Error(launch_failed) when there is no such kernel, or it cannot be put on the device.
  [[nodiscard]] Function function(const std::string& entry) const;
  // Raises a function's limit; executables of one module may want different ones.
  void allow_shared_memory(Function function, const std::string& entry, unsigned bytes) const;
  // Memory that its kernels find zero and leave zero, of which all its executables use the same.
  [[nodiscard]] KeptPieces& kept_pieces() const noexcept { return kept_; }

 private:
  std::shared_ptr<const Gpu> gpu_;
  Library library_ = nullptr;
  mutable std::mutex attributes_;
  mutable KeptPieces kept_;
};

// A tensor map's encoding, all but the address.
struct TensorMapEncoding {
  bool of_workspace = false;
  std::uint32_t index = 0;  // of the tensor or workspace
  TensorMapType type = TensorMapType::f32;
  std::uint32_t rank = 0;  // 0: no launch uses the map, or it is of nothing
  bool used = false;       // by a launch
  std::array<std::uint64_t, 5> dimensions{};
  std::array<std::uint64_t, 5> strides{};
  std::array<std::uint32_t, 5> box{};
  int swizzle = 0;       // CUtensorMapSwizzle
  int l2_promotion = 0;  // CUtensorMapL2promotion
  std::string name;
};

// Where everything lies in an argument block, an area of memory that one launch at a time uses:
//
//   tensor maps, 128 bytes each | values, 8 bytes each | pointers to the parameters of each launch
//   | address each tensor map was last encoded for
//
// Tensors, workspaces and scalars have one value each, shared by all launches of the plan; constants
// have one for each place they are passed in and are never written again.
struct ArgumentLayout {
  struct Patch {
    std::uint32_t index;   // of the tensor, workspace or scalar
    std::uint32_t offset;  // of the value, in bytes
  };
  struct Constant {
    std::uint32_t offset;
    std::uint64_t bits;
  };
  std::vector<Patch> tensors, workspaces, scalars;
  std::vector<Constant> constants;
  std::vector<TensorMapEncoding> tensor_maps;
  std::vector<std::uint32_t> parameters;  // offsets of values and maps, launch after launch
  std::size_t pointers_offset = 0;
  std::size_t addresses_offset = 0;
  std::size_t bytes = 0;
  std::size_t tensor_count = 0, scalar_count = 0;  // that a caller must hand in at least

  // One stream-ordered allocation holds all workspaces, those to be zeroed first; but those that stay
  // zeroed lie in memory that outlasts a launch.
  std::vector<std::size_t> workspace_offsets;  // by workspace; those of 0 bytes are null
  std::vector<bool> workspace_used;
  std::size_t workspace_bytes = 0;
  std::size_t zeroed_bytes = 0;
  std::vector<bool> workspace_kept;
  std::size_t kept_bytes = 0;
};

// Throws Error(invalid_manifest) for arguments that name what the plan does not have, and
// Error(launch_failed) for a tensor map the hardware cannot do.
ArgumentLayout lay_out(const LaunchPlan& plan);

// Makes a layout that of another plan, which differs in numbers only, without allocating. False where the hardware
// cannot do a tensor map: the layout is then to be used for nothing but the next try. Maps that come out otherwise
// than they were are marked in `changed_maps`, one for each.
bool lay_out_again(const LaunchPlan& plan, ArgumentLayout& layout, std::vector<bool>& changed_maps);

// One kernel of a plan, resolved.
struct Step {
  Function function = nullptr;
  std::array<unsigned, 3> grid{1, 1, 1};
  std::array<unsigned, 3> block{1, 1, 1};
  unsigned shared_memory = 0;
  bool clustered = false;
  LaunchAttribute cluster;
  std::size_t first_parameter = 0;
  std::string entry;
  // What other plans of the same kernel may have without being prepared.
  unsigned max_threads = 0;        // of a block
  unsigned max_shared_memory = 0;  // dynamic, bytes

  // Takes a launch's numbers; false where they need more than that, or are beyond what the device does.
  bool take(const Gpu& gpu, const KernelLaunch& launch) noexcept;
};

class CudaExecutable final : public Executable {
 public:
  CudaExecutable(std::shared_ptr<const Gpu> gpu, std::shared_ptr<const CudaModule> module,
                 ArgumentLayout layout, std::vector<Step> steps);
  ~CudaExecutable() override;
  CudaExecutable(const CudaExecutable&) = delete;
  CudaExecutable& operator=(const CudaExecutable&) = delete;

  void launch(const LaunchArguments& arguments) const override;
  bool launch_with(const LaunchPlan& plan, const LaunchArguments& arguments) const override;

 private:
  // Threads that launch the same executable at once take different blocks. More threads than blocks
  // build one on their stack.
  static constexpr std::size_t block_count = 4;
  struct alignas(64) Block {  // a cache line each
    std::atomic_flag busy;
    std::byte* memory = nullptr;
  };

  // What a launch is made of: for the plan that was prepared, or another with its own numbers.
  struct Numbers {
    ArgumentLayout layout;
    std::vector<Step> steps;
  };
  // Numbers that change from launch to launch, and their argument block.
  struct Other;

  void check(const LaunchArguments& arguments) const;
  void launch_on(std::byte* block, const Numbers& numbers, const LaunchArguments& arguments) const;
  void launch_on_stack(const LaunchArguments& arguments) const;
  // Where the workspaces of a launch begin.
  struct Workspaces {
    DevicePointer fresh = 0, kept = 0;
  };
  void encode_tensor_maps(std::byte* block, const ArgumentLayout& layout,
                          const LaunchArguments& arguments, const Workspaces& workspaces) const;
  void launch_step(const Step& step, void** parameters, Stream stream) const;

  std::shared_ptr<const Gpu> gpu_;
  std::shared_ptr<const CudaModule> module_;
  Numbers numbers_;
  std::byte* storage_ = nullptr;
  mutable std::array<Block, block_count> blocks_;
  ScratchPool<Other> others_;
};

// Resolves the plan's kernels in the module and checks what the driver would only report as "invalid
// value": parameters (Error invalid_manifest), grid, block, cluster and shared memory (Error
// launch_failed).
std::unique_ptr<const Executable> prepare_executable(std::shared_ptr<const Gpu> gpu,
                                                     std::shared_ptr<const CudaModule> module,
                                                     const LaunchPlan& plan);

}  // namespace cudadent::cuda
