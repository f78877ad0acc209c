// The configurations of one template that satisfy its constraints for one problem on one device.
#pragma once

#include <cudadent/cudadent.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/language/device.h"
#include "runtime/language/expression.h"
#include "runtime/language/manifest.h"
#include "runtime/operators/problem.h"

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
// `device_facts` are Device::facts(), of a device that need not be here.
SpaceDefinition space_definition(const KernelTemplate& kernel_template, const Problem& problem,
                                 Values device_facts);

// Throws Error(unsupported), with the size, when so many configurations cannot each have an index.
void refuse_unless_indexable(double configurations);

// Which configurations count as next to one another.
enum class Neighbourhood : std::uint8_t {
  adjacent,  // one parameter moved to the next or previous value of its list
  hamming,   // one parameter changed to any other value
};

// A forest: parameters that share no constraint (directly or through derived values) form independent
// groups, and the space is the product of the groups. A group is a tree of choices, one parameter a
// level, cut where a constraint becomes false, in which equal subtrees are stored once and know how
// many configurations they hold: counting, indexing and finding walk it and list nothing.
// Index 0 … size()−1 in an order that depends on the definition alone.
//
// A configuration whose constraint fails (a division by zero, an unknown name) while no other
// constraint rejects it is an Error(invalid_manifest) of the constructor, naming the constraint. The
// parts of "a and b" count as constraints of their own there.
class TuningSpace {
 public:
  // Throws Error(unsupported), with its size, for a space of more than 2^64−1 configurations: those beyond
  // would have no index, and parameters whose later values lie there would never leave the first.
  explicit TuningSpace(SpaceDefinition definition);

  // Exactly these points (one position a parameter, below its number of values), each once however
  // often it is given: a space that was recorded rather than described.
  TuningSpace(std::vector<ParameterSpec> parameters,
              const std::vector<std::vector<std::uint16_t>>& points);

  [[nodiscard]] std::uint64_t size() const noexcept;  // valid configurations
  [[nodiscard]] double raw_size()
      const noexcept;  // product of the value counts; rounded above 2^53
  [[nodiscard]] const std::vector<ParameterSpec>& parameters() const noexcept;

  // Value positions, one a parameter, in parameters() order: what strategies work on.
  using Point = std::vector<std::uint16_t>;
  [[nodiscard]] Point point(std::uint64_t index) const;
  [[nodiscard]] std::optional<std::uint64_t> index_of(const Point& point) const;
  [[nodiscard]] Values configuration(std::uint64_t index) const;
  // Values equal as Python's are: 1, 1.0 and true. Nothing when a parameter is missing or unknown.
  [[nodiscard]] std::optional<std::uint64_t> index_of(const Values& configuration) const;
  // The index of a configuration that is the fewest steps along the lists of values away. Values that are not in
  // a list count as its first. Nothing in an empty space.
  [[nodiscard]] std::optional<std::uint64_t> nearest(const Values& configuration) const;
  // Valid neighbours, in a fixed order, without the index itself.
  [[nodiscard]] std::vector<std::uint64_t> neighbours(std::uint64_t index,
                                                      Neighbourhood kind) const;

 private:
  struct Group;
  SpaceDefinition definition_;
  std::vector<Group> groups_;
  std::uint64_t size_ = 0;
  double raw_size_ = 0;

 public:
  ~TuningSpace();
  TuningSpace(TuningSpace&&) noexcept;
  TuningSpace& operator=(TuningSpace&&) noexcept;
};

}  // namespace cudadent
