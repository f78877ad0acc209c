// A shared object loaded from memory, so that a cached binary touches no disk.
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
  // Open as long as the object is loaded: the loader takes two objects of one name for the same, and the
  // number of an open file is not given twice.
  int file_ = -1;
  void* handle_ = nullptr;
};

}  // namespace cudadent
