// Where the sequences of a batch lie, and which keys queries see: shared by the CUDA templates, whose
// manifests say page_size.
#pragma once

constexpr int PAGE = page_size > 0 ? page_size : 1;

struct Sequences {
  const int *cu_queries, *cu_keys, *block_table, *kv_lengths;  // null where there are none
  int pages_a_sequence;
  int queries;  // of all sequences, where these lie one behind the other

  // Queries are worked on ROWS at a time, in numbered slots. Where sequences lie one behind the other each
  // begins in a slot of its own; this one is at or behind where the one before it ends, since rounding down
  // a sum gives no less than the sum of what is rounded down.
  template <int ROWS>
  __device__ __forceinline__ int first_slot(int sequence) const {
    return cu_queries[sequence] / ROWS + sequence;
  }
  template <int ROWS>
  __device__ __forceinline__ int slots(int batch) const {
    return queries / ROWS + batch;
  }
  // The sequence that has a slot; `batch` when none of that many does.
  template <int ROWS>
  __device__ __forceinline__ int sequence_of(int slot, int batch) const {
    int from = 0, to = batch;  // the first that begins behind the slot is from..to, less one
    while (from < to) {
      const int middle = (from + to) / 2;
      if (first_slot<ROWS>(middle + 1) <= slot) {
        from = middle + 1;
      } else {
        to = middle;
      }
    }
    return from;
  }
  // No row in front of the tensor or behind its end is a sequence's, whatever the list says.
  __device__ __forceinline__ int query_start(int sequence) const {
    return has_cu_queries ? max(0, cu_queries[sequence]) : 0;
  }
  __device__ __forceinline__ int key_start(int sequence) const {
    return has_cu_keys ? cu_keys[sequence] : 0;
  }
  __device__ __forceinline__ int query_count(int sequence, int otherwise) const {
    if constexpr (!has_cu_queries) return otherwise;
    return min(queries, cu_queries[sequence + 1]) - query_start(sequence);
  }
  __device__ __forceinline__ int key_count(int sequence, int otherwise) const {
    if constexpr (has_cu_keys) return cu_keys[sequence + 1] - cu_keys[sequence];
    const int room = has_block_table ? pages_a_sequence * PAGE : otherwise;
    return has_kv_lengths ? max(0, min(room, kv_lengths[sequence])) : room;
  }
  __device__ __forceinline__ const int* pages_of(int sequence) const {
    return has_block_table ? block_table + static_cast<i64>(sequence) * pages_a_sequence : nullptr;
  }
};

// Keys that the queries from position `first` to `last` see lie from first_seen_key to below
// end_of_seen_keys: all of those where it is one query, and none where the latter is not above the former.
// The position of a query is the index of the key that it stands at. `window` counts with windowed.
__device__ __forceinline__ int first_seen_key(int first, int window) {
  return windowed ? max(0, first - window + 1) : 0;
}
__device__ __forceinline__ int end_of_seen_keys(int last, int keys, int window) {
  if (windowed && window == 0) return 0;
  if constexpr (causal) return min(keys, last + 1);
  return windowed ? min(keys, last + window) : keys;
}

// Rows of k or v of one sequence and one head. Strides in elements.
struct KeyRows {
  const dtype* first;
  i64 page_stride, stride;
  const int* pages;

  // `tensor` is the head's; the batch stride is that of pages where there are any.
  __device__ __forceinline__ KeyRows(const dtype* tensor, i64 batch_stride, i64 sequence_stride,
                                     const Sequences& sequences, int sequence)
      : first(tensor),
        page_stride(batch_stride),
        stride(sequence_stride),
        pages(sequences.pages_of(sequence)) {
    if constexpr (!has_block_table) first += sequence * batch_stride;
    if constexpr (has_cu_keys) first += sequences.key_start(sequence) * stride;
  }
  __device__ __forceinline__ const dtype* operator()(int key) const {
    if constexpr (has_block_table) {
      return first + pages[key / PAGE] * page_stride + key % PAGE * stride;
    }
    return first + key * stride;
  }
};
