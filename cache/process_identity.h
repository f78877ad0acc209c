// Who a process is, in words that another process can check: for claims in the database.
#pragma once

#include <cstdint>
#include <string>

namespace cudadent {

// A process number alone is given again after a while, and means nothing on another host or in another
// container.
struct ProcessIdentity {
  std::string host;             // its name, for people
  std::string boot;             // of the machine: another after each start; empty where unknown
  std::string process_numbers;  // the namespace that `process` is a number of; empty where unknown
  std::int64_t process = 0;     // pid
  std::int64_t process_start = 0;  // clock ticks since boot; 0 where unknown
};

ProcessIdentity this_process();

enum class ProcessState : std::uint8_t {
  alive,
  dead,
  unknown,  // of another host or container, or nothing can be told here
};
ProcessState state_of(const ProcessIdentity& identity);

}  // namespace cudadent
