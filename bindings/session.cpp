#include "bindings/session.h"

#include <chrono>
#include <utility>

#include "runtime/base/environment.h"
#include "runtime/language/backend_kind.h"

namespace py = pybind11;

namespace cudadent::python {

namespace {

using Clock = std::chrono::steady_clock;

// What interrupts the work that this thread does for Python.
struct Interruption {
  PyObject* exception = nullptr;  // owned
  Clock::time_point polled;
};
thread_local Interruption interruption;

void keep(PyObject* exception) {
  if (interruption.exception == nullptr)
    interruption.exception = exception;
  else
    Py_XDECREF(exception);
}

}  // namespace

// ------------------------------------------------------------------------------- session

Session::Session(RuntimeOptions options) {
  if (!options.log) options.log = log_to_python;
  options.tuning.cancelled = is_interrupted;
  runtime_ =
      without_interpreter_lock([&] { return std::make_shared<Runtime>(std::move(options)); });
}

const std::shared_ptr<Runtime>& Session::runtime() const {
  if (runtime_ == nullptr)
    throw Error(ErrorCode::invalid_argument, "the Runtime is closed; make another one");
  return runtime_;
}

void Session::close() noexcept {
  std::shared_ptr<Runtime> runtime = std::move(runtime_);
  runtime_ = nullptr;
  if (runtime == nullptr) return;
  // Threads of the runtime may be about to log, which takes the lock.
  const py::gil_scoped_release release;
  runtime = nullptr;
}

// ------------------------------------------------------------------------------- defaults

Defaults& Defaults::instance() {
  static auto* defaults = new Defaults;  // never destroyed: no order with the interpreter's end
  return *defaults;
}

std::shared_ptr<Session> Defaults::session(std::int32_t device) {
  return session(device_at(device).text());
}

std::shared_ptr<Session> Defaults::session(const std::string& device) {
  if (const auto found = sessions_.find(device); found != sessions_.end()) return found->second;
  // Nothing when interrupted, which is raised.
  const auto turn = without_interpreter_lock([&] { return opening_.take("", is_interrupted); });
  if (const auto found = sessions_.find(device); found != sessions_.end()) return found->second;
  RuntimeOptions options = options_;
  options.device = device;
  const std::uint64_t generation = generation_;
  auto session = std::make_shared<Session>(std::move(options));
  if (generation == generation_) sessions_[device] = session;
  return session;
}

std::shared_ptr<TemplateLibrary> Defaults::library() {
  if (library_ == nullptr) {
    auto folders = Environment::read().template_paths;
    folders.insert(folders.end(), options_.template_paths.begin(), options_.template_paths.end());
    library_ = std::make_shared<TemplateLibrary>(std::move(folders));
  }
  return library_;
}

void Defaults::set_options(RuntimeOptions options) {
  options_ = std::move(options);
  ++generation_;
  library_ = nullptr;
  // Operators drop theirs at their next call; the last user closes a session.
  sessions_.clear();
}

void Defaults::close() {
  ++generation_;
  for (const auto& [device, session] : std::exchange(sessions_, {})) session->close();
}

// ------------------------------------------------------------------------------- interruption

bool is_interrupted() {
  constexpr auto interval = std::chrono::milliseconds(20);
  if (interruption.exception != nullptr) return true;
  const auto now = Clock::now();
  if (now - interruption.polled < interval) return false;
  interruption.polled = now;
  const py::gil_scoped_acquire acquire;
  if (PyErr_CheckSignals() == 0) return false;
  py::error_already_set error;
  keep_callback_exception(error);
  return true;
}

void keep_callback_exception(py::error_already_set& error) {
  keep(py::object(error.value()).release().ptr());
}

void raise_interruption() {
  if (interruption.exception == nullptr) return;
  PyObject* exception = std::exchange(interruption.exception, nullptr);
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(exception)), exception);
  Py_DECREF(exception);
  throw py::error_already_set();
}

void log_to_python(LogLevel level, std::string_view message) noexcept {
  if (Py_IsInitialized() == 0) return;
  const py::gil_scoped_acquire acquire;
  try {
    const auto logger = py::module_::import("logging").attr("getLogger")("cudadent");
    const char* method = level == LogLevel::warning ? "warning" : "info";
    logger.attr(method)("%s", py::str(message.data(), message.size()));
  } catch (py::error_already_set& error) {
    error.discard_as_unraisable("cudadent's log");
  }
}

}  // namespace cudadent::python
