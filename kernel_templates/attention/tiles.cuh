// How attention's work is cut into tiles: shared by the CUDA templates, whose manifests say BM and BN (rows
// and keys of a tile), GROUP (query heads that share its keys: 1, or with PACK all of a kv head), SPLIT (blocks
// that share the keys of a tile), SECTION (heads that are worked on at a time) and CLUSTER (blocks that take
// neighbouring tiles of a head and the same keys).
#pragma once
#include "attention/sequences.cuh"

constexpr int QUERIES = BM / GROUP;  // of a tile; rows beyond QUERIES * GROUP are not used
constexpr int CLUSTER_QUERIES = CLUSTER * QUERIES;
static_assert(QUERIES > 0 && (CLUSTER == 1 || SPLIT == 1));
// Lengths are each sequence's own: else all are query_length and kv_length.
constexpr bool OWN_LENGTHS = has_cu_queries || has_cu_keys || has_block_table || has_kv_lengths;

// The problem's sizes. Where sequences have lengths of their own, those are the lengths of the one that was
// entered last.
struct Sizes {
  int batch, heads, heads_a_kv_head, query_length, kv_length;
  int window;  // with windowed, a query sees keys less than this away
  Sequences sequences;
  int query_start = 0;       // rows of q and out in front of the sequence
  int key_room = kv_length;  // of each sequence, where all have as much

  // Of a cluster's queries, those of a sequence, or of all where they lie one behind the other.
  __device__ __forceinline__ int query_blocks() const {
    if constexpr (has_cu_queries) return sequences.slots<CLUSTER_QUERIES>(batch);
    return ceil_div(query_length, CLUSTER_QUERIES);
  }
  // Heads, or with PACK groups of them.
  __device__ __forceinline__ int groups() const { return heads / GROUP; }
  __device__ __forceinline__ int work() const {
    return query_blocks() * groups() * (has_cu_queries ? 1 : batch) * SPLIT;
  }
  __device__ __forceinline__ void enter(int sequence) {
    const bool exists = sequence < batch;
    if constexpr (has_cu_queries) {
      query_length = exists ? sequences.query_count(sequence, 0) : 0;
      query_start = exists ? sequences.query_start(sequence) : 0;
    }
    kv_length = exists ? sequences.key_count(sequence, key_room) : 0;
  }
  // Keys that the queries from position `first` to `last` see lie from low_key to below high_key.
  __device__ __forceinline__ int low_key(int first) const { return first_seen_key(first, window); }
  __device__ __forceinline__ int high_key(int last) const {
    return end_of_seen_keys(last, kv_length, window);
  }
};

// QUERIES queries of a head or a group of them, and the blocks of keys that this block multiplies them
// with: from `low` to below `high`, which are those of all its cluster.
struct Tile {
  int index;
  int first_query, group, batch;
  int first_position;
  int low, high;
  int low_key,
      high_key;  // what its queries, or its cluster's, see lies from one to below the other
  int part;      // of SPLIT

  // Enters the tile's sequence. `rank` is the block's in its cluster.
  __device__ __forceinline__ Tile(int work, Sizes& sizes, int rank = 0) {
    const int query_blocks = sizes.query_blocks();
    if constexpr (SPLIT > 1) {
      // Heads before parts: blocks that run together read what lies together.
      const int tiles = query_blocks * sizes.groups();  // of a sequence
      const int row = work / tiles;
      const int sequence = row / SPLIT;
      part = row - sequence * SPLIT;
      index = sequence * tiles + work - row * tiles;
    } else {
      index = work;
      part = 0;
    }
    const int heads = sizes.groups() * (has_cu_queries ? 1 : sizes.batch);
    const int section = index / (SECTION * query_blocks);
    const int within = index - section * (SECTION * query_blocks);
    const int section_heads = min(SECTION, heads - section * SECTION);
    const int along = within / section_heads;
    const int any_head = section * SECTION + within - along * section_heads;
    batch = any_head / sizes.groups();
    group = any_head - batch * sizes.groups();
    first_query = (causal ? query_blocks - 1 - along : along) * CLUSTER_QUERIES;
    if constexpr (has_cu_queries) {
      const int slot = first_query / CLUSTER_QUERIES;
      batch = sizes.sequences.sequence_of<CLUSTER_QUERIES>(slot, sizes.batch);
      first_query = (slot - sizes.sequences.first_slot<CLUSTER_QUERIES>(batch)) * CLUSTER_QUERIES;
      if (first_query < 0) {  // rows in front of the first sequence
        batch = sizes.batch;
        first_query = 0;
      }
    }
    if constexpr (OWN_LENGTHS) sizes.enter(batch);
    first_position = first_query + sizes.kv_length - sizes.query_length;
    const int last_position = min(first_query + CLUSTER_QUERIES, sizes.query_length) - 1 +
                              sizes.kv_length - sizes.query_length;
    low_key = sizes.low_key(first_position);
    high_key = sizes.high_key(last_position);
    low = low_key / BN;
    high = ceil_div(max(0, high_key), BN);
    if (has_cu_queries && first_query >= sizes.query_length) high = 0;
    low = min(low, high);
    if constexpr (SPLIT > 1) {
      const int blocks = high - low;
      high = low + blocks * (part + 1) / SPLIT;
      low += blocks * part / SPLIT;
    }
    if constexpr (CLUSTER > 1) {
      first_query += rank * QUERIES;
      first_position += rank * QUERIES;
    }
  }
  __device__ __forceinline__ int kv_head(const Sizes& sizes) const {
    return GROUP > 1 ? group : group / sizes.heads_a_kv_head;
  }
};
