// A problem to run kernels on: random inputs, watched outputs, and what they should be in float64.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/backend.h"
#include "runtime/problem.h"

namespace cudadent::test {

// One a tensor, in manifest order; absent ones are empty.
using Tensors = std::vector<std::vector<double>>;

// Computes the outputs of an operator from its inputs, plainly and in float64. Throws
// std::out_of_range for an operator that it does not know.
void compute_reference(const Problem& problem, Tensors& tensors);

class Bench {
 public:
  // Keeps references to both.
  Bench(Backend& backend, const Problem& problem, std::uint64_t seed);

  // Fills the outputs with NaN, runs the executable, compares. What is wrong; empty when nothing is.
  std::string why_wrong(const Executable& executable, Stream stream = nullptr);
  // The largest relative error of an output in the last run.
  [[nodiscard]] double error() const noexcept { return error_; }

 private:
  [[nodiscard]] const TensorSpec& spec(std::size_t i) const { return problem_.op->tensors[i]; }
  [[nodiscard]] bool is_output(std::size_t i) const;
  void add(std::size_t i, std::uint64_t seed);
  void spoil(std::size_t i, const std::vector<bool>& used);
  std::string compare(std::size_t i);

  Backend& backend_;
  const Problem& problem_;
  Tensors expected_;
  std::vector<Buffer> buffers_;
  std::vector<void*> pointers_;
  std::vector<std::size_t> bytes_;
  double error_ = 0;
};

}  // namespace cudadent::test
