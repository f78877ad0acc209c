"""The checks of the sources find what they are for. That the sources pass them is a step of scripts/test.sh."""

import importlib.util
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def load(name):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


rooms = load("check_rooms")
sizes = load("check_sizes")


@pytest.mark.parametrize("path, text, fault", [
    ("runtime/base/x.cpp", '#include "runtime/language/value.h"', "runtime/base is below runtime/language"),
    ("runtime/language/x.cpp", '#include "runtime/operators/problem.h"', "is below runtime/operators"),
    ("runtime/operators/x.h", '#include "runtime/backends/backend.h"', "is below runtime/backends"),
    ("runtime/launch/x.cpp", '#include "runtime/backends/cuda/driver.h"', "is below runtime/backends/cuda"),
    ("runtime/backends/host/x.cpp", '#include "runtime/backends/cuda/driver.h"', "is below"),
    ("runtime/launch/x.cpp", '#include "runtime/devices/devices.h"', "is below runtime/devices"),
    ("tuner/x.cpp", '#include "emulator/grid.h"', "tuner is below emulator"),
    ("api/x.cpp", '#include "cli/common.h"', "api is below cli"),
    ("tuner/x.cpp", '#include "nowhere/x.h"', "not a path from the root"),
    ("tuner/x.cpp", "bool b = device.backend == \"cuda\";", "compares a backend's name"),
    ("tuner/x.cpp", "bool b = \"host\" != name;", "compares a backend's name"),
    ("tuner/x.cpp", "int main() { return getenv(\"A\") != 0; }", "reads the environment"),
    ("tuner/x.cpp", "auto result = cuLaunchKernel;", "mentions cuLaunchKernel"),
])
def test_a_room_that_knows_too_much(path, text, fault):
    assert any(fault in found for found in rooms.faults_of(path, text)), rooms.faults_of(path, text)


@pytest.mark.parametrize("path, text", [
    ("runtime/language/x.cpp", '#include "runtime/base/hash.h"'),
    ("runtime/devices/x.cpp", '#include "runtime/backends/cuda/backend.h"'),
    ("runtime/backends/worker/x.cpp", '#include "runtime/devices/devices.h"'),
    ("cli/x.cpp", '#include "api/parts.h"'),
    ("tuner/x.cpp", '// device.backend == "cuda"'),
])
def test_a_room_that_knows_what_it_may(path, text):
    assert rooms.faults_of(path, text) == []


def test_a_function_of_a_class_in_another_room():
    files = {
        "include/cudadent/x.h": "class CUDADENT_API Public {\n  void a();\n  void b();\n};\n",
        "tuner/x.h": "class Inner {\n  void a();\n};\n",
        "tuner/x.cpp": "void Inner::a() {}\n",
        "api/a.cpp": "void Public::a() {}\n",
    }
    assert rooms.strangers_in(files) == []
    assert len(rooms.strangers_in({**files, "cache/y.cpp": "void Inner::b() {}\n"})) == 1
    assert len(rooms.strangers_in({**files, "cache/y.cpp": "void Public::b() {}\n"})) == 1


def test_functions_and_their_lengths():
    text = """
namespace a {
// not { a function
constexpr int table[] = {
    1,
};
struct S {
  int f() const {
    return [] {
      return 1;
    }();
  }
  S() : x_{1}, y_(2) {
    f();
  }
  int x_ = 0, y_ = 0;
};
template <class T>
std::vector<T> g(const T& t) noexcept {
  if (t) {
    return {};
  }
  return {t};
}
}  // namespace a
"""
    assert [(name, lines) for name, _, lines in sizes.functions_of(text)] == [("f", 5), ("S", 3), ("g", 6)]
