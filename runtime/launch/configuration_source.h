// What runtime/ asks of the rooms above it: which configuration to launch, and where binaries are
// kept.
#pragma once

#include <cudadent/cudadent.h>

#include <memory>
#include <optional>
#include <string>

#include "runtime/backends/backend.h"
#include "runtime/operators/problem.h"
#include "runtime/operators/template_library.h"

namespace cudadent {

struct Choice {
  std::shared_ptr<const KernelTemplate> kernel_template;
  Values configuration;
  double seconds = 0;
  Provenance provenance = Provenance::defaulted;
  double predicted_seconds = 0;  // as Winner's
};

class ConfigurationSource {
 public:
  virtual ~ConfigurationSource() = default;
  // Throws Error(not_tuned, unsupported, …). May take as long as a tuning run.
  virtual Choice choose(const OperatorEntry& op, const Problem& problem) = 0;
};

class BinaryStore {
 public:
  virtual ~BinaryStore() = default;
  // The newest binary of this specialization, by whichever compiler; nothing when there is none.
  virtual std::optional<Binary> find_binary(const std::string& specialization_hash) = 0;
  virtual void put_binary(const Binary& binary) = 0;
};

// The binary from the store, else compiled and stored.
Binary obtain_binary(Backend& backend, BinaryStore& store, const Specialization& specialization);

}  // namespace cudadent
