// c = activation(a · bᵀ + bias) on CPU cores.
//
// A block of the grid computes BLOCK_M × BLOCK_N elements of c, in slices of BLOCK_K along k, from
// tiles of TILE_M × TILE_N vectors that live in registers. Two kinds of tile:
//
//  - outer product: a vector spans columns of c. Each step along k broadcasts TILE_M elements of a
//    against TILE_N vectors of b. It needs rows of b: they are packed, for the whole of b by a
//    launch of its own (PACK_B workspace) or by each block for itself (block), or they are there
//    already (none, layout kn);
//  - dot product: a vector spans k, and TILE_N counts columns. For PACK_B none with layout nk,
//    where both operands are contiguous along k. The right one when m is small.
//
// Packing turns the rows of a tile into one stream in the order the tile reads it, already
// converted to f32, zero where the matrix ends. It costs one pass over the operand and saves the
// cache conflicts of rows that are a power of two apart.

using V = simd<LANES>::f32;

// Helpers are inline functions so that those a specialization does not use are not compiled.

constexpr bool b_is_nk = layout_b == layout_b_kind::nk;

inline V activate(V x) {
  if constexpr (activation == activation_kind::relu) return relu<LANES>(x);
  if constexpr (activation == activation_kind::gelu) return gelu<LANES>(x);
  if constexpr (activation == activation_kind::silu) return silu<LANES>(x);
  return x;
}

// Adds the bias, activates, rounds and stores `count` sums that belong at c[row][column…].
inline void finish(V sums, const dtype* bias, out_dtype* c, long long row, int column, int count) {
  if constexpr (has_bias) sums += load_partial<LANES>(bias + column, count);
  store_partial<LANES>(c + row * n + column, activate(sums), count);
}

// ---------------------------------------------------------------------------------------------
// Packing

// to[depth][width] as f32 = the transpose of `rows` rows of `depth` elements, zero beyond them.
// Squares are stored whole, over what is written later: the last ones go up to LANES floats beyond
// the end of `to`.
template <int width>
void pack_rows(float* to, const dtype* from, long long stride, int rows, int depth) {
  for (int k0 = 0; k0 < depth; k0 += LANES) {
    const int kept = minimum(LANES, depth - k0);
    for (int r0 = (width - 1) / LANES * LANES; r0 >= 0; r0 -= LANES) {
      V square[LANES] = {};
      const dtype* corner = from + r0 * stride + k0;
      if (kept == LANES && r0 + minimum(LANES, width) <= rows) {
        CUDADENT_UNROLL_ALL
        for (int r = 0; r < LANES; ++r) {
          if (r0 + r < width) square[r] = load<LANES>(corner + r * stride);
        }
      } else {
        for (int r = 0; r < minimum(LANES, rows - r0); ++r) {
          if (r0 + r < width) square[r] = load_partial<LANES>(corner + r * stride, kept);
        }
      }
      transpose<LANES>(square);
      float* column = to + k0 * width + r0;
      if (kept == LANES) {
        CUDADENT_UNROLL_ALL
        for (int i = 0; i < LANES; ++i) store<LANES>(column + i * width, square[i]);
      } else {
        for (int i = 0; i < kept; ++i) store<LANES>(column + i * width, square[i]);
      }
    }
  }
}

// One strip of b, columns from `column`, as to[depth][STRIP] f32.
inline void pack_strip(float* to, const dtype* b, int column, int k0, int depth) {
  const int columns = minimum(STRIP, n - column);
  if constexpr (b_is_nk) {
    pack_rows<STRIP>(to, b + column * (long long)k + k0, k, columns, depth);
  } else {
    for (int i = 0; i < depth; ++i) {
      const dtype* row = b + (k0 + i) * (long long)n + column;
      for (int j = 0; j < TILE_N; ++j) {
        const int count = minimum(LANES, maximum(0, columns - j * LANES));
        store<LANES>(to + i * STRIP + j * LANES, load_partial<LANES>(row + j * LANES, count));
      }
    }
  }
}

// The workspace: strips of k × STRIP f32. Block: a slice of a strip.
void pack_b(const Block& block, const dtype* b, float* packed) {
  const int k0 = block.x * BLOCK_K;
  const int column = block.y * STRIP;
  float* strip = packed + column * (long long)k;
  pack_strip(strip + k0 * (long long)STRIP, b, column, k0, minimum(BLOCK_K, k - k0));
}

// ---------------------------------------------------------------------------------------------
// Tiles

// Where a tile finds its rows of a: packed as [depth][TILE_M] f32, or in place. Rows beyond the
// last repeat it; their sums are never stored.
struct RowsOfA {
  const float* packed;
  const dtype* rows[TILE_M];
  float at(int row, int kk) const {
    if constexpr (PACK_A) return packed[kk * TILE_M + row];
    return to_f32(rows[row][kk]);
  }
};

// sums += a · b for one tile; row kk of b starts at b + kk * stride.
template <typename B>
inline __attribute__((always_inline)) void multiply_outer(V (&sums)[TILE_M][TILE_N],
                                                          const RowsOfA& a, const B* b,
                                                          long long stride, int depth) {
  V acc[TILE_M][TILE_N];
  CUDADENT_UNROLL_ALL
  for (int i = 0; i < TILE_M; ++i) {
    CUDADENT_UNROLL_ALL
    for (int j = 0; j < TILE_N; ++j) acc[i][j] = sums[i][j];
  }
  CUDADENT_UNROLL(UNROLL)
  for (int kk = 0; kk < depth; ++kk) {
    V row[TILE_N];
    CUDADENT_UNROLL_ALL
    for (int j = 0; j < TILE_N; ++j) row[j] = load<LANES>(b + kk * stride + j * LANES);
    CUDADENT_UNROLL_ALL
    for (int i = 0; i < TILE_M; ++i) {
      const float element = a.at(i, kk);
      CUDADENT_UNROLL_ALL
      for (int j = 0; j < TILE_N; ++j) acc[i][j] += element * row[j];
    }
  }
  CUDADENT_UNROLL_ALL
  for (int i = 0; i < TILE_M; ++i) {
    CUDADENT_UNROLL_ALL
    for (int j = 0; j < TILE_N; ++j) sums[i][j] = acc[i][j];
  }
}

// sums[i][j] (+)= a[i] · b[j] for rows a[0…TILE_M) and b[0…TILE_N) of `depth` elements.
template <typename A>
inline __attribute__((always_inline)) void multiply_dot(float* sums, bool first, const A* const* a,
                                                        const dtype* const* b, int depth) {
  V acc[TILE_M][TILE_N] = {};
  const auto step = [&](int kk, auto load_vector) __attribute__((always_inline)) {
    V columns[TILE_N];
    CUDADENT_UNROLL_ALL
    for (int j = 0; j < TILE_N; ++j) columns[j] = load_vector(b[j] + kk);
    CUDADENT_UNROLL_ALL
    for (int i = 0; i < TILE_M; ++i) {
      const V row = load_vector(a[i] + kk);
      CUDADENT_UNROLL_ALL
      for (int j = 0; j < TILE_N; ++j) acc[i][j] += row * columns[j];
    }
  };
  int kk = 0;
  CUDADENT_UNROLL(UNROLL)
  for (; kk <= depth - LANES; kk += LANES) step(kk, [](const auto* p) { return load<LANES>(p); });
  if (kk < depth) {
    const int count = depth - kk;
    step(kk, [count](const auto* p) { return load_partial<LANES>(p, count); });
  }
  CUDADENT_UNROLL_ALL
  for (int i = 0; i < TILE_M; ++i) {
    CUDADENT_UNROLL_ALL
    for (int j = 0; j < TILE_N; ++j) {
      float& sum = sums[i * BLOCK_COLUMNS + j];
      sum = (first ? 0.0f : sum) + sum_of_lanes<LANES>(acc[i][j]);
    }
  }
}

// ---------------------------------------------------------------------------------------------
// Blocks

// The part of c that a block computes.
struct Extent {
  int row, rows;
  int column, columns;
};

// Where the parts of a block's scratch begin.
struct Scratch {
  float* a;     // a packed slice of the block's rows of a
  float* b;     // a packed slice of one strip of b
  float* sums;  // [BLOCK_ROWS][BLOCK_COLUMNS], what the slices before the last add up to
};

// A slice of the strip of b at column `j` of the block, times the block's rows of a. b's row kk is
// at strip + kk * stride.
template <typename B>
void outer_strip(const Extent& extent, int slice, int j, const dtype* a, const B* strip,
                 long long stride, const dtype* bias, out_dtype* c, const Scratch& scratch) {
  const int depth = minimum(BLOCK_K, k - slice * BLOCK_K);
  const int columns = minimum(STRIP, extent.columns - j);
  for (int i = 0; i < extent.rows; i += TILE_M) {
    const int rows = minimum(TILE_M, extent.rows - i);
    RowsOfA tile_a;
    tile_a.packed = PACK_A ? scratch.a + i * BLOCK_K : nullptr;
    for (int r = 0; r < TILE_M; ++r) tile_a.rows[r] = a + (i + minimum(r, rows - 1)) * (long long)k;
    float* kept = SLICES > 1 ? scratch.sums + i * BLOCK_COLUMNS + j : nullptr;
    V sums[TILE_M][TILE_N] = {};
    if (SLICES > 1 && slice > 0) {
      for (int r = 0; r < TILE_M; ++r) {
        for (int v = 0; v < TILE_N; ++v) {
          sums[r][v] = load<LANES>(kept + r * BLOCK_COLUMNS + v * LANES);
        }
      }
    }
    multiply_outer(sums, tile_a, strip, stride, depth);
    if (SLICES > 1 && slice < SLICES - 1) {
      for (int r = 0; r < TILE_M; ++r) {
        for (int v = 0; v < TILE_N; ++v) {
          store<LANES>(kept + r * BLOCK_COLUMNS + v * LANES, sums[r][v]);
        }
      }
      continue;
    }
    for (int v = 0; v < TILE_N; ++v) {
      const int count = minimum(LANES, columns - v * LANES);
      if (count <= 0) break;
      const int column = extent.column + j + v * LANES;
      for (int r = 0; r < rows; ++r) finish(sums[r][v], bias, c, extent.row + i + r, column, count);
    }
  }
}

inline void outer_slice(const Extent& extent, int slice, const dtype* a, const dtype* b,
                        const float* packed_b, const dtype* bias, out_dtype* c,
                        const Scratch& scratch) {
  const int k0 = slice * BLOCK_K;
  const int depth = minimum(BLOCK_K, k - k0);
  if constexpr (PACK_A) {
    for (int i = 0; i < extent.rows; i += TILE_M) {
      pack_rows<TILE_M>(scratch.a + i * BLOCK_K, a + i * (long long)k, k, extent.rows - i, depth);
    }
  }
  for (int j = 0; j < extent.columns; j += STRIP) {
    const int column = extent.column + j;
    if constexpr (PACK_B == PACK_B_kind::workspace) {
      const float* strip = packed_b + column * (long long)k + k0 * (long long)STRIP;
      outer_strip(extent, slice, j, a, strip, STRIP, bias, c, scratch);
      continue;
    }
    if constexpr (PACK_B == PACK_B_kind::none) {
      if (column + STRIP <= n) {
        const dtype* strip = b + k0 * (long long)n + column;
        outer_strip(extent, slice, j, a, strip, n, bias, c, scratch);
        continue;
      }
    }
    // Also where b is used in place, a strip that stands over its edge is packed.
    pack_strip(scratch.b, b, column, k0, depth);
    outer_strip(extent, slice, j, a, scratch.b, STRIP, bias, c, scratch);
  }
}

// a is [rows][stride] from the slice's first column, of f32 when packed.
template <typename A>
void dot_slice(const Extent& extent, int slice, const A* a, long long stride, const dtype* b,
               const Scratch& scratch) {
  const int k0 = slice * BLOCK_K;
  const int depth = minimum(BLOCK_K, k - k0);
  for (int j = 0; j < extent.columns; j += TILE_N) {
    const dtype* columns[TILE_N];
    for (int v = 0; v < TILE_N; ++v) {
      columns[v] = b + (extent.column + minimum(j + v, extent.columns - 1)) * (long long)k + k0;
    }
    for (int i = 0; i < extent.rows; i += TILE_M) {
      const A* rows[TILE_M];
      for (int r = 0; r < TILE_M; ++r) rows[r] = a + minimum(i + r, extent.rows - 1) * stride;
      float* sums = scratch.sums + i * BLOCK_COLUMNS + j;
      multiply_dot(sums, slice == 0, rows, columns, depth);
    }
  }
}

void gemm(const Block& block, const dtype* a, const dtype* b, const dtype* bias, out_dtype* c,
          const float* packed_b, int m) {
  Extent extent;
  extent.row = block.x * BLOCK_ROWS;
  extent.rows = minimum(BLOCK_ROWS, m - extent.row);
  extent.column = block.y * BLOCK_COLUMNS;
  extent.columns = minimum(BLOCK_COLUMNS, n - extent.column);
  Scratch scratch;
  scratch.a = static_cast<float*>(block.scratch);
  scratch.b = scratch.a + SCRATCH_A;
  scratch.sums = scratch.b + SCRATCH_B;

  for (int slice = 0; slice < SLICES; ++slice) {
    const dtype* a_slice = a + extent.row * (long long)k + slice * BLOCK_K;
    if constexpr (!DOT) {
      outer_slice(extent, slice, a_slice, b, packed_b, bias, c, scratch);
    } else if constexpr (PACK_A) {
      const int depth = minimum(BLOCK_K, k - slice * BLOCK_K);
      for (int r = 0; r < extent.rows; ++r) {
        for (int i = 0; i < depth; i += LANES) {
          store<LANES>(
              scratch.a + r * BLOCK_K + i,
              load_partial<LANES>(a_slice + r * (long long)k + i, minimum(LANES, depth - i)));
        }
      }
      dot_slice(extent, slice, scratch.a, BLOCK_K, b, scratch);
    } else {
      dot_slice(extent, slice, a_slice, k, b, scratch);
    }
  }
  if constexpr (DOT) {
    for (int r = 0; r < extent.rows; ++r) {
      for (int j = 0; j < extent.columns; j += LANES) {
        const int count = minimum(LANES, extent.columns - j);
        const V sums = load_partial<LANES>(scratch.sums + r * BLOCK_COLUMNS + j, count);
        finish(sums, bias, c, extent.row + r, extent.column + j, count);
      }
    }
  }
}
