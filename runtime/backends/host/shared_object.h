// A shared object loaded from memory, so that a cached binary touches no disk. Keeps no file open.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace cudadent {

class SharedObject {
 public:
  // Throws Error(launch_failed) when the bytes cannot be loaded.
  explicit SharedObject(std::span<const std::byte> image);
  ~SharedObject();
  SharedObject(const SharedObject&) = delete;
  SharedObject& operator=(const SharedObject&) = delete;

  // Null when it exports none of that name.
  [[nodiscard]] void* symbol(const std::string& name) const;

 private:
  void* handle_ = nullptr;
};

}  // namespace cudadent
