#include "runtime/operators/template_library.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "runtime/base/files.h"
#include "runtime/base/hash.h"
#include "runtime/language/backend_kind.h"

namespace cudadent {

namespace {

namespace fs = std::filesystem;

std::string text_of(const fs::path& path) {
  if (auto text = read_file(path)) return *std::move(text);
  throw Error(ErrorCode::invalid_manifest, fmt::format("cannot read {}", path.string()));
}

std::string_view first_folder(std::string_view path) { return path.substr(0, path.find('/')); }

}  // namespace

std::shared_ptr<const KernelTemplate> OperatorEntry::template_named(std::string_view name) const {
  const auto found = std::find_if(templates.begin(), templates.end(),
                                  [&](const auto& kernel) { return kernel->name == name; });
  return found == templates.end() ? nullptr : *found;
}

TemplateLibrary::TemplateLibrary(const std::vector<fs::path>& folders) {
  for (const auto& file : embedded_files())
    files_[std::string(file.path)] = {std::string(file.path),
                                      fmt::format("<built-in>/{}", file.path),
                                      [text = file.text] { return std::string(text); }};
  for (const auto& folder : folders) add_folder(folder);
}

namespace {

// Hands over every regular file below a folder, links followed, with its path relative to the folder.
class FolderWalk {
 public:
  using Visit = std::function<void(const fs::path& file, const fs::path& relative)>;
  explicit FolderWalk(Visit visit) : visit_(std::move(visit)) {}

  void walk(const fs::path& folder, const fs::path& relative, bool behind_link = false) {
    std::error_code error;
    // A link to a folder that we are in is a loop. The same folder by two names is none.
    const fs::path real = fs::canonical(folder, error);
    if (error || std::find(inside_.begin(), inside_.end(), real) != inside_.end()) return;
    if (behind_link && ++folders_behind_links_ > most_folders)
      throw Error(
          ErrorCode::invalid_argument,
          fmt::format("a template folder leads to more than {} folders behind links; the last was "
                      "{}. Do the links go round in circles?",
                      most_folders, folder.string()));
    inside_.push_back(real);
    constexpr auto options = fs::directory_options::skip_permission_denied;
    for (const auto& entry : fs::directory_iterator(folder, options, error)) {
      // A link that leads nowhere is neither; so are the lock files some editors make.
      if (entry.is_directory(error))
        walk(entry.path(), relative / entry.path().filename(),
             behind_link || entry.is_symlink(error));
      else if (entry.is_regular_file(error))
        visit_(entry.path(), relative / entry.path().filename());
    }
    inside_.pop_back();
  }

 private:
  static constexpr int most_folders = 10'000;

  Visit visit_;
  std::vector<fs::path> inside_;
  int folders_behind_links_ = 0;
};

// What a folder with an op.json is filed under: its own name, or if it is a link perhaps that of the folder
// it leads to, whichever the manifest has.
std::string operator_folder_name(const fs::path& folder) {
  std::string name = folder.filename().string(),
              real = fs::weakly_canonical(folder).filename().string();
  if (name == real) return name;
  const auto manifest =
      nlohmann::json::parse(text_of(folder / "op.json"), nullptr, false, true /* comments */);
  const auto op = manifest.find("op");  // the end, where it is no object
  return op != manifest.end() && *op == nlohmann::json(real) ? real : name;
}

}  // namespace

void TemplateLibrary::add_folder(const fs::path& folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error))
    throw Error(ErrorCode::invalid_argument,
                fmt::format("template folder {} is not a directory", folder.string()));
  fs::path absolute = fs::absolute(folder).lexically_normal();
  if (!absolute.has_filename()) absolute = absolute.parent_path();  // "ops/"
  // A folder that is itself an operator is filed under a name of its own.
  const fs::path prefix = fs::exists(absolute / "op.json", error)
                              ? fs::path(operator_folder_name(absolute))
                              : fs::path();
  const std::lock_guard lock(mutex_);
  FolderWalk([this](const fs::path& file, const fs::path& relative) {
    const std::string path = relative.generic_string();
    files_[path] = {path, file.string(), [file] { return text_of(file); }};
  }).walk(absolute, prefix);
  entries_.clear();
}

std::vector<std::string> TemplateLibrary::operators() {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> names;
  for (const auto& [path, file] : files_) {
    const std::string_view folder = first_folder(path);
    if (path == fmt::format("{}/op.json", folder) && !folder.starts_with('_'))
      names.emplace_back(folder);
  }
  return names;
}

std::shared_ptr<const OperatorEntry> TemplateLibrary::find(std::string_view op) {
  {
    const std::lock_guard lock(mutex_);
    if (const auto entry = entries_.find(op); entry != entries_.end()) return entry->second;
    if (files_.contains(fmt::format("{}/op.json", op)))
      return entries_.emplace(std::string(op), load(op)).first->second;
  }
  throw Error(ErrorCode::invalid_argument,
              fmt::format("no operator \"{}\"; known: {}. Add a folder of your own with "
                          "CUDADENT_TEMPLATE_PATH.",
                          op, fmt::join(operators(), ", ")));
}

namespace {

// Replaces each line `#include "folder/file"` by that file, once.
class IncludeExpander {
 public:
  using Read = std::function<std::string(const std::string& path, const std::string& includer)>;
  explicit IncludeExpander(Read read) : read_(std::move(read)) {}

  std::string expand(const std::string& path, const std::string& includer) {
    if (!seen_.insert(path).second) return {};
    std::istringstream lines(read_(path, includer));
    std::string expanded;
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with("#pragma once")) continue;
      if (const auto included = included_file(line); !included.empty())
        expanded += expand(included, path);
      else
        expanded += line + "\n";
    }
    return expanded;
  }

 private:
  static std::string included_file(std::string_view line) {
    constexpr std::string_view directive = "#include \"";
    if (!line.starts_with(directive)) return {};
    line.remove_prefix(directive.size());
    return std::string(line.substr(0, line.find('"')));
  }

  Read read_;
  std::set<std::string> seen_;
};

}  // namespace

std::shared_ptr<const OperatorEntry> TemplateLibrary::load(std::string_view op) {
  const auto read = [this](const std::string& path, const std::string& includer) {
    const auto file = files_.find(path);
    if (file == files_.end())
      throw Error(ErrorCode::invalid_manifest,
                  fmt::format("{}: no file {}. Only files of the template folders can be used.",
                              includer, path));
    return file->second.read();
  };
  auto entry = std::make_shared<OperatorEntry>();
  const File& manifest_file = files_.at(fmt::format("{}/op.json", op));
  auto manifest = std::make_shared<OperatorManifest>(
      parse_operator(manifest_file.read(), manifest_file.origin));
  if (manifest->name != op)
    throw Error(ErrorCode::invalid_manifest,
                fmt::format("{}: op: \"{}\" does not match its folder \"{}\"", manifest_file.origin,
                            manifest->name, op));
  entry->manifest = manifest;

  for (const auto& [path, file] : files_) {
    const bool is_beside_manifest =
        first_folder(path) == op && path.find('/', op.size() + 1) == std::string::npos;
    if (!is_beside_manifest || !path.ends_with(".json") || path == manifest_file.path) continue;
    const std::string text = file.read();
    auto kernel = std::make_shared<KernelTemplate>(parse_template(text, file.origin, *manifest));
    if (const auto other = entry->template_named(kernel->name))
      throw Error(ErrorCode::invalid_manifest,
                  fmt::format("{}: template: \"{}\" is also the name of {}", file.origin,
                              kernel->name, other->origin));
    IncludeExpander expander(read);
    kernel->shared_source =
        expander.expand(std::string(backend_kind(kernel->backend).shared_types), file.origin);
    kernel->source = expander.expand(fmt::format("{}/{}", op, kernel->source_file), file.origin);
    kernel->hash =
        content_hash({manifest->hash, kernel->hash, kernel->shared_source, kernel->source});
    entry->templates.push_back(std::move(kernel));
  }
  if (entry->templates.empty())
    throw Error(ErrorCode::invalid_manifest,
                fmt::format("{}: the operator has no template", manifest_file.origin));
  return entry;
}

}  // namespace cudadent
