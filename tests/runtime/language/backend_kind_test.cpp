#include "runtime/language/backend_kind.h"

#include <doctest/doctest.h>

#include <set>
#include <string>

namespace cudadent {

TEST_CASE("every backend is in the table once and can be asked for by name") {
  std::set<std::string_view> names, suffixes;
  for (const BackendKind* kind : backend_kinds()) {
    CAPTURE(kind->name);
    CHECK(names.insert(kind->name).second);
    CHECK(suffixes.insert(kind->source_suffix).second);
    CHECK(find_backend_kind(kind->name) == kind);
    CHECK(&backend_kind(kind->name) == kind);
    CHECK_FALSE(kind->shared_types.empty());
    CHECK_FALSE(kind->constants.empty());
    CHECK_FALSE(kind->kind_of(Device{}).empty());
  }
  CHECK(names == std::set<std::string_view>{"cuda", "host"});
  CHECK(find_backend_kind("tpu") == nullptr);
  CHECK(find_backend_kind("") == nullptr);
  CHECK_THROWS_AS((void)backend_kind("tpu"), Error);
}

TEST_CASE("names of devices are read and written the same way") {
  for (const char* text : {"host", "cuda:0", "cuda:17"}) {
    const auto device = parse_device_name(text);
    REQUIRE(device);
    CHECK(device->text() == text);
  }
  CHECK(parse_device_name("cuda")->text() == "cuda:0");
  for (const char* text :
       {"", "tpu", "cuda:", "cuda:-1", "cuda:1x", "cuda:x", "host:0", "CUDA", "cuda "}) {
    CAPTURE(text);
    CHECK_FALSE(parse_device_name(text));
  }
  CHECK(device_name_forms() == "cuda, cuda:N or host");
}

TEST_CASE("a device's name and the place of its tensors say the same") {
  Device gpu;
  gpu.backend = "cuda";
  gpu.ordinal = 3;
  CHECK(name_of(gpu).text() == "cuda:3");
  CHECK(tensor_place(gpu) == 3);
  CHECK(device_at(3).text() == "cuda:3");
  Device host;
  host.backend = "host";
  CHECK(name_of(host).text() == "host");
  CHECK(tensor_place(host) == host_memory);
  CHECK(device_at(host_memory).text() == "host");
}

}  // namespace cudadent
