// Content hashes: 128-bit XXH3, as 32 hexadecimal digits. Not for adversaries.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

namespace cudadent {

// Each part is hashed with its length, so that moving a border between parts changes the hash.
std::string content_hash(std::initializer_list<std::string_view> parts);
std::string content_hash(std::span<const std::byte> bytes);

}  // namespace cudadent
