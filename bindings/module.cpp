// The module _cudadent: Runtime, tuning and what they return. Users import the package cudadent.
#include <cudadent/cudadent.h>
#include <fmt/format.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <algorithm>

#include "api/parts.h"
#include "bindings/errors.h"
#include "bindings/operator.h"
#include "bindings/session.h"
#include "bindings/values.h"
#include "runtime/language/value.h"
#include "tuner/budget.h"

namespace py = pybind11;

namespace cudadent::python {

namespace {

// ------------------------------------------------------------------------------- options

OnMiss on_miss_from_python(const std::string& name) {
  if (name == "tune") return OnMiss::tune;
  if (name == "nearest") return OnMiss::nearest;
  if (name == "background") return OnMiss::background;
  if (name == "fail") return OnMiss::fail;
  throw Error(
      ErrorCode::invalid_argument,
      fmt::format("on_miss='{}': expected 'tune', 'nearest', 'background' or 'fail'", name));
}

Isolation isolation_from_python(const std::string& name) {
  if (name == "auto") return Isolation::automatic;
  if (name == "worker") return Isolation::worker;
  if (name == "in_process") return Isolation::in_process;
  throw Error(ErrorCode::invalid_argument,
              fmt::format("isolation='{}': expected 'auto', 'worker' or 'in_process'", name));
}

std::vector<std::string> names_from_python(py::handle object) {
  if (py::isinstance<py::str>(object)) return {object.cast<std::string>()};
  return object.cast<std::vector<std::string>>();
}

std::vector<std::filesystem::path> paths_from_python(py::handle object) {
  std::vector<std::filesystem::path> paths;
  const bool is_one = py::isinstance<py::str>(object) || py::hasattr(object, "__fspath__");
  if (is_one) return {object.cast<std::filesystem::path>()};
  for (const py::handle path : object) paths.push_back(path.cast<std::filesystem::path>());
  return paths;
}

std::string cache_from_python(py::handle object) {
  return object.is_none() ? std::string() : object.cast<std::filesystem::path>().string();
}

RuntimeOptions runtime_options(const std::string& device, py::handle cache,
                               py::handle template_paths, const std::string& on_miss,
                               py::handle budget, const std::string& strategy, std::uint64_t seed,
                               py::handle layers, bool shipped_winners,
                               const std::string& isolation, double wait_for_others) {
  RuntimeOptions options;
  options.device = device;
  options.cache = cache_from_python(cache);
  options.template_paths = paths_from_python(template_paths);
  options.on_miss = on_miss_from_python(on_miss);
  options.tuning.budget = budget_from_python(budget);
  options.tuning.strategy = strategy;
  options.tuning.seed = seed;
  options.tuning.isolation = isolation_from_python(isolation);
  options.layers = paths_from_python(layers);
  options.shipped_winners = shipped_winners;
  options.wait_for_others = wait_for_others;
  check_options(options.tuning);
  check_wait_for_others(wait_for_others);
  return options;
}

// A tuning run's problem: a dictionary, keywords, or both.
Values problem_from_python(Runtime& runtime, const std::string& op, py::handle problem,
                           const py::dict& more) {
  const OperatorInfo info = runtime.op(op).info();
  Values values;
  const auto add = [&](const py::dict& given) {
    for (const auto& [key, value] : given) {
      const auto name = key.cast<std::string>();
      const bool is_dtype = std::any_of(info.dtypes.begin(), info.dtypes.end(),
                                        [&](const auto& dtype) { return dtype.name == name; });
      if (is_dtype)
        values[name] = std::string(name_of(data_type_from_python(value, name)));
      else
        values[name] = value_from_python(value, name);
    }
  };
  if (!problem.is_none()) add(py::dict(py::reinterpret_borrow<py::object>(problem)));
  add(more);
  return values;
}

// Forwards to a Python callable from a thread without the lock; what it raises ends the run.
std::function<void(const TuneProgress&)> progress_to_python(py::handle callable) {
  if (callable.is_none()) return {};
  return [callable](const TuneProgress& progress) {
    const py::gil_scoped_acquire acquire;
    try {
      // A copy, since Python may keep it longer than the call.
      callable(py::cast(progress, py::return_value_policy::copy));
    } catch (py::error_already_set& error) {
      keep_callback_exception(error);
    }
  };
}

// ------------------------------------------------------------------------------- runtime

TuneResult tune(const std::shared_ptr<Session>& session, const std::string& op,
                const py::object& problem, const py::object& budget, const std::string& strategy,
                std::uint64_t seed, const py::object& on_progress, const py::object& templates,
                bool fresh, int compile_workers, const std::optional<std::string>& isolation,
                double compile_timeout, double run_timeout, const py::kwargs& more) {
  const std::shared_ptr<Runtime> runtime = session->runtime();
  const Values values = problem_from_python(*runtime, op, problem, more);
  TuneOptions options;
  options.budget = budget.is_none() ? runtime->parts().tuning.budget : budget_from_python(budget);
  options.strategy = strategy;
  options.seed = seed;
  options.kernel_templates = names_from_python(templates);
  options.fresh = fresh;
  options.compile_workers = compile_workers;
  options.isolation =
      isolation ? isolation_from_python(*isolation) : runtime->parts().tuning.isolation;
  options.compile_timeout = compile_timeout;
  options.run_timeout = run_timeout;
  options.on_progress = progress_to_python(on_progress);
  options.cancelled = is_interrupted;
  return without_interpreter_lock([&] { return runtime->tune(op, values, options); });
}

std::optional<Winner> winner(const std::shared_ptr<Session>& session, const std::string& op,
                             const py::object& problem, const py::kwargs& more) {
  const std::shared_ptr<Runtime> runtime = session->runtime();
  const Values values = problem_from_python(*runtime, op, problem, more);
  return without_interpreter_lock([&] { return runtime->winner(op, values); });
}

Values options_from_python(const py::kwargs& given) {
  Values options;
  for (const auto& [name, value] : given)
    if (!value.is_none())
      options[name.cast<std::string>()] = value_from_python(value, name.cast<std::string>());
  return options;
}

// The Python class Runtime. It also keeps the operators asked for as attributes: runtime.gemm.
struct RuntimeObject {
  std::shared_ptr<Session> session;
  std::map<std::string, py::object> operators;

  py::object attribute(const std::string& name) {
    if (const auto found = operators.find(name); found != operators.end()) return found->second;
    const auto known = session->runtime()->parts().library.operators();
    if (std::find(known.begin(), known.end(), name) == known.end())
      throw py::attribute_error(
          fmt::format("'Runtime' has no attribute and knows no operator '{}'", name));
    return operators.emplace(name, make_operator(session, name, {})).first->second;
  }
};

constexpr const char* runtime_doc =
    "A device, the kernel templates for it, and the database that remembers which configurations\n"
    "run fastest there. Operators of a Runtime are its attributes: runtime.gemm(a, b).\n\n"
    "device         : 'auto' (a GPU if there is one, else the host), 'host', 'cuda', 'cuda:1'\n"
    "cache          : the database file; None: $CUDADENT_CACHE, else ~/.cache/cudadent;\n"
    "                 ':memory:' remembers nothing beyond this object's life\n"
    "template_paths : folders with operators and kernel templates besides the built-in ones\n"
    "on_miss        : what a call does for a problem that nothing is known of: 'tune' it within\n"
    "                 the budget; take what is known of the 'nearest' problems, else a default;\n"
    "                 take that and tune in the 'background'; or 'fail'\n"
    "budget         : when tuning ends: seconds (infinity: no limit), '30s', '5m', '200 trials' "
    "or\n"
    "                 a Budget\n"
    "strategy, seed : how tuning searches\n"
    "layers         : databases that are only read, where `cache` knows no winner\n"
    "shipped_winners: whether winners that ship with cudadent are used where neither has one;\n"
    "                 CUDADENT_SHIPPED=none says no, too\n"
    "isolation      : where candidates run: in a 'worker' process, 'in_process', or 'auto': in a\n"
    "                 worker where one can be started\n"
    "wait_for_others: seconds to wait while another process tunes the same problem\n\n"
    "A database that cannot be used is a warning, once; what is found out is then kept in memory.\n"
    "Use it in a with statement, or close() it, to let go of the device and the database.\n"
    "Raises Error: device_unavailable, invalid_manifest.";

constexpr const char* op_doc =
    "op(name, **options) -> Operator\n\n"
    "An operator by name, with options bound: runtime.op('gemm', activation='relu').\n"
    "Raises InvalidArgument for an unknown operator or option.";

constexpr const char* tune_doc =
    "tune(op, problem=None, *, budget=None, strategy='auto', seed=0, on_progress=None,\n"
    "     templates=(), fresh=False, compile_workers=0, isolation=None, compile_timeout=60,\n"
    "     run_timeout=10, **problem) -> TuneResult\n\n"
    "Searches for the configuration that runs a problem fastest, and remembers it. A winner that\n"
    "is known is tried first, also one that ships with cudadent; it is no reason not to search.\n\n"
    "problem         : dimensions (elements), data types and options by name, as a dictionary, as\n"
    "                  keywords or both: tune('gemm', m=512, n=512, k=512, dtype='f32')\n"
    "budget          : seconds, '30s', '5m', '200 trials' or a Budget; None: the Runtime's\n"
    "strategy, seed  : how to search\n"
    "on_progress     : called with a TuneProgress after each trial; an exception ends the run\n"
    "templates       : names of the kernel templates to try; empty: all that fit\n"
    "fresh           : measure again what the database already knows\n"
    "compile_workers : compiles at once; 0: as many as there are cores\n"
    "isolation       : as a Runtime's, whose it is by default\n"
    "compile_timeout : seconds one candidate may take to compile, in worker processes\n"
    "run_timeout     : seconds one launch of a candidate may take, in worker processes\n\n"
    "Ctrl-C ends the run; what was measured until then stays in the database.";

constexpr const char* winner_doc =
    "winner(op, problem=None, **problem) -> Winner | None\n\n"
    "The configuration that a call on such tensors would use now, without tuning.";

void bind_runtime(py::module_& module) {
  py::class_<RuntimeObject, std::shared_ptr<RuntimeObject>>(module, "Runtime", runtime_doc)
      .def(py::init([](const std::string& device, const py::object& cache,
                       const py::object& template_paths, const std::string& on_miss,
                       const py::object& budget, const std::string& strategy, std::uint64_t seed,
                       const py::object& layers, bool shipped_winners, const std::string& isolation,
                       double wait_for_others) {
             auto session = std::make_shared<Session>(
                 runtime_options(device, cache, template_paths, on_miss, budget, strategy, seed,
                                 layers, shipped_winners, isolation, wait_for_others));
             return std::make_shared<RuntimeObject>(RuntimeObject{std::move(session), {}});
           }),
           py::arg("device") = "auto", py::kw_only(), py::arg("cache") = py::none(),
           py::arg("template_paths") = py::tuple(), py::arg("on_miss") = "tune",
           py::arg("budget") = py::none(), py::arg("strategy") = "auto", py::arg("seed") = 0,
           py::arg("layers") = py::tuple(), py::arg("shipped_winners") = true,
           py::arg("isolation") = "auto",
           py::arg("wait_for_others") = RuntimeOptions().wait_for_others)
      .def(
          "op",
          [](const RuntimeObject& self, const std::string& name, const py::kwargs& options) {
            return make_operator(self.session, name, options_from_python(options));
          },
          op_doc)
      .def(
          "tune",
          [](const RuntimeObject& self, const std::string& op, const py::object& problem,
             const py::object& budget, const std::string& strategy, std::uint64_t seed,
             const py::object& on_progress, const py::object& templates, bool fresh,
             int compile_workers, const std::optional<std::string>& isolation,
             double compile_timeout, double run_timeout, const py::kwargs& more) {
            return tune(self.session, op, problem, budget, strategy, seed, on_progress, templates,
                        fresh, compile_workers, isolation, compile_timeout, run_timeout, more);
          },
          py::arg("op"), py::arg("problem") = py::none(), py::kw_only(),
          py::arg("budget") = py::none(), py::arg("strategy") = "auto", py::arg("seed") = 0,
          py::arg("on_progress") = py::none(), py::arg("templates") = py::tuple(),
          py::arg("fresh") = false, py::arg("compile_workers") = 0,
          py::arg("isolation") = py::none(),
          py::arg("compile_timeout") = TuneOptions().compile_timeout,
          py::arg("run_timeout") = TuneOptions().run_timeout, tune_doc)
      .def(
          "winner",
          [](const RuntimeObject& self, const std::string& op, const py::object& problem,
             const py::kwargs& more) { return winner(self.session, op, problem, more); },
          py::arg("op"), py::arg("problem") = py::none(), winner_doc)
      .def(
          "operators",
          [](const RuntimeObject& self) {
            return self.session->runtime()->parts().library.operators();
          },
          "Names of all operators, sorted.")
      .def_property_readonly(
          "device_name",
          [](const RuntimeObject& self) { return self.session->runtime()->device_name(); },
          "What the device calls itself, such as 'NVIDIA H200'.")
      .def_property_readonly("closed",
                             [](const RuntimeObject& self) { return !self.session->is_open(); })
      .def(
          "close",
          [](RuntimeObject& self) {
            self.operators.clear();
            self.session->close();
          },
          "Lets go of the device and the database. Operators of this Runtime then fail.")
      .def("__enter__", [](py::object self) { return self; })
      .def("__exit__",
           [](RuntimeObject& self, const py::args&) {
             self.operators.clear();
             self.session->close();
           })
      .def("__getattr__", &RuntimeObject::attribute)
      .def("__repr__", [](const RuntimeObject& self) {
        return self.session->is_open()
                   ? fmt::format("<cudadent.Runtime on {}>", self.session->runtime()->device_name())
                   : std::string("<cudadent.Runtime, closed>");
      });
}

// ------------------------------------------------------------------------------- results

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

// ------------------------------------------------------------------------------- module functions

void bind_defaults(py::module_& module) {
  module.def(
      "op",
      [](const std::string& name, const py::kwargs& options) {
        return make_operator(nullptr, name, options_from_python(options));
      },
      "op(name, **options) -> Operator\n\n"
      "An operator by name, with options bound. Each call of it runs on the device its tensors\n"
      "are on, with that device's default runtime.");
  module.def(
      "tune",
      [](const std::string& op, const py::object& problem, const std::optional<std::string>& device,
         const py::object& budget, const std::string& strategy, std::uint64_t seed,
         const py::object& on_progress, const py::object& templates, bool fresh,
         int compile_workers, const std::optional<std::string>& isolation, double compile_timeout,
         double run_timeout, const py::kwargs& more) {
        auto& defaults = Defaults::instance();
        const std::string& name = device ? *device : defaults.options().device;
        return tune(defaults.session(name), op, problem, budget, strategy, seed, on_progress,
                    templates, fresh, compile_workers, isolation, compile_timeout, run_timeout,
                    more);
      },
      py::arg("op"), py::arg("problem") = py::none(), py::kw_only(), py::arg("device") = py::none(),
      py::arg("budget") = py::none(), py::arg("strategy") = "auto", py::arg("seed") = 0,
      py::arg("on_progress") = py::none(), py::arg("templates") = py::tuple(),
      py::arg("fresh") = false, py::arg("compile_workers") = 0, py::arg("isolation") = py::none(),
      py::arg("compile_timeout") = TuneOptions().compile_timeout,
      py::arg("run_timeout") = TuneOptions().run_timeout, tune_doc);
  module.def(
      "operators", [] { return Defaults::instance().library()->operators(); },
      "Names of all operators that default runtimes know, sorted.");
  module.def(
      "set_default_options",
      [](const std::string& device, const py::object& cache, const py::object& template_paths,
         const std::string& on_miss, const py::object& budget, const std::string& strategy,
         std::uint64_t seed, const py::object& layers, bool shipped_winners,
         const std::string& isolation, double wait_for_others) {
        Defaults::instance().set_options(
            runtime_options(device, cache, template_paths, on_miss, budget, strategy, seed, layers,
                            shipped_winners, isolation, wait_for_others));
      },
      py::kw_only(), py::arg("device") = "auto", py::arg("cache") = py::none(),
      py::arg("template_paths") = py::tuple(), py::arg("on_miss") = "tune",
      py::arg("budget") = py::none(), py::arg("strategy") = "auto", py::arg("seed") = 0,
      py::arg("layers") = py::tuple(), py::arg("shipped_winners") = true,
      py::arg("isolation") = "auto", py::arg("wait_for_others") = RuntimeOptions().wait_for_others,
      "Options of the runtimes that module-level calls use; see Runtime. What is left out takes\n"
      "its default. `device` is the one of module-level tune(); operators run where their tensors\n"
      "are. Runtimes made before are let go of.");
  py::module_::import("atexit").attr("register")(
      py::cpp_function([] { Defaults::instance().close(); }));
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
