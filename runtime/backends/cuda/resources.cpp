// Resource use of kernels: from ptxas's report in NVRTC's log, and from the image.
#include <charconv>
#include <cstring>

#include "runtime/backends/cuda/nvrtc.h"

namespace cudadent::cuda {

std::string_view next_line(std::string_view& text) {
  const auto end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  return line;
}

namespace {

// What follows `prefix` in a line, up to a quote or the end; empty when the prefix is not there.
std::string_view after(std::string_view line, std::string_view prefix) {
  const auto start = line.find(prefix);
  if (start == std::string_view::npos) return {};
  line.remove_prefix(start + prefix.size());
  return line.substr(0, line.find('\''));
}

// The number before `unit`, as in "384 bytes stack frame"; −1 when the unit is not in the line.
std::int64_t number_before(std::string_view line, std::string_view unit) {
  const auto end = line.find(unit);
  if (end == std::string_view::npos) return -1;
  auto start = end;
  while (start > 0 && line[start - 1] >= '0' && line[start - 1] <= '9') --start;
  std::int64_t number = -1;
  std::from_chars(line.data() + start, line.data() + end, number);
  return number;
}

// "364 bytes cmem[0], 8 bytes cmem[2]": the sum; −1 when there is none.
std::int64_t constant_bytes(std::string_view line) {
  std::int64_t sum = -1;
  constexpr std::string_view unit = " bytes cmem[";
  for (auto found = line.find(unit); found != std::string_view::npos; found = line.find(unit)) {
    sum = (sum < 0 ? 0 : sum) + number_before(line, unit);
    line.remove_prefix(found + unit.size());
  }
  return sum;
}

bool is_resource_line(std::string_view line) {
  return line.starts_with("ptxas info") || line.starts_with("ptxas         .");
}

}  // namespace

// NVRTC 13.0 reports, for each kernel:
//   ptxas info    : Compiling entry function 'k' for 'sm_90a'
//   ptxas info    : Function properties for k
//   ptxas         .     384 bytes stack frame, 440 bytes spill stores, 440 bytes spill loads
//   ptxas info    : Used 64 registers, used 1 barriers, 256 bytes smem, 364 bytes cmem[0]
// Functions that were not inlined have "Function properties" of their own, in between. What a kernel
// has none of is left out; constant memory is not reported from sm_90 on.
std::vector<KernelResources> parse_resources(std::string_view log) {
  std::vector<KernelResources> kernels;
  bool of_kernel = false;  // the properties that follow are the kernel's own
  while (!log.empty()) {
    const std::string_view line = next_line(log);
    if (const auto entry = after(line, "Compiling entry function '"); !entry.empty()) {
      kernels.emplace_back().entry = entry;
      of_kernel = false;
    } else if (kernels.empty()) {
      continue;
    } else if (const auto function = after(line, "Function properties for "); !function.empty()) {
      of_kernel = function == kernels.back().entry;
    } else if (const auto frame = number_before(line, " bytes stack frame"); frame >= 0) {
      if (!of_kernel) continue;
      kernels.back().local_bytes = frame;
      kernels.back().spill_bytes =
          number_before(line, " bytes spill stores") + number_before(line, " bytes spill loads");
    } else if (const auto registers = number_before(line, " registers"); registers >= 0) {
      kernels.back().registers = registers;
      kernels.back().shared_bytes = std::max<std::int64_t>(0, number_before(line, " bytes smem"));
      kernels.back().constant_bytes = constant_bytes(line);
    }
  }
  return kernels;
}

// A cubin is a 64-bit little-endian ELF file; each kernel k has a section ".nv.constant0.k" (its
// parameters), and perhaps .nv.constant2.k and others (CUDA Binary Utilities, "ELF sections").
void complete_resources(std::vector<KernelResources>& resources, std::span<const std::byte> image) {
  const auto read = [&](std::size_t offset, auto number) {
    if (offset <= image.size() && image.size() - offset >= sizeof number)
      std::memcpy(&number, image.data() + offset, sizeof number);
    return static_cast<std::size_t>(number);
  };
  const auto text_at = [&](std::size_t offset) {
    if (offset >= image.size()) return std::string_view();
    const auto* text = reinterpret_cast<const char*>(image.data()) + offset;
    return std::string_view(text, strnlen(text, image.size() - offset));
  };
  constexpr std::string_view magic =
      "\x7f"
      "ELF\x02\x01";
  if (image.size() < 64 || std::memcmp(image.data(), magic.data(), magic.size()) != 0) return;
  // Offsets: Elf64_Ehdr and Elf64_Shdr of the ELF-64 object file format.
  const std::size_t sections = read(0x28, std::uint64_t{}),
                    section_bytes = read(0x3a, std::uint16_t{});
  const std::size_t count = read(0x3c, std::uint16_t{}), names_index = read(0x3e, std::uint16_t{});
  const std::size_t names = read(sections + names_index * section_bytes + 0x18, std::uint64_t{});

  constexpr std::string_view prefix = ".nv.constant";
  std::vector<bool> known;  // constant memory known from the log
  for (const KernelResources& kernel : resources) known.push_back(kernel.constant_bytes >= 0);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t section = sections + i * section_bytes;
    std::string_view name = text_at(names + read(section, std::uint32_t{}));
    const auto dot = name.find('.', prefix.size());
    if (!name.starts_with(prefix) || dot == std::string_view::npos) continue;
    const std::string_view bank = name.substr(prefix.size(), dot - prefix.size());
    const std::string_view entry = name.substr(dot + 1);
    std::size_t k = 0;
    while (k < resources.size() && resources[k].entry != entry) ++k;
    if (k == resources.size()) {
      if (bank != "0") continue;
      resources.emplace_back().entry = entry;
      known.push_back(false);
    }
    if (known[k]) continue;
    const auto bytes = static_cast<std::int64_t>(read(section + 0x20, std::uint64_t{}));
    resources[k].constant_bytes = std::max<std::int64_t>(0, resources[k].constant_bytes) + bytes;
  }
}

std::string without_resources(std::string_view log) {
  std::string rest;
  while (!log.empty()) {
    const std::string_view line = next_line(log);
    if (is_resource_line(line) || (line.empty() && rest.empty())) continue;
    rest.append(line).push_back('\n');
  }
  while (rest.ends_with("\n\n")) rest.pop_back();
  return rest == "\n" ? std::string() : rest;
}

}  // namespace cudadent::cuda
