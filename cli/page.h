// A page of tables and figures in one HTML file that needs nothing else: style, script, the plotting
// library and the data are in it. Every text may come from anywhere; none is taken for HTML.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace cudadent::cli {

struct Cell {
  std::string text;
  std::optional<double> order;  // what the column is sorted by; else the text. Also: align right
  std::string target;           // id of the section it leads to; empty: no link
};

struct Table {
  std::string caption;
  std::vector<std::string> headings;
  std::vector<std::vector<Cell>> rows;
  bool interactive =
      false;  // can be sorted and searched; its search also hides the sections its rows lead to
};

// How numbers are shown: "seconds" as 12.3 µs, "FLOP/s" as 1.2 TFLOP/s, "percent" for a share of 1, and
// "" as they are.
enum class Unit : std::uint8_t { none, seconds, flop_per_second, byte_per_second, percent };

struct Axis {
  std::string label;
  Unit unit = Unit::none;
  bool logarithmic = false;
  std::optional<double> low, high;
};

enum class Mark : std::uint8_t {
  bars,    // y for each category
  boxes,   // low and high for each category
  ticks,   // y for each category, a short line
  points,  // x, y
  line,    // x, y
  steps,   // x, y; holds its value until the next
  band,    // x, low, high
};

// Colours are the page's, chosen to be told apart by everyone, in the light and in the dark.
enum class Tint : std::uint8_t { automatic, good, bad, neutral, reference };

struct Series {
  std::string name;
  Mark mark = Mark::points;
  // A row for each mark, with the numbers it needs; NaN: nothing there. In a figure with categories,
  // the x of points is a category's number, in between for points beside each other.
  std::vector<std::vector<double>> values;
  std::vector<std::string> labels;   // of the marks, for who points at them; may be empty
  std::vector<std::string> targets;  // ids of the sections that marks lead to; may be empty
  Tint tint = Tint::automatic;
  bool faint = false;
  bool dashed = false;
};

struct Figure {
  std::string title;
  std::string caption;  // what it shows and how to read it
  Axis x, y;
  std::vector<std::string> categories;  // when given, x counts them
  bool horizontal = false;              // categories from top to bottom
  bool stacked = false;                 // bars of one category on top of each other
  bool wide = false;                    // over the full width of the page
  std::vector<Series> series;
};

struct Paragraph {
  std::string text;
  bool warning = false;
};

struct Fact {
  std::string name, value, note;
};
using Facts = std::vector<Fact>;

using Block = std::variant<Paragraph, Facts, Table, Figure>;

struct Section {
  std::string id;  // unique in the page; letters, digits and dashes
  std::string title;
  std::string summary;    // beside the title
  bool foldable = false;  // can be closed and opened by its title
  bool folded = false;    // is closed at first
  std::vector<Block> blocks;
};

struct Page {
  std::string title;
  std::string subtitle;
  std::vector<Section> sections;
};

// What every page is made with.
struct PageAssets {
  std::string_view style, script;
  std::string_view charts;  // the plotting library; empty when the program was built without it
};
// As embedded at build time.
PageAssets page_assets() noexcept;

// Throws Error(unsupported) when `assets` lack the plotting library. Numbers are rounded to five digits.
std::string html_page(const Page& page, const PageAssets& assets);

// The text as content of an HTML element or attribute.
std::string escape_html(std::string_view text);
// JSON as content of a script element: bytes that are not UTF-8 are replaced.
std::string json_in_script(const nlohmann::json& json);

}  // namespace cudadent::cli
