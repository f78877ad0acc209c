// Elements as matrix instructions see them.
#pragma once

#include <cstddef>

#include "emulator/device/interface.h"

namespace cudadent::emulator {

int bytes_of(Element element);
float load_element(Element element, const std::byte* from);
void store_element(Element element, std::byte* to, float value);  // to nearest even

}  // namespace cudadent::emulator
