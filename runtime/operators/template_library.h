// The operators and templates a Runtime knows: the built-in ones and those of folders.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/embedded_files.h"
#include "runtime/base/fork.h"
#include "runtime/language/manifest.h"

namespace cudadent {

// An operator with its templates.
struct OperatorEntry {
  std::shared_ptr<const OperatorManifest> manifest;
  std::vector<std::shared_ptr<const KernelTemplate>> templates;

  // Null when it has none of that name.
  [[nodiscard]] std::shared_ptr<const KernelTemplate> template_named(std::string_view name) const;
};

// Operators are parsed when first asked for. Safe from many threads.
class TemplateLibrary {
 public:
  // Folders are laid over the built-in files in order: a folder may add operators and templates
  // and replace files of the same relative path. Folder layout: <op>/op.json, <op>/<template>.json.
  // A folder that holds op.json itself is one operator. Links are followed, but not round in circles.
  explicit TemplateLibrary(const std::vector<std::filesystem::path>& folders);
  void add_folder(const std::filesystem::path& folder);

  // Throws Error(invalid_argument) that lists the known operators, or invalid_manifest.
  std::shared_ptr<const OperatorEntry> find(std::string_view op);
  // Names of all operators, sorted; those whose name starts with '_' are internal and left out.
  std::vector<std::string> operators();

 private:
  struct File {
    std::string path, origin;
    std::function<std::string()> read;
  };
  ForkSafeMutex mutex_;
  std::map<std::string, File, std::less<>> files_;  // by relative path
  std::map<std::string, std::shared_ptr<const OperatorEntry>, std::less<>> entries_;
  std::shared_ptr<const OperatorEntry> load(std::string_view op);
};

}  // namespace cudadent
