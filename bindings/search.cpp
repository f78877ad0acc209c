#include "bindings/search.h"

#include <fmt/format.h>
#include <pybind11/stl.h>

#include <cmath>
#include <initializer_list>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "bindings/errors.h"
#include "bindings/values.h"

namespace py = pybind11;

namespace cudadent::python {

namespace {

std::string repr_of(py::handle object) { return py::repr(object).cast<std::string>(); }

std::string type_name_of(py::handle object) {
  return py::type::of(object).attr("__name__").cast<std::string>();
}

// An object of Python's whose last reference may go on a thread without the interpreter lock.
class Kept {
 public:
  explicit Kept(py::object object) : object_(std::move(object)) {}
  ~Kept() {
    if (Py_IsInitialized() == 0) {
      object_.release();  // it goes with the process
      return;
    }
    const py::gil_scoped_acquire acquire;
    object_ = py::object();
  }
  Kept(const Kept&) = delete;
  Kept& operator=(const Kept&) = delete;
  [[nodiscard]] const py::object& object() const noexcept { return object_; }
  // Calls the method, if there is one.
  template <class... Arguments>
  void call_if_there(const char* method, const Arguments&... arguments) const {
    if (py::hasattr(object_, method)) object_.attr(method)(arguments...);
  }

 private:
  py::object object_;
};

void check_methods(py::handle object, const char* what, std::initializer_list<const char*> needed,
                   const char* expected) {
  for (const char* method : needed)
    if (!py::hasattr(object, method) || PyCallable_Check(object.attr(method).ptr()) == 0)
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("{}={}: it has no method {}(); expected {}", what, repr_of(object),
                              method, expected));
  if (PyType_Check(object.ptr()) != 0)
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{}={}: a class; expected an object of it: {}()", what, repr_of(object),
                            object.attr("__name__").cast<std::string>()));
}

// ------------------------------------------------------------------------------- strategies

// What a strategy sees of the space; Python may keep it longer than the run.
struct SpaceObject {
  const CandidateSpace* space = nullptr;  // null: the run is over

  [[nodiscard]] const CandidateSpace& open() const {
    if (space == nullptr)
      throw Error(ErrorCode::invalid_argument, "the tuning run of this CandidateSpace is over");
    return *space;
  }
};

// Takes the interpreter lock for each call: the run goes on without it. What Python raises passes through the run as
// it is.
class PythonStrategy : public Strategy {
 public:
  PythonStrategy(std::shared_ptr<const Kept> theirs, const CandidateSpace& space,
                 std::uint64_t seed)
      : theirs_(std::move(theirs)), space_(std::make_shared<SpaceObject>(SpaceObject{&space})) {
    const py::gil_scoped_acquire acquire;
    try {
      theirs_->object().attr("begin")(space_, seed);
    } catch (...) {
      space_->space = nullptr;
      throw;
    }
  }
  ~PythonStrategy() override {
    const py::gil_scoped_acquire acquire;
    space_->space = nullptr;
  }
  PythonStrategy(const PythonStrategy&) = delete;
  PythonStrategy& operator=(const PythonStrategy&) = delete;

  std::vector<Candidate> ask(std::size_t count) override {
    const py::gil_scoped_acquire acquire;
    const py::object answer = theirs_->object().attr("ask")(count);
    if (PyObject_HasAttrString(answer.ptr(), "__iter__") == 0) refuse(answer);
    std::vector<Candidate> candidates;
    for (const py::handle item : answer) candidates.push_back(candidate_from(item, answer));
    return candidates;
  }

  void tell(const Observation& observation) override {
    const py::gil_scoped_acquire acquire;
    theirs_->object().attr("tell")(observation.candidate, observation.value);
  }

  [[nodiscard]] bool converged() const override {
    const py::gil_scoped_acquire acquire;
    return py::hasattr(theirs_->object(), "converged") &&
           py::bool_(theirs_->object().attr("converged")());
  }

 private:
  [[nodiscard]] Candidate candidate_from(py::handle item, const py::object& answer) const {
    if (PyIndex_Check(item.ptr()) == 0 || py::isinstance<py::bool_>(item)) refuse(answer);
    const auto number = py::reinterpret_steal<py::object>(PyNumber_Index(item.ptr()));
    if (!number) throw py::error_already_set();
    const unsigned long long candidate = PyLong_AsUnsignedLongLong(number.ptr());
    if (PyErr_Occurred() != nullptr) {  // negative, or too large for any space
      PyErr_Clear();
      reject("strategy " + type_name_of(theirs_->object()),
             fmt::format("proposed candidate {}, which is not in the space: it has {}, from 0",
                         repr_of(item), space_->open().size()));
    }
    return candidate;
  }

  [[noreturn]] void refuse(const py::object& answer) const {
    reject("strategy " + type_name_of(theirs_->object()),
           fmt::format("ask() returned {}; expected a list of candidates, whole numbers from 0",
                       repr_of(answer)));
  }

  const std::shared_ptr<const Kept> theirs_;
  const std::shared_ptr<SpaceObject> space_;
};

void set_strategy(TuneOptions& options, const py::object& strategy) {
  if (py::isinstance<py::str>(strategy)) {
    options.strategy = strategy.cast<std::string>();
    return;
  }
  check_methods(strategy, "strategy", {"begin", "ask", "tell"},
                "the name of a search, or an object with begin(space, seed), ask(count) and "
                "tell(candidate, value)");
  options.strategy = type_name_of(strategy);
  options.make_strategy = [kept = std::make_shared<const Kept>(strategy)](
                              const CandidateSpace& space,
                              std::uint64_t seed) -> std::unique_ptr<Strategy> {
    return std::make_unique<PythonStrategy>(kept, space, seed);
  };
}

// ------------------------------------------------------------------------------- observers

// A copy of a Measurement, since Python may keep it.
struct MeasurementObject {
  std::string problem;
  Trial trial;
  std::int64_t binary_bytes = 0, registers = -1;

  explicit MeasurementObject(const Measurement& measurement)
      : problem(measurement.problem),
        trial(measurement.trial),
        binary_bytes(measurement.binary_bytes),
        registers(measurement.registers) {}
};

class PythonObserver : public Observer {
 public:
  explicit PythonObserver(const py::object& theirs)
      : name_(type_name_of(theirs)), theirs_(theirs) {}

  [[nodiscard]] std::string name() const override { return name_; }
  void before(const Measurement& measurement) override { call("before", measurement); }
  void during(const Measurement& measurement) override { call("during", measurement); }

  Figures after(const Measurement& measurement) override {
    const py::gil_scoped_acquire acquire;
    const py::object answer = theirs_.object().attr("after")(MeasurementObject(measurement));
    if (!py::isinstance<py::dict>(answer)) refuse(answer);
    Figures figures;
    for (const auto& [name, value] : answer.cast<py::dict>()) {
      const bool is_number = PyFloat_Check(value.ptr()) || PyIndex_Check(value.ptr()) ||
                             py::hasattr(value, "__float__");
      if (!py::isinstance<py::str>(name) || !is_number) refuse(answer);
      figures[name.cast<std::string>()] = PyFloat_AsDouble(value.ptr());
      if (PyErr_Occurred() != nullptr) throw py::error_already_set();
    }
    return figures;
  }

 private:
  void call(const char* method, const Measurement& measurement) const {
    const py::gil_scoped_acquire acquire;
    theirs_.call_if_there(method, MeasurementObject(measurement));
  }

  [[noreturn]] void refuse(const py::object& answer) const {
    reject("observer " + name_,
           fmt::format("after() returned {}; expected a dictionary of numbers by name",
                       repr_of(answer)));
  }

  const std::string name_;
  const Kept theirs_;
};

std::shared_ptr<Observer> observer_from_python(const py::object& object) {
  if (py::isinstance<py::str>(object)) return make_observer(object.cast<std::string>());
  check_methods(object, "observer", {"after"},
                "the name of an observer, or an object with after(measurement)");
  return std::make_shared<PythonObserver>(object);
}

}  // namespace

void set_search(TuneOptions& options, const SearchArguments& search) {
  set_strategy(options, search.strategy);
  const bool is_one =
      py::isinstance<py::str>(search.observers) || !py::hasattr(search.observers, "__iter__");
  if (is_one)
    options.observers.push_back(observer_from_python(search.observers));
  else
    for (const py::handle item : search.observers)
      options.observers.push_back(observer_from_python(py::reinterpret_borrow<py::object>(item)));
  options.objective = search.objective;
  options.seed = search.seed;
}

void bind_search(py::module_& module) {
  py::class_<SpaceObject, std::shared_ptr<SpaceObject>>(
      module, "CandidateSpace",
      "What a search chooses from: every valid configuration of every template that fits the\n"
      "problem, by number from 0 to len(space) - 1. It is open as long as the run.")
      .def("__len__", [](const SpaceObject& self) { return self.open().size(); })
      .def(
          "template",
          [](const SpaceObject& self, Candidate candidate) {
            return self.open().kernel_template(candidate);
          },
          py::arg("candidate"), "The name of the candidate's kernel template.")
      .def(
          "configuration",
          [](const SpaceObject& self, Candidate candidate) {
            return to_python(self.open().configuration(candidate));
          },
          py::arg("candidate"), "A value for each of the template's parameters.")
      .def(
          "find",
          [](const SpaceObject& self, const std::string& kernel_template, const py::dict& values) {
            Values configuration;
            for (const auto& [name, value] : values)
              configuration[name.cast<std::string>()] =
                  value_from_python(value, name.cast<std::string>());
            return self.open().find(kernel_template, configuration);
          },
          py::arg("template"), py::arg("configuration"),
          "The candidate of these; None when there is none.")
      .def(
          "neighbours",
          [](const SpaceObject& self, Candidate candidate) {
            return self.open().neighbours(candidate);
          },
          py::arg("candidate"), "Those of the same template that differ in one parameter.")
      .def(
          "predicted_seconds",
          [](const SpaceObject& self, Candidate candidate) {
            return self.open().predicted_seconds(candidate);
          },
          py::arg("candidate"), "What the template's prior predicts; None when it has none.");
  py::class_<MeasurementObject>(module, "Measurement", "A candidate that is being measured.")
      .def_readonly("problem", &MeasurementObject::problem)
      .def_readonly("trial", &MeasurementObject::trial, "Its samples, median and spread so far.")
      .def_readonly("binary_bytes", &MeasurementObject::binary_bytes,
                    "Size of the compiled binary.")
      .def_readonly("registers", &MeasurementObject::registers,
                    "A thread's, the most of its kernels; -1 when unknown.");
}

}  // namespace cudadent::python
