#include "bindings/results.h"

#include <cudadent/cudadent.h>
#include <fmt/format.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "bindings/values.h"
#include "cache/fields.h"
#include "runtime/language/value.h"
#include "tuner/budget.h"

namespace py = pybind11;

namespace cudadent::python {

namespace {

using python::to_python;
// Members as Python's values; more in values.h.
std::string to_python(TrialStatus status) { return std::string(name_of(status)); }
std::string to_python(Provenance provenance) { return std::string(name_of(provenance)); }
template <class Plain>
py::object to_python(const Plain& value) {
  return py::cast(value);
}

// A property for each member of the record.
template <class Record>
void bind_fields(py::class_<Record>& type) {
  each_field<Record>([&](const auto& field) {
    type.def_property_readonly(
        field.name, [member = field.member](const Record& self) { return to_python(self.*member); },
        field.doc);
  });
}

std::string time_text(double seconds) {
  if (seconds <= 0) return "not measured";
  if (seconds < 1e-3) return fmt::format("{:.2f} µs", seconds * 1e6);
  if (seconds < 1) return fmt::format("{:.3f} ms", seconds * 1e3);
  return fmt::format("{:.3f} s", seconds);
}

double rate(double amount, double seconds) { return seconds > 0 ? amount / seconds : 0; }

std::string describe(const TuneResult& result) {
  std::string text = fmt::format(
      "<cudadent.TuneResult {}: {} {} in {}", result.problem, result.winner.kernel_template,
      to_text(result.winner.configuration), time_text(result.winner.seconds));
  if (result.flops > 0)
    text += fmt::format(", {:.1f} GFLOP/s", rate(result.flops, result.winner.seconds) * 1e-9);
  return text + fmt::format("; {} trials in {:.1f} s, stopped by {}>", result.trials.size(),
                            result.elapsed, result.stopped_by);
}

void bind_budget(py::module_& module) {
  py::class_<Budget>(
      module, "Budget",
      "When a tuning run ends: at whichever limit is reached first.\n\n"
      "seconds  : wall-clock time; 0 or infinity: no limit. 60 when no limit is given at "
      "all\n"
      "trials   : measured configurations; 0: no limit\n"
      "patience : trials in a row that improve the best by less than 1 %; 0: no "
      "limit\n"
      "until_converged : end also when the search expects nothing more worth its "
      "time; a number of trials is always made")
      .def(py::init([](std::optional<double> seconds, std::int64_t trials, std::int64_t patience,
                       bool until_converged) {
             const bool limited = trials > 0 || patience > 0;
             const Budget budget{seconds.value_or(limited ? 0 : Budget{}.seconds), trials, patience,
                                 until_converged};
             check_budget(budget);
             return budget;
           }),
           py::arg("seconds") = py::none(), py::kw_only(), py::arg("trials") = 0,
           py::arg("patience") = 0, py::arg("until_converged") = true)
      .def_readonly("seconds", &Budget::seconds)
      .def_readonly("trials", &Budget::trials)
      .def_readonly("patience", &Budget::patience)
      .def_readonly("until_converged", &Budget::until_converged)
      .def("__repr__", [](const Budget& self) {
        return fmt::format("Budget(seconds={:g}, trials={}, patience={})", self.seconds,
                           self.trials, self.patience);
      });
}

std::string describe(const Winner& winner) {
  return fmt::format("<cudadent.Winner {} {}: {}, {}>", winner.kernel_template,
                     to_text(winner.configuration), time_text(winner.seconds),
                     name_of(winner.provenance));
}

std::string describe(const Explanation& explanation) {
  const Winner& winner = explanation.winner;
  const std::string predicted =
      winner.predicted_seconds > 0
          ? fmt::format(", predicted to take {}", time_text(winner.predicted_seconds))
          : std::string();
  return fmt::format("<cudadent.Explanation {}: {} {}, {}{}>", explanation.problem,
                     winner.kernel_template, to_text(winner.configuration),
                     name_of(winner.provenance), predicted);
}

std::string describe(const Trial& trial) {
  return fmt::format(
      "<cudadent.Trial {} {}: {}>", trial.kernel_template, to_text(trial.configuration),
      trial.status == TrialStatus::ok ? time_text(trial.median) : name_of(trial.status));
}

template <class Record>
py::class_<Record> bind_record(py::module_& module, const char* name, const char* doc) {
  py::class_<Record> type(module, name, doc);
  bind_fields(type);
  return type;
}

void bind_tune_result(py::module_& module) {
  bind_record<TuneResult>(module, "TuneResult", "What a tuning run found, and what it took.")
      .def_property_readonly(
          "seconds", [](const TuneResult& self) { return self.winner.seconds; },
          "Median time of the winner.")
      .def_property_readonly(
          "speedup",
          [](const TuneResult& self) { return rate(self.default_seconds, self.winner.seconds); },
          "Of the winner over the default configuration.")
      .def_property_readonly(
          "flops_per_second",
          [](const TuneResult& self) { return rate(self.flops, self.winner.seconds); })
      .def_property_readonly(
          "bytes_per_second",
          [](const TuneResult& self) { return rate(self.bytes, self.winner.seconds); })
      .def("__repr__", [](const TuneResult& self) { return describe(self); });
}

}  // namespace

void bind_results(py::module_& module) {
  bind_budget(module);
  bind_record<Winner>(module, "Winner", "The configuration to launch for a problem.")
      .def("__repr__", [](const Winner& self) { return describe(self); });
  py::class_<Explanation>(module, "Explanation", "What a call on some tensors does.")
      .def_readonly("problem", &Explanation::problem)
      .def_readonly("winner", &Explanation::winner)
      .def("__repr__", [](const Explanation& self) { return describe(self); });
  bind_record<Trial>(module, "Trial",
                     "One configuration, measured and verified, or failed and how.")
      .def("__repr__", [](const Trial& self) { return describe(self); });
  bind_record<TuneProgress>(module, "TuneProgress", "How far a tuning run has come.");
  bind_tune_result(module);
}

}  // namespace cudadent::python
