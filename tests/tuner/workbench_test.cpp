#include "tuner/workbench.h"

#include <doctest/doctest.h>

#include <cmath>

#include "tests/support/errors.h"
#include "tests/support/tuning.h"

namespace cudadent {
namespace {

using namespace tests;

struct Bench {
  Tuning tuning;
  std::shared_ptr<const OperatorEntry> entry;
  Problem problem;
  Workbench workbench;

  explicit Bench(const Values& given = twice_problem(), bool with_reference = true)
      : entry(entry_of(with_reference)),
        problem(make_problem(entry->manifest, given)),
        workbench(tuning.backend, library(), tuning.store, *entry, problem, 7) {}

  std::shared_ptr<const OperatorEntry> entry_of(bool with_reference) {
    if (!with_reference) std::filesystem::remove(tuning.folder / "twice/host_reference.json");
    return tuning.entry();
  }
  TemplateLibrary& library() { return tuning.library(); }
  Verdict verdict(const char* kind) {
    for (const auto& kernel : entry->templates)
      if (kernel->name == "kinds")
        return workbench.verify(*workbench.load(
            specialize(kernel, problem, {{"KIND", std::string(kind)}}, tuning.backend.device())));
    FAIL("no template");
    return {};
  }
};

TEST_CASE("outputs are compared with the reference's") {
  Bench bench;
  CHECK(bench.workbench.reference() == "host_reference");
  CHECK(bench.verdict("fast").complaint.empty());
  CHECK(bench.verdict("fast").error == 0);
  const Verdict wrong = bench.verdict("wrong");
  CHECK(mentions(wrong.complaint, {"y", "relative error 0.5", "expected at most 1e-06"}));
  CHECK(wrong.error == doctest::Approx(0.5));
  const Verdict nan = bench.verdict("nan");
  CHECK(mentions(nan.complaint, {"y: 1 of 100 elements", "NaN"}));
  CHECK(std::isinf(nan.error));
  // A wrong one leaves nothing behind for the next.
  CHECK(bench.verdict("fast").complaint.empty());
}

TEST_CASE("large inputs repeat what was drawn, in another place of every row") {
  constexpr std::int64_t period = 4'194'301, count = period + 1000;
  Tuning tuning;
  const auto verdict = [&](const std::string& source) {
    tuning.folder.write("twice/kinds.cpp",
                        "void twice(const Block&, const dtype* x, dtype* y, int n, int, int) {"
                        "for (int i = 0; i < n; ++i) y[i] = 2 * x[" +
                            source + "]; }\n");
    const auto entry = tuning.entry();
    const Problem problem = make_problem(entry->manifest, twice_problem(count));
    Workbench workbench(tuning.backend, tuning.library(), tuning.store, *entry, problem, 1);
    const auto kernel = entry->template_named("kinds");
    return workbench.verify(*workbench.load(
        specialize(kernel, problem, {{"KIND", std::string("fast")}}, tuning.backend.device())));
  };
  CHECK(verdict("i % 4194301").complaint.empty());
  CHECK(!verdict("i % 4194304").complaint.empty());
}

TEST_CASE("other data types, and memory that is not aligned") {
  Values given = twice_problem();
  SUBCASE("f64") { given["dtype"] = std::string("f64"); }
  SUBCASE("unaligned") { given["aligned"] = false; }
  Bench bench(given);
  CHECK(bench.verdict("fast").complaint.empty());
  CHECK(!bench.verdict("wrong").complaint.empty());
}

TEST_CASE("without a reference the first to be verified is it, unless it is broken") {
  Bench bench(twice_problem(), false);
  CHECK(bench.workbench.reference().empty());
  CHECK(!bench.verdict("nan").complaint.empty());  // NaN is wrong, whatever the reference
  CHECK(bench.verdict("fast").complaint.empty());
  CHECK(!bench.verdict("wrong").complaint.empty());
}

TEST_CASE("elements nobody wrote, and single wrong ones") {
  Tuning tuning;
  const auto verdict = [&](const std::string& body) {
    tuning.folder.write(
        "twice/kinds.cpp",
        "void twice(const Block&, const dtype* x, dtype* y, int n, int, int) {" + body + "}\n");
    const auto entry = tuning.entry();
    const Problem problem = make_problem(entry->manifest, twice_problem(1000));
    Workbench workbench(tuning.backend, tuning.library(), tuning.store, *entry, problem, 1);
    for (const auto& kernel : entry->templates)
      if (kernel->name == "kinds")
        return workbench.verify(*workbench.load(
            specialize(kernel, problem, {{"KIND", std::string("fast")}}, tuning.backend.device())));
    return Verdict{.complaint = "no template"};
  };
  const auto complaint = [&](const std::string& body) { return verdict(body).complaint; };
  CHECK(complaint("for (int i = 0; i < n; ++i) y[i] = 2 * x[i];").empty());
  CHECK(mentions(complaint("for (int i = 3; i < n; ++i) y[i] = 2 * x[i];"),
                 {"3 of 1000 elements", "not written"}));
  CHECK(mentions(complaint("for (int i = 0; i < n; ++i) y[i] = 2 * x[i] + (i == 500 ? 1e30f : 0);"),
                 {"relative error"}));
  // The norm of the whole hardly moves, but one element is plainly wrong.
  CHECK(mentions(complaint("for (int i = 0; i < n; ++i) y[i] = 2 * x[i] + (i == 500 ? 5e-5f : 0);"),
                 {"an element is off"}));
  // Writing beside the output is a fault, right as the output may be.
  const Verdict behind = verdict("for (int i = 0; i < n + 2; ++i) y[i] = i < n ? 2 * x[i] : 0;");
  CHECK(behind.out_of_bounds);
  CHECK(mentions(behind.complaint, {"y", "8 of the 256 bytes behind it"}));
  const Verdict before = verdict("for (int i = -1; i < n; ++i) y[i] = i < 0 ? 0 : 2 * x[i];");
  CHECK(before.out_of_bounds);
  CHECK(mentions(before.complaint, {"y", "before it"}));
}

TEST_CASE("tensors with gaps are laid out, and compared, with their gaps") {
  const Folder folder;
  folder.write("rows/op.json", R"({ "op": "rows",
      "dtypes": { "dtype": { "values": ["f32", "i32"] } },
      "tensors": {
        "x": { "shape": ["batch?", "n"], "strides": ["x_batch", 1], "dtype": "dtype" },
        "y": { "shape": ["batch?", "n"], "strides": ["y_batch", 1], "dtype": "dtype",
               "role": "output" } } })");
  const std::string manifest = R"({ "template": "NAME", "backend": "host",
      "compile_time": ["dtype"], "launches": [{ "entry": "rows", "grid": ["batch"],
        "args": ["x", "y", "n", "x_batch", "y_batch"] }] })";
  folder.write("rows/host_reference.json", replaced(manifest, "NAME", "host_reference"));
  folder.write("rows/other.json", replaced(manifest, "NAME", "other"));
  const auto source = [](const std::string& body) {
    return "void rows(const Block& block, const dtype* x, dtype* y, int n, int x_batch,"
           " int y_batch) {\n  x += block.x * x_batch, y += block.x * y_batch;\n" +
           body + "\n}\n";
  };
  const std::string right = "for (int i = 0; i < n; ++i) y[i] = 2 * x[i];";
  folder.write("rows/host_reference.cpp", source(right));
  const auto complaint = [&](const std::string& body, Values given) {
    folder.write("rows/other.cpp", source(body));
    TemplateLibrary library({folder.path()});
    const auto entry = library.find("rows");
    given.insert({{"batch", std::int64_t{4}}, {"n", std::int64_t{5}}});
    given.insert({"dtype", std::string("f32")});
    const Problem problem = make_problem(entry->manifest, given);
    CountingBackend backend;
    Store store(":memory:");
    Workbench workbench(backend, library, store, *entry, problem, 1);
    for (const auto& kernel : entry->templates)
      if (kernel->name == "other")
        return workbench.verify(*workbench.load(specialize(kernel, problem, {}, backend.device())))
            .complaint;
    return std::string("no template");
  };
  const Values gaps{{"x_batch", std::int64_t{8}}, {"y_batch", std::int64_t{7}}};
  const Values shared{{"x_batch", std::int64_t{0}}};
  CHECK(complaint(right, {}).empty());
  CHECK(complaint(right, gaps).empty());
  CHECK(complaint(right, shared).empty());
  CHECK(complaint(right, {{"x_batch", std::int64_t{2}}}).empty());  // an input whose rows overlap
  // Reading a gap is reading NaN.
  CHECK(mentions(complaint(right + " y[4] += 0 * x[5];", gaps), {"of 20 elements are NaN"}));
  // What was written into a gap, and what was not written at all.
  CHECK(mentions(complaint(right + " if (block.x < 3) y[6] = 1;", gaps),
                 {"y: 3 of 20 elements", "gaps"}));
  CHECK(mentions(complaint("for (int i = 1; i < n; ++i) y[i] = 2 * x[i];", gaps),
                 {"y: 4 of 20 elements"}));
  Values integers = gaps;
  integers["dtype"] = std::string("i32");
  CHECK(complaint(right, integers).empty());
  CHECK(!complaint(right + " if (block.x < 3) y[6] = 1;", integers).empty());
}

TEST_CASE("what neither the reference nor a candidate writes is wrong, gaps or not") {
  Tuning tuning;
  const std::string nothing = "void twice(const Block&, const dtype*, dtype*, int) {}\n";
  tuning.folder.write("twice/host_reference.cpp", nothing);
  tuning.folder.write("twice/kinds.cpp",
                      "void twice(const Block&, const dtype*, dtype*, int, int, int) {}\n");
  const auto entry = tuning.entry();
  const Problem problem = make_problem(entry->manifest, twice_problem(10));
  Workbench workbench(tuning.backend, tuning.library(), tuning.store, *entry, problem, 1);
  for (const auto& kernel : entry->templates)
    if (kernel->name == "kinds")
      CHECK(mentions(
          workbench
              .verify(*workbench.load(specialize(kernel, problem, {{"KIND", std::string("fast")}},
                                                 tuning.backend.device())))
              .complaint,
          {"10 of 10 elements", "not written"}));
}

TEST_CASE("flags can be outputs") {
  const Folder folder;
  folder.write("positive/op.json", R"({ "op": "positive", "tensors": {
      "x": { "shape": ["n"], "dtype": "f32" },
      "y": { "shape": ["n"], "dtype": "bool", "role": "output" } } })");
  folder.write("positive/host_reference.json", R"({ "template": "host_reference", "backend": "host",
      "launches": [{ "entry": "positive", "grid": [1], "args": ["x", "y", "n"] }] })");
  folder.write("positive/host_reference.cpp",
               "void positive(const Block&, const float* x, bool* y, int n) {\n"
               "  for (int i = 0; i < n; ++i) y[i] = x[i] > 0;\n}\n");
  TemplateLibrary library({folder.path()});
  const auto entry = library.find("positive");
  const Problem problem = make_problem(entry->manifest, {{"n", std::int64_t{100}}});
  CountingBackend backend;
  Store store(":memory:");
  Workbench workbench(backend, library, store, *entry, problem, 1);
  const auto executable =
      workbench.load(specialize(entry->templates[0], problem, {}, backend.device()));
  CHECK(workbench.verify(*executable).complaint.empty());
}

TEST_CASE("launches that fail, fail") {
  Bench bench;
  CHECK(
      fails(ErrorCode::launch_failed, {"refuses this launch"}, [&] { bench.verdict("refused"); }));
  CHECK(fails(ErrorCode::compile_failed, {"KIND=broken"}, [&] { bench.verdict("broken"); }));
}

TEST_CASE("a reference that does not compile is an error") {
  Tuning tuning;
  tuning.folder.write("twice/host_reference.cpp", "void twice(const Block&) { nonsense }\n");
  const auto entry = tuning.entry();
  const Problem problem = make_problem(entry->manifest, twice_problem());
  CHECK(fails(ErrorCode::compile_failed, {"twice/host_reference"}, [&] {
    Workbench(tuning.backend, tuning.library(), tuning.store, *entry, problem, 0);
  }));
}

TEST_CASE("what was compiled for a bench is kept for the next") {
  Bench bench;
  const int compiles = bench.tuning.backend.compiles;
  Workbench(bench.tuning.backend, bench.tuning.library(), bench.tuning.store, *bench.entry,
            bench.problem, 8);
  CHECK(bench.tuning.backend.compiles == compiles);
}

}  // namespace
}  // namespace cudadent
