// Golden files: what something is turned into that outlives the program, hashes and file formats, kept in
// tests/golden, so that a change to it is seen and meant. `scripts/renew_golden.sh` writes them anew.
#pragma once

#include <string>

namespace cudadent::tests {

// Fails the test where the text is not that of the file tests/golden/<name>, and says where they part.
void check_golden(const std::string& name, const std::string& text);

}  // namespace cudadent::tests
