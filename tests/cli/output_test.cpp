#include "cli/output.h"

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <iterator>

#include "tests/support/child.h"
#include "tests/support/errors.h"
#include "tests/support/folder.h"

namespace cudadent::cli {
namespace {

using namespace tests;
namespace fs = std::filesystem;

std::string read(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::ptrdiff_t files_in(const Folder& folder) {
  return std::distance(fs::directory_iterator(folder.path()), {});
}

TEST_CASE("a file is written whole or not at all") {
  const Folder folder;
  const auto file = folder / "page.html";
  write_file(file, "first");
  fs::permissions(file, fs::perms(0640));
  write_file(file, "second");
  CHECK(read(file) == "second");
  CHECK(fs::status(file).permissions() == fs::perms(0640));
  CHECK(files_in(folder) == 1);
  fs::create_symlink(file, folder / "link");
  write_file(folder / "link", "third");
  CHECK(read(file) == "third");
  CHECK(fs::is_symlink(folder / "link"));
}

TEST_CASE("names that can be no file are wrong usage") {
  const Folder folder;
  const auto refuses = [](const fs::path& name, std::initializer_list<std::string_view> parts) {
    return fails(ErrorCode::invalid_argument, parts, [&] { write_file(name, "text"); });
  };
  CHECK(refuses(folder.path(), {"folder"}));
  CHECK(refuses(folder / "no/such/page.html", {"no/such/page.html", "No such file"}));
  CHECK(refuses("", {"empty"}));
}

TEST_CASE("a disk that is full is said, and leaves what was there") {
  CHECK_THROWS_WITH_AS(write_file("/dev/full", "text"),
                       "cannot write /dev/full: No space left on device", OutputError);
  const Folder folder;
  const auto file = folder / "page.html";
  write_file(file, "first");
  CHECK(wait_for(start_child([&] {
          std::signal(SIGXFSZ, SIG_IGN);
          const struct rlimit limit = {1000, 1000};
          ::setrlimit(RLIMIT_FSIZE, &limit);
          try {
            write_file(file, std::string(100'000, 'x'));
          } catch (const OutputError& error) {
            return mentions(error.what(), {"page.html", "File too large"});
          }
          return false;
        })) == 0);
  CHECK(read(file) == "first");
  CHECK(files_in(folder) == 1);
}

}  // namespace
}  // namespace cudadent::cli
