#include "runtime/base/files.h"

#include <doctest/doctest.h>

#include "tests/support/folder.h"

namespace cudadent {
namespace {

TEST_CASE("a file is read byte by byte, and nothing is read of what is none") {
  const tests::Folder folder;
  const std::string bytes("a\0b\r\n\xff", 6);
  const std::filesystem::path file = folder.write("some", bytes);
  CHECK(read_file(file) == bytes);
  CHECK(read_file(folder.write("empty", "")) == "");
  CHECK_FALSE(read_file(folder.path() / "missing").has_value());
  CHECK_FALSE(read_file(folder.path()).has_value());
  CHECK(read_file("/proc/self/stat").value_or("").size() > 10);  // whose size is told as 0
}

}  // namespace
}  // namespace cudadent
