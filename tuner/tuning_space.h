// The configurations of one template that satisfy its constraints for one problem on one device.
#pragma once

#include <cudadent/cudadent.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/device.h"
#include "runtime/expression.h"
#include "runtime/manifest.h"
#include "runtime/problem.h"

namespace cudadent {

// What a space is made of; templates and T1 files are both turned into this.
struct SpaceDefinition {
  std::vector<ParameterSpec> parameters;
  std::vector<std::pair<std::string, Expression>> let;  // derived values, in order
  std::vector<Expression> constraints;
  Values known;  // problem values and device facts
};

SpaceDefinition space_definition(const KernelTemplate& kernel_template, const Problem& problem,
                                 const Device& device);

// Which configurations count as next to one another.
enum class Neighbourhood : std::uint8_t {
  adjacent,  // one parameter moved to the next or previous value of its list
  hamming,   // one parameter changed to any other value
};

// A forest: parameters that share no constraint (directly or through derived values) form
// independent groups, each group a list of its valid partial configurations; the space is their
// product. A constraint is applied as soon as its names are bound. Index 0 … size()−1 in a fixed
// order.
class TuningSpace {
 public:
  explicit TuningSpace(SpaceDefinition definition);

  [[nodiscard]] std::uint64_t size() const noexcept;      // valid configurations
  [[nodiscard]] std::uint64_t raw_size() const noexcept;  // product of the value counts, saturating
  [[nodiscard]] const std::vector<ParameterSpec>& parameters() const noexcept;

  // Value positions, one a parameter, in parameters() order: what strategies work on.
  using Point = std::vector<std::uint16_t>;
  [[nodiscard]] Point point(std::uint64_t index) const;
  [[nodiscard]] std::optional<std::uint64_t> index_of(const Point& point) const;
  [[nodiscard]] Values configuration(std::uint64_t index) const;
  [[nodiscard]] std::optional<std::uint64_t> index_of(const Values& configuration) const;
  // Valid neighbours, in a fixed order, without the index itself.
  [[nodiscard]] std::vector<std::uint64_t> neighbours(std::uint64_t index,
                                                      Neighbourhood kind) const;

 private:
  struct Group;
  SpaceDefinition definition_;
  std::vector<Group> groups_;
  std::uint64_t size_ = 0, raw_size_ = 0;

 public:
  ~TuningSpace();
  TuningSpace(TuningSpace&&) noexcept;
  TuningSpace& operator=(TuningSpace&&) noexcept;
};

}  // namespace cudadent
