#include "cli/page.h"

#include <cudadent/cudadent.h>
#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

namespace cudadent::cli {

namespace {

using nlohmann::json;

// Five digits draw what a screen can show, and a page of thousands of points stays small.
json number(double value) {
  if (!std::isfinite(value)) return nullptr;
  const std::string text = fmt::format("{:.5g}", value);
  double rounded = value;
  std::from_chars(text.data(), text.data() + text.size(), rounded);
  if (rounded == std::floor(rounded) && std::fabs(rounded) < 1e15)
    return static_cast<std::int64_t>(rounded);
  return rounded;
}

json json_of(const Cell& cell) {
  json object{{"text", cell.text}};
  if (cell.order) object["order"] = number(*cell.order);
  if (!cell.target.empty()) object["target"] = cell.target;
  return object;
}

json json_of(const Axis& axis) {
  static constexpr std::array names{"", "seconds", "FLOP/s", "B/s", "percent"};
  json object{{"label", axis.label}, {"unit", names[static_cast<std::size_t>(axis.unit)]}};
  if (axis.logarithmic) object["log"] = true;
  if (axis.low) object["low"] = number(*axis.low);
  if (axis.high) object["high"] = number(*axis.high);
  return object;
}

json json_of(const Series& series) {
  static constexpr std::array marks{"bars", "boxes", "ticks", "points", "line", "steps", "band"};
  static constexpr std::array tints{"", "good", "bad", "neutral", "reference"};
  json values = json::array();
  for (const auto& row : series.values) {
    auto& numbers = values.emplace_back(json::array());
    for (const double value : row) numbers.push_back(number(value));
  }
  json object{{"name", series.name},
              {"mark", marks[static_cast<std::size_t>(series.mark)]},
              {"values", std::move(values)}};
  if (series.tint != Tint::automatic) object["tint"] = tints[static_cast<std::size_t>(series.tint)];
  if (!series.labels.empty()) object["labels"] = series.labels;
  if (!series.targets.empty()) object["targets"] = series.targets;
  if (series.faint) object["faint"] = true;
  if (series.dashed) object["dashed"] = true;
  return object;
}

json block_json(const Paragraph& paragraph) {
  return {{"kind", "paragraph"}, {"text", paragraph.text}, {"warning", paragraph.warning}};
}

json block_json(const Facts& facts) {
  json items = json::array();
  for (const Fact& fact : facts)
    items.push_back({{"name", fact.name}, {"value", fact.value}, {"note", fact.note}});
  return {{"kind", "facts"}, {"items", std::move(items)}};
}

json block_json(const Table& table) {
  json rows = json::array();
  for (const auto& row : table.rows) {
    auto& cells = rows.emplace_back(json::array());
    for (const Cell& cell : row) cells.push_back(json_of(cell));
  }
  return {{"kind", "table"},
          {"caption", table.caption},
          {"headings", table.headings},
          {"interactive", table.interactive},
          {"rows", std::move(rows)}};
}

json block_json(const Figure& figure) {
  json series = json::array();
  for (const Series& one : figure.series) series.push_back(json_of(one));
  return {{"kind", "figure"},
          {"title", figure.title},
          {"caption", figure.caption},
          {"x", json_of(figure.x)},
          {"y", json_of(figure.y)},
          {"categories", figure.categories},
          {"horizontal", figure.horizontal},
          {"stacked", figure.stacked},
          {"wide", figure.wide},
          {"series", std::move(series)}};
}

json page_json(const Page& page) {
  json sections = json::array();
  for (const Section& section : page.sections) {
    json blocks = json::array();
    for (const Block& block : section.blocks)
      blocks.push_back(std::visit([](const auto& one) { return block_json(one); }, block));
    sections.push_back({{"id", section.id},
                        {"title", section.title},
                        {"summary", section.summary},
                        {"foldable", section.foldable},
                        {"folded", section.folded},
                        {"blocks", std::move(blocks)}});
  }
  return {{"title", page.title}, {"subtitle", page.subtitle}, {"sections", std::move(sections)}};
}

// The library is code of others in a script element: nothing in it may end that element early.
void require_harmless(std::string_view script) {
  for (const std::string_view end : {"</script", "</SCRIPT", "<!--"})
    if (script.find(end) != std::string_view::npos)
      throw Error(ErrorCode::internal,
                  fmt::format("a script of the page contains \"{}\", which would end it", end));
}

}  // namespace

std::string escape_html(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

std::string json_in_script(const json& value) {
  const std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  std::string safe;
  safe.reserve(text.size());
  // These stand in strings only, where an escape means the same.
  for (const char c : text) {
    switch (c) {
      case '<':
        safe += "\\u003c";
        break;
      case '>':
        safe += "\\u003e";
        break;
      case '&':
        safe += "\\u0026";
        break;
      default:
        safe += c;
    }
  }
  return safe;
}

std::string html_page(const Page& page, const PageAssets& assets) {
  if (assets.charts.empty())
    throw Error(ErrorCode::unsupported,
                "this cudadent-tune was built without Chart.js, which draws its pages. Install it "
                "(Debian, Ubuntu: libjs-chart.js), or name its file chart.min.js with cmake "
                "-DCUDADENT_CHART_JS=…, and build again");
  for (const auto script : {assets.script, assets.charts}) require_harmless(script);
  return fmt::format(
      R"html(<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="cudadent {version}">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<header><h1>{title}</h1><p>{subtitle}</p></header>
<noscript><p class="warning">This page draws its figures with JavaScript, which is switched off.</p></noscript>
<main id="page"></main>
<script type="application/json" id="page-data">{data}</script>
<script>{charts}</script>
<script>
{script}</script>
</body>
</html>
)html",
      fmt::arg("version", escape_html(version())), fmt::arg("title", escape_html(page.title)),
      fmt::arg("subtitle", escape_html(page.subtitle)), fmt::arg("style", assets.style),
      fmt::arg("data", json_in_script(page_json(page))), fmt::arg("charts", assets.charts),
      fmt::arg("script", assets.script));
}

}  // namespace cudadent::cli
