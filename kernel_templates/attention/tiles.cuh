// How attention's work is cut into tiles: shared by the CUDA templates, whose manifests say BM and BN (rows
// and keys of a tile), GROUP (query heads that share its keys: 1, or with PACK all of a kv head), SPLIT (blocks
// that share the keys of a tile) and SECTION (heads that are worked on at a time).
#pragma once

constexpr int QUERIES = BM / GROUP;  // of a tile; rows beyond QUERIES * GROUP are not used
static_assert(QUERIES > 0);

// How far apart a query and the keys that it sees are less than, from the caller's window.
__device__ __forceinline__ int reach_of(float window) {
  return static_cast<int>(fminf(fmaxf(ceilf(window), 0.0f), 1e9f));
}

// The problem's sizes.
struct Sizes {
  int batch, heads, heads_a_kv_head, query_length, kv_length;
  int reach;  // with windowed, a query sees keys less than this away

  __device__ __forceinline__ int query_blocks() const { return ceil_div(query_length, QUERIES); }
  // Heads, or with PACK groups of them.
  __device__ __forceinline__ int groups() const { return heads / GROUP; }
  __device__ __forceinline__ int work() const { return query_blocks() * groups() * batch * SPLIT; }
  // Keys that the queries from position `first` to `last` see lie from low_key to below high_key. The
  // position of a query is the index of the key that it stands at.
  __device__ __forceinline__ int low_key(int first) const {
    return windowed ? max(0, first - reach + 1) : 0;
  }
  __device__ __forceinline__ int high_key(int last) const {
    if constexpr (causal) return min(kv_length, last + 1);
    return windowed ? min(kv_length, last + reach) : kv_length;
  }
};

// QUERIES queries of a head or a group of them, and the blocks of keys that this block multiplies them
// with: from `low` to below `high`.
struct Tile {
  int index;
  int first_query, group, batch;
  int first_position;
  int low, high;
  int part;  // of SPLIT

  __device__ __forceinline__ Tile(int work, const Sizes& sizes) {
    index = work / SPLIT;
    part = work - index * SPLIT;
    const int query_blocks = sizes.query_blocks(), heads = sizes.groups() * sizes.batch;
    const int section = index / (SECTION * query_blocks);
    const int within = index - section * (SECTION * query_blocks);
    const int section_heads = min(SECTION, heads - section * SECTION);
    const int along = within / section_heads;
    const int any_head = section * SECTION + within - along * section_heads;
    batch = any_head / sizes.groups();
    group = any_head - batch * sizes.groups();
    first_query = (causal ? query_blocks - 1 - along : along) * QUERIES;
    first_position = first_query + sizes.kv_length - sizes.query_length;
    const int last_position =
        min(first_query + QUERIES, sizes.query_length) - 1 + sizes.kv_length - sizes.query_length;
    low = sizes.low_key(first_position) / BN;
    high = ceil_div(max(0, sizes.high_key(last_position)), BN);
    low = min(low, high);
    if constexpr (SPLIT > 1) {
      const int blocks = high - low;
      high = low + blocks * (part + 1) / SPLIT;
      low += blocks * part / SPLIT;
    }
  }
  __device__ __forceinline__ int kv_head(const Sizes& sizes) const {
    return GROUP > 1 ? group : group / sizes.heads_a_kv_head;
  }
};
