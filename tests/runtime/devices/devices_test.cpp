#include "runtime/devices/devices.h"

#include <doctest/doctest.h>

#include <string>

namespace cudadent {

TEST_CASE("each backend of the table can be opened, or says why not") {
  const Environment environment = Environment::read();
  for (const BackendKind* kind : backend_kinds()) {
    CAPTURE(kind->name);
    std::string why_none;
    const int count = device_count(*kind, &why_none);
    CHECK((count > 0) == why_none.empty());
    for (int i = 0; i < count; ++i) {
      const auto backend = open_backend({kind, i}, environment);
      CHECK(backend->device().backend == kind->name);
      CHECK(name_of(backend->device()).text() == DeviceName{kind, i}.text());
    }
    if (count == 0) CHECK_THROWS_AS((void)open_backend({kind, 0}, environment), Error);
    // Looks for nothing before it is asked.
    CHECK(make_compiler(*kind, environment) != nullptr);
  }
  CHECK(device_count(default_backend_kind()) > 0);
}

TEST_CASE("another process is told which compiler this one would use") {
  Environment environment = Environment::read();
  const std::string host_compiler = environment.host_compiler;
  for (const BackendKind* kind : backend_kinds()) name_compiler(*kind, environment);
  CHECK(environment.host_compiler == host_compiler);
  bool found = true;
  try {
    (void)make_compiler(cuda_kind, Environment::read())->name();
  } catch (const Error&) {
    found = false;
  }
  if (found) CHECK_FALSE(environment.nvrtc.empty());
}

}  // namespace cudadent
