// cudadent: values, errors and tensors, which all its functions speak of. Users include <cudadent/cudadent.h>.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <variant>

#if defined(_WIN32)
#define CUDADENT_API
#else
#define CUDADENT_API __attribute__((visibility("default")))
#endif

namespace cudadent {

// ------------------------------------------------------------------------------------- values

// A number, a flag or a word: what a dimension, an option, a parameter or an expression can be.
using Value = std::variant<bool, std::int64_t, double, std::string>;

// Values by name: the dimensions, data types and options of a problem, or a configuration.
using Values = std::map<std::string, Value, std::less<>>;

// e4m3 and e5m2 are the 8-bit floats of the Open Compute Project (OCP 8-bit Floating Point
// Specification, 1.0): e4m3 is what others call e4m3fn (no infinities, largest 448, NaN 0x7f and
// 0xff), e5m2 has infinities and reaches 57344.
enum class DataType : std::uint8_t { f64, f32, bf16, f16, i64, i32, i8, u8, boolean, e4m3, e5m2 };

// Bytes of one element.
CUDADENT_API std::size_t size_of(DataType type) noexcept;
// The name used in manifests, problems and messages: "f32", "bf16", …
CUDADENT_API std::string_view name_of(DataType type) noexcept;
// The inverse of name_of; nothing when the name is unknown.
CUDADENT_API std::optional<DataType> data_type_named(std::string_view name) noexcept;

// ------------------------------------------------------------------------------------- errors

enum class ErrorCode : std::uint8_t {
  invalid_argument,      // the caller's tensors, names or values do not fit
  invalid_manifest,      // a manifest or an expression in it is wrong
  unsupported,           // no template can do this problem on this device
  not_tuned,             // nothing known for the problem, and the miss policy says fail
  device_unavailable,    // no such device, or its driver does not work
  compiler_unavailable,  // NVRTC or the host compiler is missing
  compile_failed,        // a template does not compile (detail() has the log)
  launch_failed,         // the device refused or failed a launch
  cache_failed,          // the database cannot be opened, read or written
  timed_out,             // a compile or a kernel took longer than allowed
  machine_failed,  // no space, memory, descriptors or processes just now, or a process of ours was
                   // ended from outside: the same may well work later
  cancelled,       // as the caller asked, before there was a result
  internal,        // a fault of cudadent's own
};

CUDADENT_API std::string_view name_of(ErrorCode code) noexcept;

// what() says what was attempted, with what, what was expected and what to do about it.
class CUDADENT_API Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message, std::string detail = {});
  [[nodiscard]] ErrorCode code() const noexcept { return code_; }
  // Long material such as a compiler's log; often empty.
  [[nodiscard]] const std::string& detail() const noexcept { return detail_; }

 private:
  ErrorCode code_;
  std::string detail_;
};

// ------------------------------------------------------------------------------------- tensors

inline constexpr int max_rank = 6;
inline constexpr std::int32_t host_memory = -1;

// A view of memory somebody else owns. A default-constructed Tensor stands for an optional tensor
// that is left out. Tensors must be contiguous, unless the operator's manifest names strides for
// them: then strides may be anything from 0 on inputs, and step over all that lies inside on outputs.
struct Tensor {
  void* data = nullptr;
  DataType dtype = DataType::f32;
  std::int32_t rank = -1;                        // -1: absent
  std::int32_t device = host_memory;             // CUDA ordinal, or host_memory
  std::array<std::int64_t, max_rank> shape{};    // elements
  std::array<std::int64_t, max_rank> strides{};  // elements between neighbours

  Tensor() = default;
  // A contiguous row-major view. Throws Error(invalid_argument) above max_rank dimensions.
  Tensor(void* memory, DataType element, std::initializer_list<std::int64_t> extents,
         std::int32_t ordinal = host_memory)
      : data(memory),
        dtype(element),
        rank(static_cast<std::int32_t>(extents.size())),
        device(ordinal) {
    if (extents.size() > max_rank)
      throw Error(ErrorCode::invalid_argument, "a tensor of more than 6 dimensions");
    std::int64_t stride = 1;
    for (std::size_t i = extents.size(); i-- > 0;) {
      shape[i] = extents.begin()[i];
      strides[i] = stride;
      stride *= shape[i];
    }
  }
  [[nodiscard]] bool present() const noexcept { return rank >= 0; }
};

// A CUstream (also a cudaStream_t), or null for the legacy default stream; ignored on the host.
using Stream = void*;

}  // namespace cudadent
