// Attention on CPU cores. A block has TILES times QUERIES queries of one head. The queries, scaled, and
// their sums are f32 in scratch memory; keys are taken KEYS at a time, with the online softmax between
// the two products. Rows of q, k and v are converted as they are loaded, and each serves QUERIES queries.
#include "attention/sequences.h"

using Floats = typename simd<LANES>::f32;
constexpr int VECTORS = PADDED / LANES;

// Vector `index` of a row; zeros beyond head_dim.
static inline Floats load_of_row(const dtype* row, int index) {
  const int left = head_dim - index * LANES;
  if (left >= LANES) return load<LANES>(row + index * LANES);
  return load_partial<LANES>(row + index * LANES, left > 0 ? left : 0);
}

struct Problem {
  KeyRows k, v;
  float softcap;
  int window;
};

// Whether a query at a position sees a key.
static inline bool sees(int position, int key, int window) {
  const int distance = position - key;
  if (causal && distance < 0) return false;
  return !windowed || (distance < 0 ? -distance : distance) < window;
}

// Whether QUERIES queries from a position on all see `count` keys from `first` on.
static inline bool all_see(int position, int first, int count, int window) {
  const int last = first + count - 1, last_position = position + QUERIES - 1;
  return (!causal || last <= position) &&
         (!windowed || (last_position - first < window && last - position < window));
}

// QUERIES queries, from the one at `position`.
struct Tile {
  float *query, *sums, *scores;  // in scratch memory
  float largest[QUERIES], total[QUERIES];

  explicit Tile(void* scratch)
      : query(static_cast<float*>(scratch)),
        sums(query + QUERIES * PADDED),
        scores(sums + QUERIES * PADDED) {}

  void begin(const dtype* q, i64 stride, int count, float scale) {
    for (int i = 0; i < QUERIES; ++i) {
      for (int c = 0; c < VECTORS; ++c) {
        const Floats zero = {};
        const Floats value = i < count ? load_of_row(q + i * stride, c) * scale : zero;
        store<LANES>(query + i * PADDED + c * LANES, value);
        store<LANES>(sums + i * PADDED + c * LANES, zero);
      }
      largest[i] = -__builtin_inff();
      total[i] = 0;
    }
  }

  void multiply_keys(const Problem& problem, int first, int count, int position) {
    for (int j = 0; j < count; ++j) {
      const dtype* row = problem.k[first + j];
      Floats products[QUERIES] = {};
      for (int c = 0; c < VECTORS; ++c) {
        const Floats key = load_of_row(row, c);
        CUDADENT_UNROLL_ALL
        for (int i = 0; i < QUERIES; ++i)
          products[i] += key * load<LANES>(query + i * PADDED + c * LANES);
      }
      CUDADENT_UNROLL_ALL
      for (int i = 0; i < QUERIES; ++i) {
        float score = sum_of_lanes<LANES>(products[i]);
        if constexpr (capped) score = problem.softcap * __builtin_tanhf(score / problem.softcap);
        const bool seen = sees(position + i, first + j, problem.window);
        scores[i * KEYS + j] = seen ? score : -__builtin_inff();
      }
    }
    for (int i = 0; i < QUERIES; ++i)
      for (int j = count; j < KEYS; ++j) scores[i * KEYS + j] = -__builtin_inff();
  }

  // Scores become their exponentials; NaNs stay.
  void exponentials() {
    for (int i = 0; i < QUERIES; ++i) {
      float* row = scores + i * KEYS;
      float now = largest[i];
      for (int j = 0; j < KEYS; ++j) now = maximum(now, row[j]);
      // −infinity less itself would be no zero.
      const float subtract = now == -__builtin_inff() ? 0 : now;
      Floats sum = {};
      for (int j = 0; j < KEYS; j += LANES) {
        const Floats difference = load<LANES>(row + j) - subtract;
        const Floats least = Floats{} - 200.0f;
        Floats power = exponential<LANES>(difference < least ? least : difference);
        power = difference < least ? Floats{} : power;
        store<LANES>(row + j, power);
        sum += power;
      }
      const float shrink = largest[i] == now ? 1.0f : __builtin_expf(largest[i] - now);
      if (shrink != 1.0f)
        for (int c = 0; c < PADDED; ++c) sums[i * PADDED + c] *= shrink;
      total[i] = total[i] * shrink + sum_of_lanes<LANES>(sum);
      largest[i] = now;
    }
  }

  // Values that a query does not see are not multiplied by its zeros: they may be NaNs.
  template <bool MASKED>
  void multiply_values(const Problem& problem, int first, int count, int position) {
    for (int c = 0; c < VECTORS; c += COLUMNS) {
      Floats held[QUERIES][COLUMNS];
      CUDADENT_UNROLL_ALL
      for (int i = 0; i < QUERIES; ++i) {
        CUDADENT_UNROLL_ALL
        for (int x = 0; x < COLUMNS; ++x)
          held[i][x] = load<LANES>(sums + i * PADDED + (c + x) * LANES);
      }
      for (int j = 0; j < count; ++j) {
        const dtype* row = problem.v[first + j];
        CUDADENT_UNROLL_ALL
        for (int x = 0; x < COLUMNS; ++x) {
          const Floats value = load_of_row(row, c + x);
          CUDADENT_UNROLL_ALL
          for (int i = 0; i < QUERIES; ++i)
            if (!MASKED || sees(position + i, first + j, problem.window))
              held[i][x] += value * scores[i * KEYS + j];
        }
      }
      CUDADENT_UNROLL_ALL
      for (int i = 0; i < QUERIES; ++i) {
        CUDADENT_UNROLL_ALL
        for (int x = 0; x < COLUMNS; ++x)
          store<LANES>(sums + i * PADDED + (c + x) * LANES, held[i][x]);
      }
    }
  }
};

void attention(const Block& block, const dtype* q, const dtype* k, const dtype* v, dtype* out,
               float* lse, const int* cu_queries, const int* cu_keys, const int* block_table,
               const int* kv_lengths, int batch, int pages_a_sequence, int heads_a_kv_head,
               int query_length, int kv_length, int queries, float scale, float softcap, int window,
               i64 batch_stride_q, i64 sequence_stride_q, i64 head_stride_q, i64 batch_stride_k,
               i64 sequence_stride_k, i64 head_stride_k, i64 batch_stride_v, i64 sequence_stride_v,
               i64 head_stride_v, i64 batch_stride_out, i64 sequence_stride_out,
               i64 head_stride_out) {
  const Sequences all{cu_queries,       cu_keys,      block_table, kv_lengths, batch,
                      pages_a_sequence, query_length, kv_length,   queries};
  const Place place(block.x, TILES * QUERIES, all);
  const i64 head = block.y, kv_head = head / heads_a_kv_head;
  const Problem problem{
      place.rows_of(k, all, batch_stride_k, sequence_stride_k, kv_head * head_stride_k),
      place.rows_of(v, all, batch_stride_v, sequence_stride_v, kv_head * head_stride_v), softcap,
      window};
  q += place.batch * batch_stride_q + place.query_start * sequence_stride_q + head * head_stride_q;
  out += place.batch * batch_stride_out + place.query_start * sequence_stride_out +
         head * head_stride_out;
  Tile tile(block.scratch);
  for (int t = 0; t < TILES; ++t) {
    const int row = place.first + t * QUERIES;
    if (row >= place.queries) break;
    const int count = minimum(QUERIES, place.queries - row);
    const int position = row + place.keys - place.queries;
    const SeenKeys seen(position, position + count - 1, place.keys, window);
    tile.begin(q + row * sequence_stride_q, sequence_stride_q, count, scale);
    for (int first = seen.low; first < seen.high; first += KEYS) {
      const int keys = minimum(KEYS, seen.high - first);
      tile.multiply_keys(problem, first, keys, position);
      tile.exponentials();
      if (all_see(position, first, keys, window))
        tile.multiply_values<false>(problem, first, keys, position);
      else
        tile.multiply_values<true>(problem, first, keys, position);
    }
    for (int i = 0; i < count; ++i) {
      const bool any = SeenKeys(position + i, position + i, place.keys, window).any();
      // Exponentials that are all zero are those of −infinity, less a largest score of −infinity.
      const float total = tile.total[i] == 0 && any ? __builtin_nanf("") : tile.total[i];
      const float factor = any ? 1 / total : 0;
      dtype* result = out + (row + i) * sequence_stride_out;
      for (int c = 0; c < head_dim; ++c)
        result[c] = from_f32<dtype>(tile.sums[i * PADDED + c] * factor);
      if constexpr (has_lse)
        lse[place.lse_at(row + i, head, block.grid_y, all)] =
            any ? tile.largest[i] + float(__builtin_log(total)) : -__builtin_inff();
    }
  }
}
