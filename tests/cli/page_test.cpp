// Pages: one file, and every text in them harmless.
#include "cli/page.h"

#include <doctest/doctest.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "tests/support/errors.h"
#include "tests/support/folder.h"

namespace cudadent::cli {
namespace {

using namespace tests;
using nlohmann::json;

constexpr PageAssets assets{"body {}", "draw();", "/* charts */"};
constexpr std::string_view evil = "</script><script>alert('a & \"b\"')</script><!--";

// What the page's script reads.
json data_of(const std::string& html) {
  const std::string start = R"(<script type="application/json" id="page-data">)";
  const auto from = html.find(start);
  REQUIRE(from != std::string::npos);
  const auto to = html.find("</script>", from);
  return json::parse(html.substr(from + start.size(), to - from - start.size()));
}

std::size_t count_of(const std::string& text, std::string_view part) {
  std::size_t count = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

Page page_with(std::vector<Block> blocks) {
  return {.title = "a title", .sections = {{.id = "one", .blocks = std::move(blocks)}}};
}

TEST_CASE("text is no markup") {
  CHECK(escape_html("a < b > c & \"d\" 'e'") == "a &lt; b &gt; c &amp; &quot;d&quot; &#39;e&#39;");
  CHECK(escape_html("µ plain") == "µ plain");
  const std::string safe = json_in_script(json{{"k", evil}});
  CHECK(safe.find('<') == std::string::npos);
  CHECK(safe.find('>') == std::string::npos);
  CHECK(safe.find('&') == std::string::npos);
  CHECK(json::parse(safe).at("k") == evil);
}

TEST_CASE("a page holds its parts, and texts of strangers end nothing early") {
  const std::string text(evil);
  Page page = page_with({Paragraph{text}, Facts{{text, text, text}},
                         Table{text, {text}, {{{text, {}, {}}}}},
                         Figure{.title = text,
                                .caption = text,
                                .x = {.label = text},
                                .categories = {text},
                                .series = {{.name = text, .labels = {text}}}}});
  page.title = page.subtitle = text;
  page.sections[0].title = page.sections[0].summary = text;
  const std::string html = html_page(page, assets);
  CHECK(count_of(html, "<script") == 3);  // data, library, ours
  CHECK(count_of(html, "</script>") == 3);
  CHECK(html.find("<script>alert") == std::string::npos);
  CHECK(mentions(html, {"default-src 'none'", "body {}", "/* charts */", "draw();"}));
  const json data = data_of(html);
  CHECK(data.at("title") == text);
  CHECK(data.at("sections")[0].at("blocks").size() == 4);
  CHECK(data.at("sections")[0].at("blocks")[0].at("text") == text);
}

TEST_CASE("bytes that are not UTF-8 do no harm") {
  const json data = data_of(html_page(page_with({Paragraph{"cut \xff off"}}), assets));
  CHECK(data.at("sections")[0].at("blocks")[0].at("text") == "cut \xef\xbf\xbd off");
}

TEST_CASE("numbers keep five digits; what is none is null") {
  const double nothing = std::numeric_limits<double>::quiet_NaN();
  const Figure figure{.series = {{.values = {{1.23456789e-6, nothing, 4096}}}}};
  const json values = data_of(
      html_page(page_with({figure}), assets))["sections"][0]["blocks"][0]["series"][0]["values"];
  CHECK(values[0][0] == 1.2346e-6);
  CHECK(values[0][1].is_null());
  CHECK(values[0][2] == 4096);
}

TEST_CASE("without the plotting library there is no page, but advice") {
  CHECK(fails(ErrorCode::unsupported, {"without Chart.js", "libjs-chart.js", "CUDADENT_CHART_JS"},
              [] { html_page({}, {"", "", ""}); }));
}

TEST_CASE("a script that would end its element is refused") {
  CHECK(
      fails(ErrorCode::internal, {"</script"}, [] { html_page({}, {"", "", "x = '</script>'"}); }));
}

}  // namespace
}  // namespace cudadent::cli
