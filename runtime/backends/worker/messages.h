// What the parent asks of a worker, and what a worker answers.
//
// A request is a verb and its arguments in the order given below; an answer is a Reply's kind and, after the
// state of the device (Loss), the results or an error's code, message and detail. Releases go ahead of the
// arguments of every request to a measuring worker.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/backends/worker/archive.h"
#include "runtime/base/environment.h"

namespace cudadent::worker {

enum class Verb : std::uint32_t {
  hello = 1,  // Hello → own version, then (of the same version, measuring) Welcome
  compiler,   // → name                                       compile workers only, and so is
  compile,    // CompileRequest → Binary
  load,       // Binary → module                              measuring workers only, from here on
  prepare,    // module, LaunchPlan → executable
  allocate,   // bytes → device pointer
  write,      // device pointer, bytes
  read,       // device pointer, count → bytes
  fill,       // device pointer, byte, count
  synchronize,
  launch,  // LaunchRequest
  time,    // LaunchRequest, count → seconds a run
};

enum class Reply : std::uint32_t { done = 100, failed };

enum class Task : std::uint8_t { measure, compile };

struct Hello {
  std::string version;
  Task task = Task::measure;
  std::string device;  // as WorkerOptions::device
  Environment environment;
  // Bytes of memory a process may take, its children too, each; 0: no limit.
  std::uint64_t memory_limit = 0;
};

struct Welcome {
  Device device;
  std::string measurement;
  bool compiling_disturbs_timing = false;
};

// Something of the measuring worker's that nobody needs any more.
struct Release {
  enum class Kind : std::uint8_t { buffer, module, executable };
  Kind kind = Kind::buffer;
  std::uint64_t id = 0;  // a buffer's is its device pointer
};

struct CompileRequest {
  std::string op, kernel_template;  // empty when the specialization is of none
  std::string description, architecture, source, hash;
  std::vector<std::string> compile_options, entries;
};

struct LaunchRequest {
  std::uint64_t executable = 0;
  std::vector<std::uint64_t> tensors;
  std::vector<double> scalars;
};

// Copies go in messages of at most so many bytes.
inline constexpr std::size_t copy_step = std::size_t{8} << 20;

template <class Archive, Is<Hello> T>
void fields(Archive& archive, T& hello) {
  // The version first, and a string in every version.
  archive(hello.version, hello.task, hello.device, hello.environment, hello.memory_limit);
}
template <class Archive, Is<Welcome> T>
void fields(Archive& archive, T& welcome) {
  archive(welcome.device, welcome.measurement, welcome.compiling_disturbs_timing);
}
template <class Archive, Is<Release> T>
void fields(Archive& archive, T& release) {
  archive(release.kind, release.id);
}
template <class Archive, Is<CompileRequest> T>
void fields(Archive& archive, T& request) {
  archive(request.op, request.kernel_template, request.description, request.architecture,
          request.source, request.hash, request.compile_options, request.entries);
}
template <class Archive, Is<LaunchRequest> T>
void fields(Archive& archive, T& request) {
  archive(request.executable, request.tensors, request.scalars);
}

}  // namespace cudadent::worker
