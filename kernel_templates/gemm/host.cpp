// c = activation(scale_a · scale_b · (a · b) + bias) + residual on CPU cores.
//
// A block of the grid computes BLOCK_M × BLOCK_N elements of c, in slices of BLOCK_K along k, from
// tiles of TILE_M × TILE_N vectors that live in registers. Two kinds of tile:
//
//  - outer product: a vector spans columns of c. Each step along k broadcasts TILE_M elements of a
//    against TILE_N vectors of b. It needs rows of b: they are packed, for the whole of b by a
//    launch of its own (PACK_B workspace) or by each block for itself (block), or they are there
//    already (none, layout kn). Rows of a are packed by each block (PACK_A) or read where they are;
//  - dot product: a vector spans k, and TILE_N counts columns. For PACK_B none with layout nk,
//    where b is contiguous along k, as a is or is made by packing. The right one when m is small.
//
// Packing turns the rows of a tile into one stream in the order the tile reads it, already
// converted to f32, zero where the matrix ends. It costs one pass over the operand and saves the
// cache conflicts of rows that are a power of two apart. Block scales are multiplied into what is
// packed, so operands that have them are. Blocks along z are the matrices of a batch.

using V = simd<LANES>::f32;

// Helpers are inline functions so that those a specialization does not use are not compiled.

constexpr bool a_is_mk = layout_a == layout_a_kind::mk;
constexpr bool b_is_nk = layout_b == layout_b_kind::nk;
constexpr bool block_scaled = scaling == scaling_kind::block;
constexpr bool sums_are_scaled = !block_scaled && (has_scale_a || has_scale_b);

inline V activate(V x) {
  if constexpr (activation == activation_kind::relu) return relu<LANES>(x);
  if constexpr (activation == activation_kind::gelu) return gelu<LANES>(x);
  if constexpr (activation == activation_kind::silu) return silu<LANES>(x);
  return x;
}

// What becomes of the sums, and where they go. Tensors that are absent are null.
struct Output {
  const bias_dtype* bias;
  const out_dtype* residual;
  out_dtype* c;
  i64 residual_stride, c_stride;  // elements from row to row
  float scale;

  // Finishes, rounds and stores `count` sums that belong at c[row][column…].
  void finish(V sums, i64 row, int column, int count) const {
    if constexpr (sums_are_scaled) sums *= scale;
    if constexpr (has_bias) sums += load_partial<LANES>(bias + column, count);
    sums = activate(sums);
    if constexpr (has_residual) {
      sums += load_partial<LANES>(residual + row * residual_stride + column, count);
    }
    store_partial<LANES>(c + row * c_stride + column, sums, count);
  }
};

// A matrix with k along its rows: element [outer][k] at data[outer * stride + k]; or down its
// columns: at data[k * stride + outer].
template <typename T, bool k_contiguous, bool scaled, int share>
struct Operand {
  const T* data;
  i64 stride;
  const float* scales;  // if scaled: `share` by 128 elements, along outer and along k, have one
  i64 scale_stride;

  const T* at(int outer, int kk) const {
    return data + (k_contiguous ? outer * stride + kk : kk * stride + outer);
  }

  // to[depth][width] from [outer][k0] times the scales of its first `count` columns.
  template <int width>
  void apply_scales(float* to, int outer, int count, int k0, int depth) const {
    constexpr int scaled_depth = 128;
    for (int i0 = 0; i0 < depth; i0 += scaled_depth) {
      float factors[width] = {};
      for (int j = 0; j < minimum(width, count); ++j) {
        factors[j] = scales[(outer + j) / share * scale_stride + (k0 + i0) / scaled_depth];
      }
      for (int i = i0; i < minimum(depth, i0 + scaled_depth); ++i) {
        for (int j = 0; j < width; ++j) to[i * width + j] *= factors[j];
      }
    }
  }
};
using OperandA = Operand<dtype, a_is_mk, block_scaled && has_scale_a, 1>;
using OperandB = Operand<b_dtype, b_is_nk, block_scaled && has_scale_b, 128>;

// ---------------------------------------------------------------------------------------------
// Packing

// to[depth][width] as f32 = the transpose of `rows` rows of `depth` elements, zero beyond them.
// Squares are stored whole, over what is written later: the last ones go up to LANES floats beyond
// the end of `to`.
template <int width, typename T>
void pack_rows(float* to, const T* from, i64 stride, int rows, int depth) {
  for (int k0 = 0; k0 < depth; k0 += LANES) {
    const int kept = minimum(LANES, depth - k0);
    for (int r0 = (width - 1) / LANES * LANES; r0 >= 0; r0 -= LANES) {
      V square[LANES] = {};
      const T* corner = from + r0 * stride + k0;
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

// to[depth][width] as f32 = `columns` columns of `depth` rows, zero beyond them. As above, up to LANES
// floats beyond the end are written.
template <int width, typename T>
void pack_columns(float* to, const T* from, i64 stride, int columns, int depth) {
  for (int i = 0; i < depth; ++i) {
    for (int j = 0; j < width; j += LANES) {
      const int count = minimum(LANES, maximum(0, columns - j));
      store<LANES>(to + i * width + j, load_partial<LANES>(from + i * stride + j, count));
    }
  }
}

// to[depth][width] = a part of an operand, from [outer][k0].
template <int width, typename T, bool k_contiguous, bool scaled, int share>
void pack(float* to, const Operand<T, k_contiguous, scaled, share>& from, int outer, int count,
          int k0, int depth) {
  if constexpr (k_contiguous) {
    pack_rows<width>(to, from.at(outer, k0), from.stride, count, depth);
  } else {
    pack_columns<width>(to, from.at(outer, k0), from.stride, count, depth);
  }
  if constexpr (scaled) from.template apply_scales<width>(to, outer, count, k0, depth);
}

// One strip of b, columns from `column`, as to[depth][STRIP] f32.
inline void pack_strip(float* to, const OperandB& b, int column, int k0, int depth) {
  pack<STRIP>(to, b, column, minimum(STRIP, n - column), k0, depth);
}

// to[rows][BLOCK_K] as f32 = `depth` columns of rows of a, for dot products.
inline void pack_for_dot(float* to, const OperandA& a, int row, int rows, int k0, int depth) {
  if constexpr (a_is_mk) {
    for (int r = 0; r < rows; ++r) {
      for (int i = 0; i < depth; i += LANES) {
        store<LANES>(to + r * BLOCK_K + i,
                     load_partial<LANES>(a.at(row + r, k0 + i), minimum(LANES, depth - i)));
      }
    }
  } else {
    for (int i = 0; i < depth; ++i) {
      const dtype* from = a.at(row, k0 + i);  // scaled ones are not for dot products
      for (int r = 0; r < rows; ++r) to[r * BLOCK_K + i] = to_f32(from[r]);
    }
  }
}

// The workspace: strips of k × STRIP f32. Block: a slice of a strip.
void pack_b(const Block& block, const b_dtype* b, const float* scale_b, float* packed,
            i64 batch_stride_b, i64 row_stride_b, i64 batch_stride_scale_b, i64 row_stride_scale_b,
            i64 packed_stride) {
  const int k0 = block.x * BLOCK_K;
  const int column = block.y * STRIP;
  float* strip = packed + block.z * packed_stride + column * i64(k);
  const OperandB operand{b + block.z * batch_stride_b, row_stride_b,
                         scale_b + block.z * batch_stride_scale_b, row_stride_scale_b};
  pack_strip(strip + k0 * i64(STRIP), operand, column, k0, minimum(BLOCK_K, k - k0));
}

// ---------------------------------------------------------------------------------------------
// Tiles

// Where a tile finds its rows of a: packed as [depth][TILE_M] f32, or in place. Rows beyond the
// last repeat it; their sums are never stored.
struct RowsOfA {
  const float* packed;
  const dtype* rows[TILE_M];
  i64 stride;  // along k
  float at(int row, int kk) const {
    if constexpr (PACK_A) return packed[kk * TILE_M + row];
    return to_f32(rows[row][a_is_mk ? kk : kk * stride]);
  }
};

// sums += a · b for one tile; row kk of b starts at b + kk * stride.
template <typename B>
inline __attribute__((always_inline)) void multiply_outer(V (&sums)[TILE_M][TILE_N],
                                                          const RowsOfA& a, const B* b, i64 stride,
                                                          int depth) {
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
                                                        const b_dtype* const* b, int depth) {
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
void outer_strip(const Extent& extent, int slice, int j, const OperandA& a, const B* strip,
                 i64 stride, const Output& output, const Scratch& scratch) {
  const int k0 = slice * BLOCK_K;
  const int depth = minimum(BLOCK_K, k - k0);
  const int columns = minimum(STRIP, extent.columns - j);
  for (int i = 0; i < extent.rows; i += TILE_M) {
    const int rows = minimum(TILE_M, extent.rows - i);
    RowsOfA tile_a;
    tile_a.packed = PACK_A ? scratch.a + i * BLOCK_K : nullptr;
    tile_a.stride = a.stride;
    for (int r = 0; r < TILE_M; ++r) {
      tile_a.rows[r] = a.at(extent.row + i + minimum(r, rows - 1), k0);
    }
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
      for (int r = 0; r < rows; ++r) output.finish(sums[r][v], extent.row + i + r, column, count);
    }
  }
}

inline void outer_slice(const Extent& extent, int slice, const OperandA& a, const OperandB& b,
                        const float* packed_b, const Output& output, const Scratch& scratch) {
  const int k0 = slice * BLOCK_K;
  const int depth = minimum(BLOCK_K, k - k0);
  if constexpr (PACK_A) {
    for (int i = 0; i < extent.rows; i += TILE_M) {
      pack<TILE_M>(scratch.a + i * BLOCK_K, a, extent.row + i, extent.rows - i, k0, depth);
    }
  }
  for (int j = 0; j < extent.columns; j += STRIP) {
    const int column = extent.column + j;
    if constexpr (PACK_B == PACK_B_kind::workspace) {
      const float* strip = packed_b + column * i64(k) + k0 * i64(STRIP);
      outer_strip(extent, slice, j, a, strip, STRIP, output, scratch);
      continue;
    }
    if constexpr (PACK_B == PACK_B_kind::none) {
      if (column + STRIP <= n) {
        outer_strip(extent, slice, j, a, b.at(column, k0), b.stride, output, scratch);
        continue;
      }
    }
    // Also where b is used in place, a strip that stands over its edge is packed.
    pack_strip(scratch.b, b, column, k0, depth);
    outer_strip(extent, slice, j, a, scratch.b, STRIP, output, scratch);
  }
}

// a is [rows][stride] from the slice's first column, of f32 when packed.
template <typename A>
void dot_slice(const Extent& extent, int slice, const A* a, i64 stride, const OperandB& b,
               const Scratch& scratch) {
  const int k0 = slice * BLOCK_K;
  const int depth = minimum(BLOCK_K, k - k0);
  for (int j = 0; j < extent.columns; j += TILE_N) {
    const b_dtype* columns[TILE_N];
    for (int v = 0; v < TILE_N; ++v) {
      columns[v] = b.at(extent.column + minimum(j + v, extent.columns - 1), k0);
    }
    for (int i = 0; i < extent.rows; i += TILE_M) {
      const A* rows[TILE_M];
      for (int r = 0; r < TILE_M; ++r) rows[r] = a + minimum(i + r, extent.rows - 1) * stride;
      float* sums = scratch.sums + i * BLOCK_COLUMNS + j;
      multiply_dot(sums, slice == 0, rows, columns, depth);
    }
  }
}

inline void finish_dot(const Extent& extent, const Output& output, const Scratch& scratch) {
  for (int r = 0; r < extent.rows; ++r) {
    for (int j = 0; j < extent.columns; j += LANES) {
      const int count = minimum(LANES, extent.columns - j);
      const V sums = load_partial<LANES>(scratch.sums + r * BLOCK_COLUMNS + j, count);
      output.finish(sums, extent.row + r, extent.column + j, count);
    }
  }
}

void gemm(const Block& block, const dtype* a_data, const b_dtype* b_data, const bias_dtype* bias,
          const float* scale_a, const float* scale_b, const out_dtype* residual, out_dtype* c,
          const float* packed_b, int m, i64 batch_stride_a, i64 row_stride_a, i64 batch_stride_b,
          i64 row_stride_b, i64 batch_stride_scale_a, i64 row_stride_scale_a,
          i64 batch_stride_scale_b, i64 row_stride_scale_b, i64 batch_stride_residual,
          i64 row_stride_residual, i64 batch_stride_c, i64 row_stride_c, i64 packed_stride) {
  Extent extent;
  extent.row = block.x * BLOCK_ROWS;
  extent.rows = minimum(BLOCK_ROWS, m - extent.row);
  extent.column = block.y * BLOCK_COLUMNS;
  extent.columns = minimum(BLOCK_COLUMNS, n - extent.column);
  Scratch scratch;
  scratch.a = static_cast<float*>(block.scratch);
  scratch.b = scratch.a + SCRATCH_A;
  scratch.sums = scratch.b + SCRATCH_B;
  const i64 index = block.z;  // in the batch
  packed_b += index * packed_stride;
  const OperandA a{a_data + index * batch_stride_a, row_stride_a,
                   scale_a + index * batch_stride_scale_a, row_stride_scale_a};
  const OperandB b{b_data + index * batch_stride_b, row_stride_b,
                   scale_b + index * batch_stride_scale_b, row_stride_scale_b};
  Output output{bias,
                residual + index * batch_stride_residual,
                c + index * batch_stride_c,
                row_stride_residual,
                row_stride_c,
                1.0f};
  if constexpr (sums_are_scaled && has_scale_a) output.scale *= scale_a[0];
  if constexpr (sums_are_scaled && has_scale_b) output.scale *= scale_b[0];

  for (int slice = 0; slice < SLICES; ++slice) {
    const int k0 = slice * BLOCK_K;
    if constexpr (!DOT) {
      outer_slice(extent, slice, a, b, packed_b, output, scratch);
    } else if constexpr (PACK_A) {
      pack_for_dot(scratch.a, a, extent.row, extent.rows, k0, minimum(BLOCK_K, k - k0));
      dot_slice(extent, slice, scratch.a, BLOCK_K, b, scratch);
    } else {
      dot_slice(extent, slice, a.at(extent.row, k0), a.stride, b, scratch);
    }
  }
  if constexpr (DOT) finish_dot(extent, output, scratch);
}
