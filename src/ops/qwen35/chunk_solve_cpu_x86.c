/* SPDX-License-Identifier: Apache-2.0 */
#include "ops/qwen35/chunk_solve_cpu.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <stddef.h>

/* Everything below is inlined into the function that walks over the tiles. The sums are kept in
 * structs of named members and passed on by address, which both gcc and clang dissolve into
 * registers; with arrays and loops over them, clang leaves the sums in memory. */
#define INLINE static inline __attribute__((always_inline))

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx2,fma")))
#define AVX2 __attribute__((target("avx2,fma")))

/* ---- AVX-512: four rows by all strips, one register for each row of a strip ---- */

typedef struct {
  __m512 row0, row1, row2, row3;
} sums512;

INLINE AVX512 sums512 zero_sums512(void) {
  const __m512 zero = _mm512_setzero_ps();
  return (sums512){zero, zero, zero, zero};
}

/** \brief Subtract A[:, j] X[j, :] for begin <= j < end from the first num_strips strips */
INLINE AVX512 void subtract512(const float *const a[4], const float *x, int begin, int end,
                               int num_strips, sums512 *s0, sums512 *s1, sums512 *s2, sums512 *s3) {
  for (int j = begin; j < end; j++) {
    const float *xj = x + j * 64;
    const __m512 a0 = _mm512_set1_ps(a[0][j]);
    const __m512 a1 = _mm512_set1_ps(a[1][j]);
    const __m512 a2 = _mm512_set1_ps(a[2][j]);
    const __m512 a3 = _mm512_set1_ps(a[3][j]);
#define SUBTRACT(strip, s)                              \
  if (num_strips > (strip)) {                           \
    const __m512 xjs = _mm512_load_ps(xj + (strip)*16); \
    s->row0 = _mm512_fnmadd_ps(a0, xjs, s->row0);       \
    s->row1 = _mm512_fnmadd_ps(a1, xjs, s->row1);       \
    s->row2 = _mm512_fnmadd_ps(a2, xjs, s->row2);       \
    s->row3 = _mm512_fnmadd_ps(a3, xjs, s->row3);       \
  }
    SUBTRACT(0, s0)
    SUBTRACT(1, s1)
    SUBTRACT(2, s2)
    SUBTRACT(3, s3)
#undef SUBTRACT
  }
}

/** \brief Put 1 on the diagonal and 0 right of it; column is the diagonal's place in the strip */
INLINE AVX512 __m512 unit_diagonal512(__m512 x, int column) {
  const __mmask16 below = (__mmask16)((1u << column) - 1);
  const __mmask16 up_to = (__mmask16)((2u << column) - 1);
  return _mm512_maskz_mov_ps(up_to, _mm512_mask_mov_ps(_mm512_set1_ps(1.0f), below, x));
}

/** \brief Turn the sums over j < row into X, within the four rows */
INLINE AVX512 void finish512(const float *const a[4], float *x, int row, int strip, bool diagonal,
                             sums512 *s) {
  const int column = row % 16;
  if (diagonal) s->row0 = unit_diagonal512(s->row0, column);
  s->row1 = _mm512_fnmadd_ps(_mm512_set1_ps(a[1][row]), s->row0, s->row1);
  s->row2 = _mm512_fnmadd_ps(_mm512_set1_ps(a[2][row]), s->row0, s->row2);
  s->row3 = _mm512_fnmadd_ps(_mm512_set1_ps(a[3][row]), s->row0, s->row3);
  if (diagonal) s->row1 = unit_diagonal512(s->row1, column + 1);
  s->row2 = _mm512_fnmadd_ps(_mm512_set1_ps(a[2][row + 1]), s->row1, s->row2);
  s->row3 = _mm512_fnmadd_ps(_mm512_set1_ps(a[3][row + 1]), s->row1, s->row3);
  if (diagonal) s->row2 = unit_diagonal512(s->row2, column + 2);
  s->row3 = _mm512_fnmadd_ps(_mm512_set1_ps(a[3][row + 2]), s->row2, s->row3);
  if (diagonal) s->row3 = unit_diagonal512(s->row3, column + 3);
  float *to = x + row * 64 + strip * 16;
  _mm512_store_ps(to, s->row0);
  _mm512_store_ps(to + 64, s->row1);
  _mm512_store_ps(to + 128, s->row2);
  _mm512_store_ps(to + 192, s->row3);
}

/** \brief The bf16 nearest to each entry, in the upper half of its 32 bits */
INLINE AVX512 __m512i round512(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  /* A carry could turn a NaN into zero: it keeps its upper half and is made quiet instead. */
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  return _mm512_mask_or_epi32(up, nan, bits, _mm512_set1_epi32(0x400000));
}

INLINE AVX512 void store512(uint16_t *out, __m512 left, __m512 right, bool stream) {
  static const _Alignas(64)
      uint16_t upper_halves[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
                                   33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
  const __m512i both =
      _mm512_permutex2var_epi16(round512(left), _mm512_load_si512(upper_halves), round512(right));
  if (stream) {
    _mm512_stream_si512((__m512i *)(void *)out, both);
  } else {
    _mm512_storeu_si512(out, both);
  }
}

/** \brief SOLVE_ROWS for rows whose strip on the diagonal is number num_strips - 1 */
INLINE AVX512 void solve_strips512(const float *const a[4], float *x, int row,
                                   uint16_t *const out[4], bool stream, int num_strips) {
  sums512 s0 = zero_sums512(), s1 = s0, s2 = s0, s3 = s0;
  subtract512(a, x, 0, num_strips > 1 ? 16 : row, 1, &s0, &s1, &s2, &s3);
  if (num_strips > 1) {
    subtract512(a, x, 16, num_strips > 2 ? 32 : row, 2, &s0, &s1, &s2, &s3);
  }
  if (num_strips > 2) {
    subtract512(a, x, 32, num_strips > 3 ? 48 : row, 3, &s0, &s1, &s2, &s3);
  }
  if (num_strips > 3) subtract512(a, x, 48, row, 4, &s0, &s1, &s2, &s3);

  finish512(a, x, row, 0, num_strips == 1, &s0);
  if (num_strips > 1) finish512(a, x, row, 1, num_strips == 2, &s1);
  if (num_strips > 2) finish512(a, x, row, 2, num_strips == 3, &s2);
  if (num_strips > 3) finish512(a, x, row, 3, true, &s3);

  store512(out[0], s0.row0, s1.row0, stream);
  store512(out[0] + 32, s2.row0, s3.row0, stream);
  store512(out[1], s0.row1, s1.row1, stream);
  store512(out[1] + 32, s2.row1, s3.row1, stream);
  store512(out[2], s0.row2, s1.row2, stream);
  store512(out[2] + 32, s2.row2, s3.row2, stream);
  store512(out[3], s0.row3, s1.row3, stream);
  store512(out[3] + 32, s2.row3, s3.row3, stream);
}

INLINE AVX512 void solve_rows512(const float *const a[4], float *x, int row, uint16_t *const out[4],
                                 bool stream) {
  switch (row / 16) {
    case 0:
      solve_strips512(a, x, row, out, stream, 1);
      break;
    case 1:
      solve_strips512(a, x, row, out, stream, 2);
      break;
    case 2:
      solve_strips512(a, x, row, out, stream, 3);
      break;
    default:
      solve_strips512(a, x, row, out, stream, 4);
      break;
  }
}

#define SOLVE_TILES pega_qwen35_chunk_solve_tiles_avx512
#define SOLVE_TARGET AVX512
#define SOLVE_ROWS solve_rows512
#define SOLVE_FENCE _mm_sfence()
#include "ops/qwen35/chunk_solve_cpu_tiles.inl"
#undef SOLVE_TILES
#undef SOLVE_TARGET
#undef SOLVE_ROWS
#undef SOLVE_FENCE

/* ---- AVX2: four rows by one strip, two registers for each row of it ---- */

typedef struct {
  __m256 left, right;
} row256;

/** \brief sum - factor * x */
INLINE AVX2 row256 subtract256(row256 sum, __m256 factor, row256 x) {
  return (row256){_mm256_fnmadd_ps(factor, x.left, sum.left),
                  _mm256_fnmadd_ps(factor, x.right, sum.right)};
}

INLINE AVX2 row256 load256(const float *x) {
  return (row256){_mm256_load_ps(x), _mm256_load_ps(x + 8)};
}

INLINE AVX2 void store256(float *x, row256 value) {
  _mm256_store_ps(x, value.left);
  _mm256_store_ps(x + 8, value.right);
}

/** \brief Put 1 on the diagonal and 0 right of it; column is the diagonal's place in the strip */
INLINE AVX2 row256 unit_diagonal256(row256 x, int column) {
  const __m256i left = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i right = _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15);
  const __m256i here = _mm256_set1_epi32(column);
  const __m256i one = _mm256_castps_si256(_mm256_set1_ps(1.0f));
#define UNIT(half)                                                                         \
  _mm256_or_ps(_mm256_and_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(here, half)), x.half), \
               _mm256_castsi256_ps(_mm256_and_si256(_mm256_cmpeq_epi32(here, half), one)))
  return (row256){UNIT(left), UNIT(right)};
#undef UNIT
}

/** \brief The bf16 nearest to each entry, in the lower half of its 32 bits */
INLINE AVX2 __m256i round256(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  return _mm256_srli_epi32(_mm256_blendv_epi8(up, quiet, nan), 16);
}

INLINE AVX2 void write256(uint16_t *out, row256 x, bool stream) {
  const __m256i mixed = _mm256_packus_epi32(round256(x.left), round256(x.right));
  const __m256i both = _mm256_permute4x64_epi64(mixed, 0xd8); /* packus works by 128-bit lanes */
  if (stream) {
    _mm256_stream_si256((__m256i *)(void *)out, both);
  } else {
    _mm256_storeu_si256((__m256i *)(void *)out, both);
  }
}

INLINE AVX2 void solve_rows256(const float *const a[4], float *x, int row, uint16_t *const out[4],
                               bool stream) {
  const int last_strip = row / 16;
  for (int strip = 0; strip <= last_strip; strip++) {
    row256 x0 = {_mm256_setzero_ps(), _mm256_setzero_ps()}, x1 = x0, x2 = x0, x3 = x0;
    for (int j = strip * 16; j < row; j++) {
      const row256 xj = load256(x + j * 64 + strip * 16);
      x0 = subtract256(x0, _mm256_broadcast_ss(a[0] + j), xj);
      x1 = subtract256(x1, _mm256_broadcast_ss(a[1] + j), xj);
      x2 = subtract256(x2, _mm256_broadcast_ss(a[2] + j), xj);
      x3 = subtract256(x3, _mm256_broadcast_ss(a[3] + j), xj);
    }
    const bool diagonal = strip == last_strip;
    const int column = row % 16;
    if (diagonal) x0 = unit_diagonal256(x0, column);
    x1 = subtract256(x1, _mm256_broadcast_ss(a[1] + row), x0);
    x2 = subtract256(x2, _mm256_broadcast_ss(a[2] + row), x0);
    x3 = subtract256(x3, _mm256_broadcast_ss(a[3] + row), x0);
    if (diagonal) x1 = unit_diagonal256(x1, column + 1);
    x2 = subtract256(x2, _mm256_broadcast_ss(a[2] + row + 1), x1);
    x3 = subtract256(x3, _mm256_broadcast_ss(a[3] + row + 1), x1);
    if (diagonal) x2 = unit_diagonal256(x2, column + 2);
    x3 = subtract256(x3, _mm256_broadcast_ss(a[3] + row + 2), x2);
    if (diagonal) x3 = unit_diagonal256(x3, column + 3);

    float *to = x + row * 64 + strip * 16;
    store256(to, x0);
    store256(to + 64, x1);
    store256(to + 128, x2);
    store256(to + 192, x3);
    write256(out[0] + strip * 16, x0, stream);
    write256(out[1] + strip * 16, x1, stream);
    write256(out[2] + strip * 16, x2, stream);
    write256(out[3] + strip * 16, x3, stream);
  }
  const row256 zero = {_mm256_setzero_ps(), _mm256_setzero_ps()};
  for (int strip = last_strip + 1; strip < 4; strip++) {
    for (int r = 0; r < 4; r++) write256(out[r] + strip * 16, zero, stream);
  }
}

#define SOLVE_TILES pega_qwen35_chunk_solve_tiles_avx2
#define SOLVE_TARGET AVX2
#define SOLVE_ROWS solve_rows256
#define SOLVE_FENCE _mm_sfence()
#include "ops/qwen35/chunk_solve_cpu_tiles.inl"

#endif
