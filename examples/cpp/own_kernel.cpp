// Tunes and launches an operator of one's own: a folder with manifests and sources, no C++.
//
//   own_kernel [folder that holds axpby/]

#include <cudadent/cudadent.h>

#include <array>
#include <cmath>
#include <iostream>
#include <stdexcept>
#include <vector>

#include "device_array.h"

namespace {

void run(const char* folder) {
  cudadent::RuntimeOptions options;
  options.device = example::device();
  options.template_paths = {folder};
  options.tuning.budget.seconds = 10;
  cudadent::Runtime runtime(options);

  // What the operator takes, as its manifest says.
  const auto axpby = runtime.op("axpby");
  const auto info = axpby.info();
  std::cout << info.name << ": " << info.doc << '\n';
  for (const auto& tensor : info.tensors)
    std::cout << "  " << (tensor.output ? "output " : "input ") << tensor.name << '\n';

  const std::int64_t n = 100'000;
  example::DeviceArray x(std::vector<float>(n, 3.0f)), y(std::vector<float>(n, 1.0f));
  example::DeviceArray z(std::vector<float>(n, 0.0f));
  const std::array tensors{x.tensor({n}), y.tensor({n}), z.tensor({n})};

  // Tunes, unless the cache knows the answer; the launch that follows costs a microsecond or two.
  const auto explanation = axpby.prepare(tensors);
  std::cout << explanation.problem << ": " << explanation.winner.kernel_template << ", "
            << cudadent::name_of(explanation.winner.provenance) << '\n';
  const std::array<double, 2> scalars{2, -1};  // alpha, beta
  axpby.launch(tensors, nullptr, scalars);

  for (const float value : z.values())
    if (std::abs(value - 5.0f) > 1e-5f) throw std::runtime_error("the result is wrong");
  std::cout << "every element is 5\n";
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(argc > 1 ? argv[1] : OWN_KERNEL_FOLDER);
    return 0;
  } catch (const cudadent::Error& error) {
    std::cerr << error.what() << '\n' << error.detail() << '\n';
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
  }
  return 1;
}
