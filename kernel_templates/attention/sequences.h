// Where sequences lie, which queries a block of the host templates has, and which keys these see. Manifests give head_dim and
// page_size, and whether there are cu_queries, cu_keys, block_table and kv_lengths.
#pragma once

constexpr int PAGE = page_size > 0 ? page_size : 1;

// Of the whole problem. Strides in elements; of pages, the batch stride is from one to the next.
struct Sequences {
  const int *cu_queries, *cu_keys, *block_table, *kv_lengths;  // null where there are none
  int batch, pages_a_sequence, query_length, kv_length, queries;
};

// The tensor that is read by keys, k or v, as one sequence and one head sees it.
struct KeyRows {
  const dtype* first;
  i64 page_stride, stride;
  const int* pages;

  const dtype* operator[](int key) const {
    if constexpr (has_block_table)
      return first + pages[key / PAGE] * page_stride + key % PAGE * stride;
    return first + key * stride;
  }
};

// Some rows of queries of one sequence: those of the `slot`-th block of ROWS. A sequence begins in a slot of
// its own, so that there are no more slots than queries / ROWS + sequences; a few of them are empty.
struct Place {
  int batch = 0, first = 0;   // the sequence, and the first row in it
  int queries = 0, keys = 0;  // of the sequence
  // Rows of other sequences in front of it, where they lie one behind the other.
  i64 query_start = 0, key_start = 0;

  Place(int slot, int rows, const Sequences& all) {
    if constexpr (has_cu_queries) {
      const auto first_slot = [&](int i) { return all.cu_queries[i] / rows + i; };
      while (batch < all.batch && first_slot(batch + 1) <= slot) ++batch;
      if (batch == all.batch) return;
      // Rows in front of the first sequence, or behind the tensor's end, are nobody's.
      if (slot < first_slot(batch)) return;
      first = (slot - first_slot(batch)) * rows;
      query_start = maximum(0, all.cu_queries[batch]);
      queries = minimum(all.queries, all.cu_queries[batch + 1]) - static_cast<int>(query_start);
    } else {
      const int slots = (all.query_length + rows - 1) / rows;
      batch = slot / slots;
      first = (slot - batch * slots) * rows;
      queries = all.query_length;
    }
    keys = all.kv_length;
    if constexpr (has_block_table) keys = all.pages_a_sequence * PAGE;
    if constexpr (has_kv_lengths) keys = maximum(0, minimum(keys, all.kv_lengths[batch]));
    if constexpr (has_cu_keys) {
      key_start = all.cu_keys[batch];
      keys = all.cu_keys[batch + 1] - all.cu_keys[batch];
    }
  }
  // Of k or v.
  KeyRows rows_of(const dtype* tensor, const Sequences& all, i64 batch_stride, i64 stride,
                  i64 head_offset) const {
    const int* const pages = has_block_table
                                 ? all.block_table + static_cast<i64>(batch) * all.pages_a_sequence
                                 : nullptr;
    const i64 start = has_block_table ? 0 : batch * batch_stride + key_start * stride;
    return {tensor + start + head_offset, batch_stride, stride, pages};
  }
  // Where the lse of the row is.
  i64 lse_at(int row, i64 head, i64 heads, const Sequences& all) const {
    if constexpr (has_cu_queries) return head * all.queries + query_start + row;
    return (batch * heads + head) * all.query_length + row;
  }
};

// Keys that some of the queries from position `first` to `last` sees lie from `low` to below `high`; all of
// these, where it is one query. The position of a query is the index of the key that it stands at.
struct SeenKeys {
  int low = 0, high;

  SeenKeys(int first, int last, int keys, int window) : high(keys) {
    if constexpr (causal) high = minimum(high, last + 1);
    if constexpr (windowed) {
      low = maximum(0, first - window + 1);
      if constexpr (!causal) high = minimum(high, last + window);
      if (window == 0) high = low;
    }
  }
  bool any() const { return low < high; }
};
