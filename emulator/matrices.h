// Elements as matrix instructions see them.
#pragma once

#include <cstddef>

#include "emulator/device/interface.h"

namespace cudadent::emulator {

// Where an element of a matrix is that is kept row by row, of that many columns.
inline std::size_t place_in(int columns, int row, int column) {
  return static_cast<std::size_t>(row) * static_cast<std::size_t>(columns) +
         static_cast<std::size_t>(column);
}

int bytes_of(Element element);
float load_element(Element element, const std::byte* from);
void store_element(Element element, std::byte* to, float value);  // to nearest even

}  // namespace cudadent::emulator
