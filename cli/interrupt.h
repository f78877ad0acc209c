// The interrupt key as a request: the command ends in good order. Pressed again, it ends the program.
#pragma once

namespace cudadent::cli {

void catch_interrupt();
bool interrupted() noexcept;

}  // namespace cudadent::cli
