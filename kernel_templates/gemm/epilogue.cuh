// What every CUDA template of gemm does with its sums:
//
//   c = activation(scale_a · scale_b · sum + bias[column]) + residual[row][column]
//
// The constants of the prelude (has_bias, has_residual, has_scale_a, has_scale_b, scaling, activation)
// decide at compile time what of it there is; pointers of tensors that are absent are null and never
// looked at. A template names out_dtype, bias_dtype, activation and scaling in compile_time. The scales
// of blocks (scaling == block) are no part of it: a template applies them as it sums up.
//
// Forms for one element, for a pair of neighbouring columns, and for COLUMNS of them, which also come
// in two steps, so that a bias serves all rows of a thread:
//
//   const Epilogue epilogue(bias, residual, residual_stride, scale_a, scale_b);
//   float bias_values[4];
//   epilogue.load_bias<ALIGNED>(bias_values, column);
//   for (row …) epilogue.finish<ALIGNED>(sums[row], bias_values, row, column);
//
// ALIGNED promises that bias + column and residual + row · residual_stride + column are multiples of
// what the columns take, up to 16 bytes: then they are read at once. All columns must exist; at the
// edge of c use the form for one element. The residual may be c itself: an element is read by whom
// it is stored by, before that, and never through the read-only path.
#pragma once

#include "ptx/math.cuh"

// `COUNT` consecutive elements as f32, by as few accesses as `ALIGNED` allows.
template <bool ALIGNED, int COUNT, typename T>
__device__ __forceinline__ void load_as_f32(float (&values)[COUNT], const T* from) {
  constexpr int WIDTH = ALIGNED ? minimum(COUNT, per_16_bytes<T>) : 1;
  static_assert(COUNT % WIDTH == 0, "a power of two of elements");
#pragma unroll
  for (int first = 0; first < COUNT; first += WIDTH) {
    Vector<T, WIDTH> part;
    part.load(from + first);
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) values[first + i] = part.get(i);
  }
}

// Whether the sums have a factor.
constexpr bool scales_sums = scaling == scaling_kind::tensor && (has_scale_a || has_scale_b);

struct Epilogue {
  const bias_dtype* bias;  // [n]
  const out_dtype*
      residual;  // the matrix at hand of the batch: rows residual_stride elements apart
  i64 residual_stride;
  float scale;  // of the sums

  // Reads the scales, once.
  __device__ __forceinline__ Epilogue(const bias_dtype* bias_, const out_dtype* residual_,
                                      i64 residual_stride_, const float* scale_a,
                                      const float* scale_b)
      : bias(bias_), residual(residual_), residual_stride(residual_stride_), scale(1.0f) {
    if constexpr (scales_sums && has_scale_a) scale = scale_a[0];
    if constexpr (scales_sums && has_scale_b) scale *= scale_b[0];
  }

  // One element of c.
  __device__ __forceinline__ float operator()(float sum, int row, int column) const {
    float values[1] = {sum};
    apply<false>(values, row, column);
    return values[0];
  }

  // Columns `column` and `column` + 1.
  template <bool ALIGNED>
  __device__ __forceinline__ void pair(float& low, float& high, int row, int column) const {
    float values[2] = {low, high};
    apply<ALIGNED>(values, row, column);
    low = values[0];
    high = values[1];
  }

  // COLUMNS columns from `column`.
  template <bool ALIGNED, int COLUMNS>
  __device__ __forceinline__ void apply(float (&values)[COLUMNS], int row, int column) const {
    float bias_values[COLUMNS];
    load_bias<ALIGNED>(bias_values, column);
    finish<ALIGNED>(values, bias_values, row, column);
  }

  // The first step: the bias of COLUMNS columns, zeros without a bias.
  template <bool ALIGNED, int COLUMNS>
  __device__ __forceinline__ void load_bias(float (&bias_values)[COLUMNS], int column) const {
    if constexpr (has_bias) {
      load_as_f32<ALIGNED>(bias_values, bias + column);
    } else {
#pragma unroll
      for (float& value : bias_values) value = 0.0f;
    }
  }

  // The second: all the rest.
  template <bool ALIGNED, int COLUMNS>
  __device__ __forceinline__ void finish(float (&values)[COLUMNS],
                                         const float (&bias_values)[COLUMNS], int row,
                                         int column) const {
    float addends[COLUMNS];
    if constexpr (has_residual) {
      load_as_f32<ALIGNED>(addends, residual + row * residual_stride + column);
    }
#pragma unroll
    for (int i = 0; i < COLUMNS; ++i) {
      float value = values[i];
      if constexpr (scales_sums) value *= scale;
      if constexpr (has_bias) value += bias_values[i];
      value = activate(activation, value);
      if constexpr (has_residual) value += addends[i];
      values[i] = value;
    }
  }
};
