// Winners that ship with the library: text, read into memory when first needed. The last of a Store's layers.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cache/store.h"
#include "runtime/base/embedded_files.h"

namespace cudadent {

struct Environment;

class ShippedWinners {
 public:
  // Out of exports (cache/formats/portable.h); what else they hold is passed over. Throws
  // Error(invalid_argument) that names the file and the place.
  explicit ShippedWinners(std::span<const EmbeddedFile> files);

  // Of one tuning key on one kind of device, the newest first: of templates that have changed since, too.
  [[nodiscard]] std::span<const WinnerRecord> find(const std::string& op,
                                                   const std::string& tuning_key,
                                                   const std::string& device_kind) const;
  // By op, kind of device and tuning key. Their `shipped` is set, and `layer` names the file.
  [[nodiscard]] const std::vector<WinnerRecord>& all() const noexcept { return winners_; }

 private:
  std::vector<WinnerRecord> winners_;
};

using ShippedSource = std::function<std::shared_ptr<const ShippedWinners>()>;

// What StoreOptions::shipped is for a process with this environment: the winners embedded in the library, read
// once a process; those of the *.json files in the folder that CUDADENT_SHIPPED names; or null, when that is
// "none". What it returns throws what ShippedWinners does, and Error(cache_failed) for a folder that cannot be
// read.
ShippedSource shipped_source(const Environment& environment);

}  // namespace cudadent
