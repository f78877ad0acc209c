#include "bindings/runtime.h"

#include <cudadent/cudadent.h>
#include <fmt/format.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <algorithm>

#include "api/parts.h"
#include "bindings/errors.h"
#include "bindings/operator.h"
#include "bindings/search.h"
#include "bindings/session.h"
#include "bindings/values.h"
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
                               py::handle budget, const SearchArguments& search, py::handle layers,
                               bool shipped_winners, const std::string& isolation,
                               double wait_for_others) {
  RuntimeOptions options;
  options.device = device;
  options.cache = cache_from_python(cache);
  options.template_paths = paths_from_python(template_paths);
  options.on_miss = on_miss_from_python(on_miss);
  options.tuning.budget = budget_from_python(budget);
  set_search(options.tuning, search);
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
                const py::object& problem, const py::object& budget, const SearchArguments& search,
                const py::object& on_progress, const py::object& templates, bool fresh,
                int compile_workers, const std::optional<std::string>& isolation,
                double compile_timeout, double run_timeout, const py::kwargs& more) {
  const std::shared_ptr<Runtime> runtime = session->runtime();
  const Values values = problem_from_python(*runtime, op, problem, more);
  TuneOptions options;
  options.budget = budget.is_none() ? runtime->parts().tuning.budget : budget_from_python(budget);
  set_search(options, search);
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
    "strategy, observers, objective, seed : how tuning searches, see tune()\n"
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
    "tune(op, problem=None, *, budget=None, strategy='auto', observers=(), objective='seconds',\n"
    "     seed=0, on_progress=None, templates=(), fresh=False, compile_workers=0, isolation=None, "
    "compile_timeout=60,\n"
    "     run_timeout=10, **problem) -> TuneResult\n\n"
    "Searches for the configuration that runs a problem fastest, and remembers it. A winner that\n"
    "is known is tried first, also one that ships with cudadent; it is no reason not to search.\n\n"
    "problem         : dimensions (elements), data types and options by name, as a dictionary, as\n"
    "                  keywords or both: tune('gemm', m=512, n=512, k=512, dtype='f32')\n"
    "budget          : seconds, '30s', '5m', '200 trials' or a Budget; None: the Runtime's\n"
    "strategy        : how to search: a name, or an object of yours with begin(space, seed),\n"
    "                  ask(count), which returns candidates, and tell(candidate, value), where\n"
    "                  value is None for what failed; and maybe converged()\n"
    "observers       : names, or objects of yours with after(measurement), which returns figures\n"
    "                  by name, and maybe before(measurement) and during(measurement)\n"
    "objective       : what the winner has least of: 'seconds', or the figure of an observer\n"
    "seed            : of inputs and search\n"
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

using RuntimeClass = py::class_<RuntimeObject, std::shared_ptr<RuntimeObject>>;

void bind_calls(RuntimeClass& runtime) {
  runtime
      .def(
          "op",
          [](const RuntimeObject& self, const std::string& name, const py::kwargs& options) {
            return make_operator(self.session, name, options_from_python(options));
          },
          op_doc)
      .def(
          "tune",
          [](const RuntimeObject& self, const std::string& op, const py::object& problem,
             const py::object& budget, const py::object& strategy, const py::object& observers,
             const std::string& objective, std::uint64_t seed, const py::object& on_progress,
             const py::object& templates, bool fresh, int compile_workers,
             const std::optional<std::string>& isolation, double compile_timeout,
             double run_timeout, const py::kwargs& more) {
            return tune(self.session, op, problem, budget, {strategy, observers, objective, seed},
                        on_progress, templates, fresh, compile_workers, isolation, compile_timeout,
                        run_timeout, more);
          },
          py::arg("op"), py::arg("problem") = py::none(), py::kw_only(),
          py::arg("budget") = py::none(), py::arg("strategy") = "auto",
          py::arg("observers") = py::tuple(), py::arg("objective") = TuneOptions().objective,
          py::arg("seed") = 0, py::arg("on_progress") = py::none(),
          py::arg("templates") = py::tuple(), py::arg("fresh") = false,
          py::arg("compile_workers") = 0, py::arg("isolation") = py::none(),
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
          "Names of all operators, sorted.");
}

void bind_life(RuntimeClass& runtime) {
  runtime
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

}  // namespace

void bind_runtime(py::module_& module) {
  RuntimeClass runtime(module, "Runtime", runtime_doc);
  runtime.def(
      py::init([](const std::string& device, const py::object& cache,
                  const py::object& template_paths, const std::string& on_miss,
                  const py::object& budget, const py::object& strategy, const py::object& observers,
                  const std::string& objective, std::uint64_t seed, const py::object& layers,
                  bool shipped_winners, const std::string& isolation, double wait_for_others) {
        auto session = std::make_shared<Session>(runtime_options(
            device, cache, template_paths, on_miss, budget, {strategy, observers, objective, seed},
            layers, shipped_winners, isolation, wait_for_others));
        return std::make_shared<RuntimeObject>(RuntimeObject{std::move(session), {}});
      }),
      py::arg("device") = "auto", py::kw_only(), py::arg("cache") = py::none(),
      py::arg("template_paths") = py::tuple(), py::arg("on_miss") = "tune",
      py::arg("budget") = py::none(), py::arg("strategy") = "auto",
      py::arg("observers") = py::tuple(), py::arg("objective") = TuneOptions().objective,
      py::arg("seed") = 0, py::arg("layers") = py::tuple(), py::arg("shipped_winners") = true,
      py::arg("isolation") = "auto", py::arg("wait_for_others") = RuntimeOptions().wait_for_others);
  bind_calls(runtime);
  bind_life(runtime);
}

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
         const py::object& budget, const py::object& strategy, const py::object& observers,
         const std::string& objective, std::uint64_t seed, const py::object& on_progress,
         const py::object& templates, bool fresh, int compile_workers,
         const std::optional<std::string>& isolation, double compile_timeout, double run_timeout,
         const py::kwargs& more) {
        auto& defaults = Defaults::instance();
        const std::string& name = device ? *device : defaults.options().device;
        return tune(defaults.session(name), op, problem, budget,
                    {strategy, observers, objective, seed}, on_progress, templates, fresh,
                    compile_workers, isolation, compile_timeout, run_timeout, more);
      },
      py::arg("op"), py::arg("problem") = py::none(), py::kw_only(), py::arg("device") = py::none(),
      py::arg("budget") = py::none(), py::arg("strategy") = "auto",
      py::arg("observers") = py::tuple(), py::arg("objective") = TuneOptions().objective,
      py::arg("seed") = 0, py::arg("on_progress") = py::none(), py::arg("templates") = py::tuple(),
      py::arg("fresh") = false, py::arg("compile_workers") = 0, py::arg("isolation") = py::none(),
      py::arg("compile_timeout") = TuneOptions().compile_timeout,
      py::arg("run_timeout") = TuneOptions().run_timeout, tune_doc);
  module.def(
      "operators", [] { return Defaults::instance().library()->operators(); },
      "Names of all operators that default runtimes know, sorted.");
  module.def(
      "set_default_options",
      [](const std::string& device, const py::object& cache, const py::object& template_paths,
         const std::string& on_miss, const py::object& budget, const py::object& strategy,
         const py::object& observers, const std::string& objective, std::uint64_t seed,
         const py::object& layers, bool shipped_winners, const std::string& isolation,
         double wait_for_others) {
        Defaults::instance().set_options(runtime_options(
            device, cache, template_paths, on_miss, budget, {strategy, observers, objective, seed},
            layers, shipped_winners, isolation, wait_for_others));
      },
      py::kw_only(), py::arg("device") = "auto", py::arg("cache") = py::none(),
      py::arg("template_paths") = py::tuple(), py::arg("on_miss") = "tune",
      py::arg("budget") = py::none(), py::arg("strategy") = "auto",
      py::arg("observers") = py::tuple(), py::arg("objective") = TuneOptions().objective,
      py::arg("seed") = 0, py::arg("layers") = py::tuple(), py::arg("shipped_winners") = true,
      py::arg("isolation") = "auto", py::arg("wait_for_others") = RuntimeOptions().wait_for_others,
      "Options of the runtimes that module-level calls use; see Runtime. What is left out takes\n"
      "its default. `device` is the one of module-level tune(); operators run where their tensors\n"
      "are. Runtimes made before are let go of.");
  py::module_::import("atexit").attr("register")(
      py::cpp_function([] { Defaults::instance().close(); }));
}

}  // namespace cudadent::python
