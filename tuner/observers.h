// The observers of a tuning run together, and what is wrong with what they say.
#pragma once

#include <cudadent/search.h>

#include <exception>
#include <functional>
#include <memory>
#include <vector>

namespace cudadent {

// What one of them throws is kept, so that the trial under way comes to its end and is stored; from then on none is
// called.
class Observers {
 public:
  // Throws Error(invalid_argument) for a null one.
  explicit Observers(std::vector<std::shared_ptr<Observer>> observers = {});

  void before(const Measurement& measurement);
  void during(const Measurement& measurement);
  // The figures of all. What is no number, or given twice, counts as thrown: Error(invalid_argument).
  Figures after(const Measurement& measurement);
  // Throws what an observer threw, if any did.
  void check() const;

 private:
  template <class Call>
  void each(const Call& call);

  const std::vector<std::shared_ptr<Observer>> observers_;
  std::exception_ptr failure_;
};

}  // namespace cudadent
