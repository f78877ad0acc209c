// The part of DLPack's binary interface that we read. Declared here from the specification, version
// 1.3 (https://dmlc.github.io/dlpack/latest/c_api.html), so that building needs no header of it.
#pragma once

#include <cstdint>

namespace cudadent::python::dlpack {

struct Version {
  std::uint32_t major, minor;
};

// Tables and tensors of another major version have another layout.
inline constexpr std::uint32_t major_version = 1;

enum DeviceType : std::int32_t { cpu = 1, cuda = 2, cuda_host = 3, cuda_managed = 13 };

struct Device {
  std::int32_t type;
  std::int32_t id;
};

enum TypeCode : std::uint8_t {
  integer = 0,
  unsigned_integer = 1,
  real = 2,
  bfloat = 4,
  truth = 6,
  float8_e4m3fn = 10,
  float8_e5m2 = 12
};

struct ElementType {
  std::uint8_t code;
  std::uint8_t bits;
  std::uint16_t lanes;
};

// DLTensor: memory that somebody else owns.
struct View {
  void* data;
  Device device;
  std::int32_t rank;
  ElementType type;
  std::int64_t* shape;
  std::int64_t* strides;  // elements; null: row-major and packed
  std::uint64_t byte_offset;
};

// DLManagedTensor, in capsules called "dltensor".
struct Managed {
  View view;
  void* context;
  void (*deleter)(Managed*);
};

inline constexpr std::uint64_t read_only = 1;  // a bit of ManagedVersioned::flags

// DLManagedTensorVersioned, in capsules called "dltensor_versioned".
struct ManagedVersioned {
  Version version;
  void* context;
  void (*deleter)(ManagedVersioned*);
  std::uint64_t flags;
  View view;
};

struct ExchangeHeader {
  Version version;
  ExchangeHeader* previous;  // an older version of the same table, or null
};

// DLPackExchangeAPI, in a capsule called "dlpack_exchange_api", which a tensor type has as its
// attribute __dlpack_c_exchange_api__. Functions return 0, or -1 with a Python exception set.
struct Exchange {
  ExchangeHeader header;
  void* allocate;
  void* managed_from_object;
  void* managed_to_object;
  // Fills a view that is good until control returns to Python; may be null.
  int (*view_of)(void* object, View* view);
  // The stream on which the library works now.
  int (*current_stream)(DeviceType type, std::int32_t id, void** stream);
};

}  // namespace cudadent::python::dlpack
