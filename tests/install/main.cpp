#include <cudadent/cudadent.h>

#include <iostream>

int main() {
  cudadent::RuntimeOptions options;
  options.device = "host";
  options.cache = ":memory:";
  cudadent::Runtime runtime(options);
  std::cout << "cudadent " << cudadent::version() << " on " << runtime.device_name() << '\n';
}
