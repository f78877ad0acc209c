// Problems of one tuning key share a winner: whatever is valid for one of them has to be valid for all.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>

#include "runtime/language/value.h"
#include "runtime/operators/specialization.h"
#include "runtime/operators/template_library.h"
#include "tuner/tuning_space.h"

namespace cudadent {
namespace {

Problem gemm(const OperatorEntry& entry, std::int64_t m, const Values& more = {}) {
  Values values{{"m", m},
                {"n", std::int64_t{4096}},
                {"k", std::int64_t{4096}},
                {"dtype", std::string("bf16")}};
  for (const auto& [name, value] : more) values[name] = value;
  return make_problem(entry.manifest, values);
}

// The least and the largest m of each bucket from 1 to `last`, by the bucket's key.
std::map<std::string, std::pair<std::int64_t, std::int64_t>> buckets_of_gemm(
    const OperatorEntry& entry, std::int64_t last) {
  std::map<std::string, std::pair<std::int64_t, std::int64_t>> buckets;
  for (std::int64_t m = 1; m <= last; ++m) {
    const auto [bucket, is_new] = buckets.try_emplace(gemm(entry, m).tuning_key(), m, m);
    if (!is_new) CHECK(bucket->second.second == m - 1);  // in one piece
    bucket->second.second = m;
  }
  return buckets;
}

// Of the second problem, too, all that the first allows.
void check_alike(const KernelTemplate& kernel, const Problem& one, const Problem& other,
                 const Device& device) {
  CAPTURE(kernel.name);
  CAPTURE(one.describe());
  CAPTURE(other.describe());
  CHECK(why_unfit(kernel, one, device).empty() == why_unfit(kernel, other, device).empty());
  if (!why_unfit(kernel, one, device).empty() || kernel.parameters.empty()) return;
  const TuningSpace space(space_definition(kernel, one, device));
  const TuningSpace others(space_definition(kernel, other, device));
  CHECK(space.size() == others.size());
  std::mt19937_64 generator(1);
  for (int i = 0; i < 20; ++i) {
    const Values configuration = space.configuration(generator() % space.size());
    CAPTURE(to_text(configuration));
    CHECK(others.index_of(configuration).has_value());
  }
}

TEST_CASE("rows of gemm: powers of two up to 128, then eight buckets an octave") {
  TemplateLibrary library({});
  const auto entry = library.find("gemm");
  std::vector<std::int64_t> largest;
  for (const auto& [key, range] : buckets_of_gemm(*entry, 512)) largest.push_back(range.second);
  std::sort(largest.begin(), largest.end());
  CHECK(largest == std::vector<std::int64_t>{1,   2,   4,   8,   16,  32,  64,  128,
                                             144, 160, 176, 192, 208, 224, 240, 256,
                                             288, 320, 352, 384, 416, 448, 480, 512});
}

TEST_CASE("what is valid for one problem of a bucket is valid for all of it") {
  TemplateLibrary library({});
  const auto entry = library.find("gemm");
  const Values block{{"dtype", std::string("e4m3")},
                     {"scaling", std::string("block")},
                     {"scale_a", true},
                     {"scale_b", true}};
  const Values batched{{"batch", std::int64_t{5}}};
  for (const char* architecture : {"sm_75", "sm_90a"}) {
    const Device device = nominal_cuda_device(architecture).value();
    for (const auto& [key, range] : buckets_of_gemm(*entry, 1024))
      for (const Values& more : {Values{}, block, batched})
        for (const auto& kernel : entry->templates)
          check_alike(*kernel, gemm(*entry, range.first, more), gemm(*entry, range.second, more),
                      device);
  }
}

TEST_CASE("what is valid for one attention of a bucket is valid for all of it") {
  TemplateLibrary library({});
  const auto entry = library.find("attention");
  const auto problem = [&](std::int64_t batch, std::int64_t queries, std::int64_t keys) {
    return make_problem(entry->manifest, {{"batch", batch},
                                          {"query_length", queries},
                                          {"kv_length", keys},
                                          {"heads", std::int64_t{12}},
                                          {"kv_heads", std::int64_t{4}},
                                          {"head_dim", std::int64_t{128}},
                                          {"dtype", std::string("f16")},
                                          {"causal", true}});
  };
  for (const char* architecture : {"sm_75", "sm_90a"}) {
    const Device device = nominal_cuda_device(architecture).value();
    for (const std::int64_t queries : {1, 2, 16, 128, 1024})
      for (const std::int64_t keys : {64, 2048}) {
        const Problem most = problem(4, queries, keys);
        const Problem least = problem(3, queries / 2 + 1, keys / 2 + 1);
        CHECK(most.tuning_key() == least.tuning_key());
        for (const auto& kernel : entry->templates) check_alike(*kernel, most, least, device);
      }
  }
}

TEST_CASE("what is valid for sequences of one bucket is valid for all of it") {
  TemplateLibrary library({});
  const auto entry = library.find("attention");
  const auto problem = [&](std::int64_t batch, std::int64_t queries, std::int64_t pages) {
    return make_problem(entry->manifest, {{"batch", batch},
                                          {"queries", queries},
                                          {"pages", pages * 100},
                                          {"page_size", std::int64_t{16}},
                                          {"pages_a_sequence", pages},
                                          {"cu_queries", true},
                                          {"block_table", true},
                                          {"kv_lengths", true},
                                          {"heads", std::int64_t{12}},
                                          {"kv_heads", std::int64_t{4}},
                                          {"head_dim", std::int64_t{128}},
                                          {"window", pages},
                                          {"dtype", std::string("f16")}});
  };
  for (const char* architecture : {"sm_75", "sm_90a"}) {
    const Device device = nominal_cuda_device(architecture).value();
    for (const std::int64_t queries : {8, 64, 4096})
      for (const std::int64_t pages : {4, 128}) {
        const Problem most = problem(8, queries, pages);
        const Problem least = problem(5, queries / 2 + 1, pages / 2 + 1);
        CHECK(most.tuning_key() == least.tuning_key());
        CHECK(least.representative().values.at("pages") == Value(8 * pages));
        for (const auto& kernel : entry->templates) check_alike(*kernel, most, least, device);
      }
  }
}

}  // namespace
}  // namespace cudadent
