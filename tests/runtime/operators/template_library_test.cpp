#include "runtime/operators/template_library.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <thread>

#include "tests/support/errors.h"
#include "tests/support/twice.h"

namespace cudadent {
namespace {

using namespace tests;

std::shared_ptr<const OperatorEntry> load(const Folder& folder, const char* op = "twice") {
  TemplateLibrary library({folder.path()});
  return library.find(op);
}

const KernelTemplate* find_template(const OperatorEntry& entry, std::string_view name) {
  for (const auto& kernel : entry.templates)
    if (kernel->name == name) return kernel.get();
  return nullptr;
}

bool refuses(const Folder& folder, std::initializer_list<std::string_view> parts) {
  return fails(ErrorCode::invalid_manifest, parts, [&] { load(folder); });
}

TEST_CASE("the built-in operators load, and internal ones are not listed") {
  TemplateLibrary library({});
  const auto names = library.operators();
  CHECK(std::is_sorted(names.begin(), names.end()));
  CHECK(std::count(names.begin(), names.end(), "gemm") == 1);
  for (const auto& name : names) {
    CHECK(!name.starts_with('_'));
    CHECK(!library.find(name)->templates.empty());
  }
  CHECK(library.find("_compare")->manifest->name == "_compare");
}

TEST_CASE("a folder of operators, and a folder that is one") {
  const Folder folder;
  write_twice(folder);
  for (const char* at : {"", "twice", "twice/"}) {
    TemplateLibrary library({folder.path() / at});
    CAPTURE(at);
    const auto entry = library.find("twice");
    CHECK(entry->templates.size() == 2);
    CHECK(entry == library.find("twice"));  // parsed once
    CHECK(mentions(find_template(*entry, "kinds")->origin, {folder.path().native()}));
    CHECK(mentions(find_template(*entry, "kinds")->source, {"void twice"}));
    CHECK(mentions(find_template(*entry, "kinds")->shared_source, {"struct Block"}));
  }
}

TEST_CASE("links to folders and files are followed, but not round in circles") {
  namespace fs = std::filesystem;
  const Folder folder, elsewhere;
  write_twice(elsewhere);
  const auto has_twice = [&](const fs::path& place) {
    TemplateLibrary library({place});
    const auto names = library.operators();
    return std::count(names.begin(), names.end(), "twice") == 1 &&
           library.find("twice")->templates.size() == 2;
  };
  SUBCASE("an operator's folder") {
    fs::create_directory_symlink(elsewhere / "twice", folder / "twice");
    CHECK(has_twice(folder.path()));
    CHECK(has_twice(folder / "twice"));
  }
  SUBCASE("the folder of operators") {
    fs::create_directory_symlink(elsewhere.path(), folder / "operators");
    CHECK(has_twice(folder / "operators"));
  }
  SUBCASE("a link of another name than the operator it leads to, and the other way round") {
    fs::create_directory_symlink(elsewhere / "twice", folder / "newest");
    CHECK(has_twice(folder / "newest"));
    fs::rename(elsewhere / "twice", elsewhere / "twice-2");
    fs::create_directory_symlink(elsewhere / "twice-2", folder / "twice");
    CHECK(has_twice(folder / "twice"));
    CHECK(has_twice(folder.path()));
  }
  SUBCASE("files") {
    for (const auto& entry : fs::directory_iterator(elsewhere / "twice")) {
      fs::create_directories(folder / "twice");
      fs::create_symlink(entry.path(), folder.path() / "twice" / entry.path().filename());
    }
    CHECK(has_twice(folder.path()));
  }
  SUBCASE("a folder that two operators share") {
    elsewhere.write("common/kinds.cpp", "void shared(const Block&) {}\n");
    write_twice(folder);
    fs::create_directory_symlink(elsewhere / "common", folder / "twice/common");
    fs::create_directory_symlink(elsewhere / "common", folder / "common");
    folder.write("twice/kinds.cpp", "#include \"twice/common/kinds.cpp\"\n");
    CHECK(mentions(find_template(*load(folder), "kinds")->source, {"void shared"}));
    folder.write("twice/kinds.cpp", "#include \"common/kinds.cpp\"\n");
    CHECK(mentions(find_template(*load(folder), "kinds")->source, {"void shared"}));
  }
  SUBCASE("loops, and links that lead nowhere") {
    write_twice(folder);
    fs::create_directory_symlink(folder.path(), folder / "twice/up");
    fs::create_directory_symlink("..", folder / "twice/parent");
    fs::create_symlink("itself", folder / "itself");
    fs::create_symlink("/no/such/file", folder / "twice/nowhere.json");
    fs::create_directories(folder / "a");
    fs::create_directories(folder / "b");
    fs::create_directory_symlink("../b", folder / "a/b");
    fs::create_directory_symlink("../a", folder / "b/a");
    CHECK(has_twice(folder.path()));
    CHECK(has_twice(folder / "twice"));
  }
}

TEST_CASE("links in many circles are an error, not a walk without end") {
  namespace fs = std::filesystem;
  const Folder folder;
  // Ten folders, each with links to all the others: the ways through them are millions.
  for (int i = 0; i < 10; ++i) fs::create_directory(folder / std::to_string(i));
  for (int i = 0; i < 10; ++i)
    for (int j = 0; j < 10; ++j)
      if (i != j)
        fs::create_directory_symlink(folder / std::to_string(j),
                                     folder.path() / std::to_string(i) / std::to_string(j));
  CHECK(fails(ErrorCode::invalid_argument, {folder.path().native(), "circles"},
              [&] { TemplateLibrary library({folder.path()}); }));
}

TEST_CASE("a folder adds templates to a built-in operator, and replaces its files") {
  const Folder folder;
  folder.write("rms_norm/mine.json", R"({ "template": "mine", "backend": "host",
      "launches": [{ "entry": "mine", "grid": [1], "args": [] }] })");
  folder.write("rms_norm/mine.cpp", "void mine(const Block&) {}\n");
  folder.write("rms_norm/host_reference.cpp", "// another reference\n");
  const auto built_in = TemplateLibrary({}).find("rms_norm");
  const auto entry = load(folder, "rms_norm");
  CHECK(entry->templates.size() == built_in->templates.size() + 1);
  CHECK(find_template(*entry, "mine") != nullptr);
  CHECK(find_template(*entry, "host_reference")->source == "// another reference\n");
  // What changed has another hash, what did not has the same.
  CHECK(find_template(*entry, "host_reference")->hash !=
        find_template(*built_in, "host_reference")->hash);
  CHECK(find_template(*entry, "host")->hash == find_template(*built_in, "host")->hash);
}

TEST_CASE("later folders lie over earlier ones, also those added later") {
  const Folder first, second;
  write_twice(first);
  second.write("twice/kinds.cpp", "// the second\n");
  CHECK(find_template(*TemplateLibrary({first.path(), second.path()}).find("twice"), "kinds")
            ->source == "// the second\n");
  TemplateLibrary library({first.path()});
  const auto before = library.find("twice");
  library.add_folder(second.path());
  CHECK(find_template(*library.find("twice"), "kinds")->source == "// the second\n");
  CHECK(find_template(*before, "kinds")->source != "// the second\n");  // in use, and unchanged
}

TEST_CASE("includes are expanded in place, once") {
  const Folder folder;
  write_twice(folder, false);
  folder.write("shared/a.h", "#pragma once\n#include \"shared/b.h\"\nint a;\n");
  folder.write("shared/b.h", "int b;");
  folder.write("twice/host_reference.cpp",
               "#include \"shared/a.h\"\n#include \"shared/b.h\"\nint c;\n");
  CHECK(load(folder)->templates[0]->source == "int b;\nint a;\nint c;\n");
  // A header is part of what winners depend on.
  const auto before = load(folder)->templates[0]->hash;
  folder.write("shared/b.h", "int B;");
  CHECK(load(folder)->templates[0]->hash != before);
}

TEST_CASE("files that are not templates do no harm") {
  const Folder folder;
  write_twice(folder);
  folder.write("README.md", "Operators of ours.");
  folder.write("twice/notes.txt", "notes");
  folder.write("twice/data/measured.json", "[1, 2]");
  folder.write(".editor/settings.json", "{}");
  TemplateLibrary library({folder.path()});
  CHECK(library.find("twice")->templates.size() == 2);
  const auto names = library.operators();
  CHECK(std::count(names.begin(), names.end(), "twice") == 1);
  CHECK(names.size() == TemplateLibrary({}).operators().size() + 1);
}

TEST_CASE("what is missing is named") {
  constexpr auto code = ErrorCode::invalid_argument;
  CHECK(fails(code, {"\"gem\"", "gemm", "rms_norm", "CUDADENT_TEMPLATE_PATH"},
              [] { TemplateLibrary({}).find("gem"); }));
  CHECK(fails(code, {"/no/such/folder"}, [] { TemplateLibrary({"/no/such/folder"}); }));
  const Folder folder;
  write_twice(folder);
  std::filesystem::remove(folder / "twice/kinds.cpp");
  CHECK(refuses(folder, {"kinds.json", "twice/kinds.cpp"}));
  folder.write("twice/kinds.cpp", "#include \"shared/missing.h\"\n");
  CHECK(refuses(folder, {"twice/kinds.cpp", "shared/missing.h"}));
}

TEST_CASE("manifests that do not fit their place") {
  const Folder folder;
  folder.write("twice/op.json", twice_manifest);
  CHECK(refuses(folder, {"twice/op.json", "no template"}));
  write_twice(folder);
  folder.write("twice/op.json", replaced(twice_manifest, "\"twice\"", "\"thrice\""));
  CHECK(refuses(folder, {"twice/op.json", "\"thrice\"", "\"twice\""}));
  write_twice(folder);
  folder.write("twice/again.json", replaced(kinds_template, "\"kinds\"", "\"host_reference\""));
  folder.write("twice/host_reference.cpp", kinds_source);
  CHECK(refuses(folder, {"host_reference.json", "\"host_reference\"", "again.json"}));
}

TEST_CASE("threads that ask at once get one entry") {
  const Folder folder;
  write_twice(folder);
  TemplateLibrary library({folder.path()});
  std::vector<std::shared_ptr<const OperatorEntry>> found(4);
  {
    std::vector<std::jthread> threads;
    for (auto& entry : found)
      threads.emplace_back([&library, &entry] { entry = library.find("twice"); });
  }
  for (const auto& entry : found) CHECK(entry == found.front());
}

}  // namespace
}  // namespace cudadent
