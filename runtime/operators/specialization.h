// A specialization: template × problem × configuration × device, as source text, options and plan.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/language/device.h"
#include "runtime/language/manifest.h"
#include "runtime/operators/launch_plan.h"
#include "runtime/operators/problem.h"

namespace cudadent {

using Configuration = Values;

struct Specialization {
  std::shared_ptr<const KernelTemplate> kernel_template;
  Configuration configuration;
  std::string description;   // "gemm/wgmma BM=128 … for gemm m=… on sm_90a", for messages
  std::string architecture;  // compile target
  std::string source;        // whole: shared types, prelude, template
  std::vector<std::string> compile_options;
  std::vector<std::string> entries;  // kernels the binary must have
  std::string hash;                  // of source, options and architecture
  LaunchPlan plan;
};

// Throws Error(invalid_argument) when the configuration has unknown, missing or illegal values or
// breaks a constraint, and invalid_manifest when an expression fails.
Specialization specialize(std::shared_ptr<const KernelTemplate> kernel_template,
                          const Problem& problem, const Configuration& configuration,
                          const Device& device);

// The values an expression sees after the configuration: device facts, problem, parameters, lets.
Values evaluate_let(const KernelTemplate& kernel_template, const Problem& problem,
                    const Configuration& configuration, const Values& device_facts);

// The first `requires` that the problem or device fails, as text; empty when the template fits.
std::string why_unfit(const KernelTemplate& kernel_template, const Problem& problem,
                      const Device& device);
// The first constraint the configuration breaks, or value that is not allowed; empty when valid.
std::string why_invalid(const KernelTemplate& kernel_template, const Problem& problem,
                        const Configuration& configuration, const Device& device);
// The manifest's default, of values that are allowed, whether it is valid or not.
Configuration wanted_default(const KernelTemplate& kernel_template, const Problem& problem,
                             const Device& device);
// The manifest's default, moved to the nearest valid configuration when it is not itself valid;
// nothing when no configuration is valid. That can take a second: who has a tuning space asks that (default_index).
std::optional<Configuration> default_configuration(const KernelTemplate& kernel_template,
                                                   const Problem& problem, const Device& device);

}  // namespace cudadent
