/* SPDX-License-Identifier: Apache-2.0 */
#include "ops/qwen35/chunk_solve_cpu.h"

#if defined(__aarch64__)

#include <arm_neon.h>
#include <stddef.h>

#define INLINE static inline __attribute__((always_inline))

/* Four rows by one strip, four registers for each row of it. Named members rather than an array, so
 * that every compiler keeps them in registers. */
typedef struct {
  float32x4_t v0, v1, v2, v3;
} row128;

INLINE row128 zero128(void) {
  const float32x4_t zero = vdupq_n_f32(0.0f);
  return (row128){zero, zero, zero, zero};
}

INLINE row128 load128(const float *x) {
  return (row128){vld1q_f32(x), vld1q_f32(x + 4), vld1q_f32(x + 8), vld1q_f32(x + 12)};
}

INLINE void store128(float *x, row128 value) {
  vst1q_f32(x, value.v0);
  vst1q_f32(x + 4, value.v1);
  vst1q_f32(x + 8, value.v2);
  vst1q_f32(x + 12, value.v3);
}

/** \brief sum - factor * x */
INLINE row128 subtract128(row128 sum, float factor, row128 x) {
  const float32x4_t f = vdupq_n_f32(factor);
  return (row128){vfmsq_f32(sum.v0, f, x.v0), vfmsq_f32(sum.v1, f, x.v1),
                  vfmsq_f32(sum.v2, f, x.v2), vfmsq_f32(sum.v3, f, x.v3)};
}

/** \brief Put 1 on the diagonal and 0 right of it, in the columns first .. first + 3 */
INLINE float32x4_t unit_diagonal_part(float32x4_t x, int column, int first) {
  static const int32_t counting[4] = {0, 1, 2, 3};
  const int32x4_t diagonal = vdupq_n_s32(column - first);
  const int32x4_t here = vld1q_s32(counting);
  const float32x4_t on_or_above = vreinterpretq_f32_u32(
      vandq_u32(vceqq_s32(here, diagonal), vreinterpretq_u32_f32(vdupq_n_f32(1.0f))));
  return vbslq_f32(vcltq_s32(here, diagonal), x, on_or_above);
}

INLINE row128 unit_diagonal128(row128 x, int column) {
  return (row128){unit_diagonal_part(x.v0, column, 0), unit_diagonal_part(x.v1, column, 4),
                  unit_diagonal_part(x.v2, column, 8), unit_diagonal_part(x.v3, column, 12)};
}

INLINE uint16x4_t round128(float32x4_t x) {
  const uint32x4_t bits = vreinterpretq_u32_f32(x);
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
  const uint32x4_t up = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
  /* A carry could turn a NaN into zero: it keeps its upper half and is made quiet instead. */
  const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
  return vshrn_n_u32(vbslq_u32(vceqq_f32(x, x), up, quiet), 16);
}

INLINE void write128(uint16_t *out, row128 x) {
  vst1q_u16(out, vcombine_u16(round128(x.v0), round128(x.v1)));
  vst1q_u16(out + 8, vcombine_u16(round128(x.v2), round128(x.v3)));
}

INLINE void solve_rows128(const float *const a[4], float *x, int row, uint16_t *const out[4],
                          bool stream) {
  (void)stream; /* these cores notice by themselves that whole lines are being written */
  const int last_strip = row / 16;
  for (int strip = 0; strip <= last_strip; strip++) {
    row128 x0 = zero128(), x1 = x0, x2 = x0, x3 = x0;
    for (int j = strip * 16; j < row; j++) {
      const row128 xj = load128(x + j * 64 + strip * 16);
      x0 = subtract128(x0, a[0][j], xj);
      x1 = subtract128(x1, a[1][j], xj);
      x2 = subtract128(x2, a[2][j], xj);
      x3 = subtract128(x3, a[3][j], xj);
    }
    const bool diagonal = strip == last_strip;
    const int column = row % 16;
    if (diagonal) x0 = unit_diagonal128(x0, column);
    x1 = subtract128(x1, a[1][row], x0);
    x2 = subtract128(x2, a[2][row], x0);
    x3 = subtract128(x3, a[3][row], x0);
    if (diagonal) x1 = unit_diagonal128(x1, column + 1);
    x2 = subtract128(x2, a[2][row + 1], x1);
    x3 = subtract128(x3, a[3][row + 1], x1);
    if (diagonal) x2 = unit_diagonal128(x2, column + 2);
    x3 = subtract128(x3, a[3][row + 2], x2);
    if (diagonal) x3 = unit_diagonal128(x3, column + 3);

    float *to = x + row * 64 + strip * 16;
    store128(to, x0);
    store128(to + 64, x1);
    store128(to + 128, x2);
    store128(to + 192, x3);
    write128(out[0] + strip * 16, x0);
    write128(out[1] + strip * 16, x1);
    write128(out[2] + strip * 16, x2);
    write128(out[3] + strip * 16, x3);
  }
  for (int r = 0; r < 4; r++) {
    for (int column = (last_strip + 1) * 16; column < 64; column += 8) {
      vst1q_u16(out[r] + column, vdupq_n_u16(0));
    }
  }
}

#define SOLVE_TILES pega_qwen35_chunk_solve_tiles_neon
#define SOLVE_TARGET
#define SOLVE_ROWS solve_rows128
#define SOLVE_FENCE (void)0
#include "ops/qwen35/chunk_solve_cpu_tiles.inl"

#endif
