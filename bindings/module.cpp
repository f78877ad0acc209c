// The module _cudadent. Users import the package cudadent.
#include <cudadent/cudadent.h>
#include <pybind11/pybind11.h>

#include <string>

#include "bindings/errors.h"
#include "bindings/operator.h"
#include "bindings/results.h"
#include "bindings/runtime.h"
#include "bindings/search.h"

PYBIND11_MODULE(_cudadent, module) {
  using namespace cudadent::python;
  bind_errors(module);
  bind_operator(module);
  bind_results(module);
  bind_search(module);
  bind_runtime(module);
  bind_defaults(module);
  module.attr("__version__") = std::string(cudadent::version());
}
