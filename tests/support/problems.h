// Problems of built-in operators that several tests use, as values.
#pragma once

#include <cudadent/cudadent.h>

#include <cstdint>
#include <string>

namespace cudadent::test {

// Attention over [batch, queries, heads, dim] and [batch, keys, kv_heads, dim], and `more`.
inline Values attention_problem(std::int64_t batch, std::int64_t queries, std::int64_t keys,
                                std::int64_t heads, std::int64_t kv_heads, std::int64_t dim,
                                const char* dtype, Values more = {}) {
  more.insert({{"batch", batch},
               {"query_length", queries},
               {"kv_length", keys},
               {"heads", heads},
               {"kv_heads", kv_heads},
               {"head_dim", dim},
               {"dtype", std::string(dtype)}});
  return more;
}

}  // namespace cudadent::test
