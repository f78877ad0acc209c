// The module _cudadent, and what tuning returns. Users import the package cudadent.
#include <cudadent/cudadent.h>
#include <fmt/format.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings/errors.h"
#include "bindings/operator.h"
#include "bindings/runtime.h"
#include "bindings/values.h"
#include "runtime/language/value.h"
#include "tuner/budget.h"

namespace py = pybind11;

namespace cudadent::python {

namespace {

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

void bind_winner(py::module_& module) {
  py::class_<Winner>(module, "Winner", "The configuration to launch for a problem.")
      .def_readonly("template", &Winner::kernel_template, "The kernel template's name.")
      .def_property_readonly(
          "configuration", [](const Winner& self) { return to_python(self.configuration); },
          "A value for each of the template's parameters.")
      .def_readonly("seconds", &Winner::seconds,
                    "Median time, of the problem it was tuned for; 0 when it was never measured.")
      .def_property_readonly(
          "provenance", [](const Winner& self) { return std::string(name_of(self.provenance)); },
          "'tuned', 'cached', 'shipped', 'neighbour', 'nearest', 'other device', 'predicted' or "
          "'default'.")
      .def_readonly("predicted_seconds", &Winner::predicted_seconds,
                    "What it is predicted to take for the problem at hand, where it was chosen by "
                    "that; else 0.")
      .def("__repr__", [](const Winner& self) {
        return fmt::format("<cudadent.Winner {} {}: {}, {}>", self.kernel_template,
                           to_text(self.configuration), time_text(self.seconds),
                           name_of(self.provenance));
      });
  py::class_<Explanation>(module, "Explanation", "What a call on some tensors does.")
      .def_readonly("problem", &Explanation::problem)
      .def_readonly("winner", &Explanation::winner)
      .def("__repr__", [](const Explanation& self) {
        const Winner& winner = self.winner;
        const std::string predicted =
            winner.predicted_seconds > 0
                ? fmt::format(", predicted to take {}", time_text(winner.predicted_seconds))
                : std::string();
        return fmt::format("<cudadent.Explanation {}: {} {}, {}{}>", self.problem,
                           winner.kernel_template, to_text(winner.configuration),
                           name_of(winner.provenance), predicted);
      });
}

void bind_trial(py::module_& module) {
  py::class_<Trial>(module, "Trial", "One configuration, measured and verified, or failed and how.")
      .def_readonly("template", &Trial::kernel_template)
      .def_property_readonly("configuration",
                             [](const Trial& self) { return to_python(self.configuration); })
      .def_property_readonly(
          "status", [](const Trial& self) { return std::string(name_of(self.status)); },
          "'ok', or how it failed.")
      .def_readonly("message", &Trial::message)
      .def_readonly("samples", &Trial::samples, "Seconds, in the order taken.")
      .def_readonly("median", &Trial::median, "Seconds.")
      .def_readonly("spread", &Trial::spread, "Interquartile range over the median.")
      .def_readonly("error", &Trial::error, "Relative error of the worst output.")
      .def_readonly("compile_seconds", &Trial::compile_seconds)
      .def_readonly("from_cache", &Trial::from_cache, "Measured by an earlier run.")
      .def("__repr__", [](const Trial& self) {
        return fmt::format(
            "<cudadent.Trial {} {}: {}>", self.kernel_template, to_text(self.configuration),
            self.status == TrialStatus::ok ? time_text(self.median) : name_of(self.status));
      });
  py::class_<TuneProgress>(module, "TuneProgress", "How far a tuning run has come.")
      .def_readonly("measured", &TuneProgress::measured, "Trials so far, failed ones included.")
      .def_readonly("failed", &TuneProgress::failed)
      .def_readonly("candidates", &TuneProgress::candidates, "Size of the tuning space.")
      .def_readonly("elapsed", &TuneProgress::elapsed, "Seconds.")
      .def_readonly("best", &TuneProgress::best, "Seconds; 0 before the first success.")
      .def_readonly("phase", &TuneProgress::phase, "'search' or 'finalists'.");
}

void bind_tune_result(py::module_& module) {
  py::class_<TuneResult>(module, "TuneResult", "What a tuning run found, and what it took.")
      .def_readonly("problem", &TuneResult::problem)
      .def_readonly("winner", &TuneResult::winner)
      .def_property_readonly(
          "seconds", [](const TuneResult& self) { return self.winner.seconds; },
          "Median time of the winner.")
      .def_readonly("default_seconds", &TuneResult::default_seconds,
                    "Median time of the default configuration.")
      .def_property_readonly(
          "speedup",
          [](const TuneResult& self) { return rate(self.default_seconds, self.winner.seconds); },
          "Of the winner over the default configuration.")
      .def_readonly("flops", &TuneResult::flops, "Operations of the problem.")
      .def_readonly("bytes", &TuneResult::bytes, "Least memory traffic of the problem.")
      .def_property_readonly(
          "flops_per_second",
          [](const TuneResult& self) { return rate(self.flops, self.winner.seconds); })
      .def_property_readonly(
          "bytes_per_second",
          [](const TuneResult& self) { return rate(self.bytes, self.winner.seconds); })
      .def_readonly("trials", &TuneResult::trials)
      .def_readonly("candidates", &TuneResult::candidates, "Size of the tuning space.")
      .def_readonly("elapsed", &TuneResult::elapsed, "Seconds the run took, of which:")
      .def_readonly("enumerate_seconds", &TuneResult::enumerate_seconds)
      .def_readonly("compile_seconds", &TuneResult::compile_seconds)
      .def_readonly("measure_seconds", &TuneResult::measure_seconds)
      .def_readonly("verify_seconds", &TuneResult::verify_seconds)
      .def_readonly("search_seconds", &TuneResult::search_seconds)
      .def_readonly("idle_seconds", &TuneResult::idle_seconds)
      .def_readonly("prepare_seconds", &TuneResult::prepare_seconds)
      .def_readonly("ruled_out", &TuneResult::ruled_out,
                    "candidates that the prior, corrected by measurement, ruled out")
      .def_readonly("isolated", &TuneResult::isolated, "candidates ran in a worker process")
      .def_readonly("worker_restarts", &TuneResult::worker_restarts)
      .def_readonly("stopped_by", &TuneResult::stopped_by,
                    "'exhausted', 'time', 'trials', 'patience' or 'converged'.")
      .def("__repr__", describe);
}

}  // namespace

}  // namespace cudadent::python

PYBIND11_MODULE(_cudadent, module) {
  using namespace cudadent::python;
  bind_errors(module);
  bind_operator(module);
  bind_budget(module);
  bind_winner(module);
  bind_trial(module);
  bind_tune_result(module);
  bind_runtime(module);
  bind_defaults(module);
  module.attr("__version__") = std::string(cudadent::version());
}
