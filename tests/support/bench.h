// A problem to run kernels on: random inputs, watched outputs, and what they should be in float64.
#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "runtime/backends/backend.h"
#include "runtime/operators/problem.h"
#include "tests/support/attention.h"

namespace cudadent::test {

// Computes the outputs of an operator from its inputs, plainly and in float64. Throws
// std::out_of_range for an operator that it does not know.
void compute_reference(const Problem& problem, Tensors& tensors);

class Bench {
 public:
  // Keeps references to both. Inputs are as the manifest says, with what results must not depend on, or must
  // show, put in; one output is now and then the memory of an input, where the manifest allows it. Or inputs are
  // those `given`, where these are not empty.
  Bench(Backend& backend, const Problem& problem, std::uint64_t seed, const Tensors& given = {});

  // Fills the outputs with NaN, runs the executable, compares. What is wrong; empty when nothing is. `kernel` is
  // the template, of which not all promise the same.
  std::string why_wrong(const Executable& executable, const KernelTemplate& kernel,
                        Stream stream = nullptr);
  // From now on an output is in the place of an input, whose elements lie as its own do.
  void put(const char* output, const char* input);
  // The largest relative error of an output in the last run.
  [[nodiscard]] double error() const noexcept { return error_; }

 private:
  // One tensor's memory.
  struct Place {
    Buffer buffer;
    std::byte* pointer = nullptr;
    std::size_t bytes = 0;
    std::vector<std::byte> contents;     // before a launch; empty where the tensor is absent
    std::vector<std::size_t> elements;   // where they lie, in elements
    Elements untouched, near_nan;        // of outputs: see attention.h
    std::optional<std::size_t> instead;  // the input that an output is
  };

  [[nodiscard]] const TensorSpec& spec(std::size_t i) const { return problem_.op->tensors[i]; }
  [[nodiscard]] bool is_output(std::size_t i) const;
  void allocate(std::size_t i);
  void draw(std::size_t i, std::uint64_t seed);
  void take(const Tensors& given);
  void spoil(std::size_t i, const Elements& used);
  void choose_place(std::size_t i, std::mt19937_64& random);
  std::string compare(std::size_t i, bool may_spoil);

  Backend& backend_;
  const Problem& problem_;
  Tensors expected_;
  std::vector<Place> places_;
  double error_ = 0;
};

}  // namespace cudadent::test
