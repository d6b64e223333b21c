/* SPDX-License-Identifier: Apache-2.0 */
/* The inner loops of gated_delta_rule_cpu_kernels.h, in terms of a vector. The including file
 * defines
 *   KERNELS          the table to define here, of type pega_qwen35_kernels
 *   KERNELS_NAME     its name
 *   TARGET           the attributes that let a function use the instruction set; may be empty
 *   NAME(x)          x with a suffix of the instruction set's own
 *   LANES            floats in a vector
 *   ROWS_8           defined where registers suffice for 8 rows by 2 vectors of sums; 4 rows if not
 *   vec              a vector of floats; set1(float), fma(a, b, c) = a b + c on them
 * Everything else is had from the vector extensions that gcc and clang share. Sums are kept in
 * variables of their own rather than in arrays, so that every compiler holds them in registers. */

typedef uint32_t NAME(uvec) __attribute__((vector_size(LANES * 4)));
typedef int32_t NAME(ivec) __attribute__((vector_size(LANES * 4)));
typedef uint16_t NAME(hvec) __attribute__((vector_size(LANES * 2)));
#define uvec NAME(uvec)
#define ivec NAME(ivec)
#define hvec NAME(hvec)
#define INLINE static inline __attribute__((always_inline)) TARGET
enum { NAME(kColumns) = 2 * LANES };
#define COLUMNS NAME(kColumns)

/* ---- Vectors ---- */

INLINE vec NAME(loadu)(const float *x) {
  vec v;
  memcpy(&v, x, sizeof v);
  return v;
}

INLINE void NAME(storeu)(float *x, vec v) { memcpy(x, &v, sizeof v); }

INLINE vec NAME(load_bf16)(const uint16_t *x) {
  hvec h;
  memcpy(&h, x, sizeof h);
  return (vec)(__builtin_convertvector(h, uvec) << 16);
}

/** \brief The nearest bf16, ties to even, in the upper half of each lane; NaN made quiet */
INLINE uvec NAME(round_bf16)(vec x) {
  const uvec bits = (uvec)x;
  const uvec nan = (uvec)(x != x);
  const uvec up = bits + 0x7fffu + ((bits >> 16) & 1u);
  return (up & ~nan) | ((bits | 0x400000u) & nan);
}

INLINE void NAME(store_bf16)(uint16_t *to, vec x) {
  const hvec h = __builtin_convertvector(NAME(round_bf16)(x) >> 16, hvec);
  memcpy(to, &h, sizeof h);
}

INLINE float NAME(sum)(vec x) {
  float lanes[LANES];
  memcpy(lanes, &x, sizeof lanes);
  float sum = 0.0f;
  for (int i = 0; i < LANES; i++) sum += lanes[i];
  return sum;
}

/** \brief exp(x) for x <= 0, to an ulp or two; 0 where it would not be a normal number */
static TARGET __attribute__((noinline)) vec NAME(exp)(vec x) {
  /* x = n ln 2 + r; adding 1.5 * 2^23 rounds to an integer and leaves it in the lowest bits. The
   * upper part of ln 2 has few enough bits for n times it to be exact. */
  const vec magic = set1(0x1.8p23f);
  const vec shifted = fma(x, set1(0x1.715476p0f), magic);
  const vec n = shifted - magic;
  const vec r = fma(n, set1(0x1.bd0106p-13f), fma(n, set1(-0x1.63p-1f), x));
  vec p = set1(1.0f / 5040.0f);
  p = fma(p, r, set1(1.0f / 720.0f));
  p = fma(p, r, set1(1.0f / 120.0f));
  p = fma(p, r, set1(1.0f / 24.0f));
  p = fma(p, r, set1(1.0f / 6.0f));
  p = fma(p, r, set1(0.5f));
  p = fma(p, r, set1(1.0f));
  p = fma(p, r, set1(1.0f));
  const vec power = (vec)(((uvec)shifted + 127u) << 23);
  return (vec)((uvec)(p * power) & ~(uvec)(x < set1(-87.3f)));
}

/* ---- Products ---- */

/* Each pair of rows (r, j) with j < r, row after row */
#define PAIRS_TO_3(X) X(1, 0) X(2, 0) X(2, 1) X(3, 0) X(3, 1) X(3, 2)
#define PAIRS_OF_4(X) X(4, 0) X(4, 1) X(4, 2) X(4, 3)
#define PAIRS_OF_5(X) X(5, 0) X(5, 1) X(5, 2) X(5, 3) X(5, 4)
#define PAIRS_OF_6(X) X(6, 0) X(6, 1) X(6, 2) X(6, 3) X(6, 4) X(6, 5)
#define PAIRS_OF_7(X) X(7, 0) X(7, 1) X(7, 2) X(7, 3) X(7, 4) X(7, 5) X(7, 6)
/* Rows of a are a_row apart, columns a_step; 3 a_row is what an address cannot hold by itself. */
#define A_OF_0 aj[0]
#define A_OF_1 aj[a_row]
#define A_OF_2 aj[2 * a_row]
#define A_OF_3 aj3[0]
#define A_OF_4 aj[4 * a_row]
#define A_OF_5 aj3[2 * a_row]
#define A_OF_6 aj3[a_row_3]
#define A_OF_7 aj3[4 * a_row]
#if defined(ROWS_8)
#define NUM_ROWS 8
#define EACH_ROW(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define EACH_PAIR(X) PAIRS_TO_3(X) PAIRS_OF_4(X) PAIRS_OF_5(X) PAIRS_OF_6(X) PAIRS_OF_7(X)
#else
#define NUM_ROWS 4
#define EACH_ROW(X) X(0) X(1) X(2) X(3)
#define EACH_PAIR(X) PAIRS_TO_3(X)
#endif

static TARGET void NAME(multiply)(float *c, const float *a, const float *b, int64_t b_stride,
                                  const float *scale, int num_rows, int depth,
                                  pega_qwen35_shape shape) {
  const int64_t a_row = shape == PEGA_QWEN35_TRANSPOSED ? 1 : kDim, a_row_3 = 3 * a_row;
  const int64_t a_step = shape == PEGA_QWEN35_TRANSPOSED ? kDim : 1;
  for (int row = 0; row < num_rows; row += NUM_ROWS) {
    if (shape == PEGA_QWEN35_LOWER) depth = row + NUM_ROWS;
    if (shape == PEGA_QWEN35_SOLVE) depth = row;
#define ZERO(r) vec left##r = set1(0.0f), right##r = left##r;
    EACH_ROW(ZERO)
#undef ZERO
    if (scale != NULL) {
#define SCALE(r)                                           \
  left##r = set1(scale[r]) * NAME(loadu)(c + (r)*COLUMNS); \
  right##r = set1(scale[r]) * NAME(loadu)(c + (r)*COLUMNS + LANES);
      EACH_ROW(SCALE)
#undef SCALE
      scale += NUM_ROWS;
    }
    const float *bj = b;
    const float *aj = a, *aj3 = a + a_row_3;
    for (int j = 0; j < depth; j++, aj += a_step, aj3 += a_step, bj += b_stride) {
      const vec b_left = NAME(loadu)(bj), b_right = NAME(loadu)(bj + LANES);
#define ADD(r)                                 \
  {                                            \
    const vec factor = set1(A_OF_##r);         \
    left##r = fma(factor, b_left, left##r);    \
    right##r = fma(factor, b_right, right##r); \
  }
      EACH_ROW(ADD)
#undef ADD
    }
    if (shape == PEGA_QWEN35_SOLVE) {
#define SUBSTITUTE(r, j)                         \
  {                                              \
    const vec factor = set1(aj[(r)*kDim + (j)]); \
    left##r = fma(factor, left##j, left##r);     \
    right##r = fma(factor, right##j, right##r);  \
  }
      EACH_PAIR(SUBSTITUTE)
#undef SUBSTITUTE
    }
#define STORE(r)                          \
  NAME(storeu)(c + (r)*COLUMNS, left##r); \
  NAME(storeu)(c + (r)*COLUMNS + LANES, right##r);
    EACH_ROW(STORE)
#undef STORE
    c += NUM_ROWS * COLUMNS;
    a += NUM_ROWS * a_row;
  }
}

/* ---- Between the products ---- */

static TARGET void NAME(load)(float *to, const uint16_t *from, int64_t stride, int num_rows,
                              bool normalize) {
  for (int row = 0; row < num_rows; row++, to += kDim, from += stride) {
    vec squares = set1(0.0f);
    for (int i = 0; i < kDim; i += LANES) {
      const vec x = NAME(load_bf16)(from + i);
      squares = fma(x, x, squares);
      NAME(storeu)(to + i, x);
    }
    if (!normalize) continue;
    const vec factor = set1(1.0f / sqrtf(NAME(sum)(squares) + 1e-12f));
    for (int i = 0; i < kDim; i += LANES) {
      const uvec rounded = NAME(round_bf16)(NAME(loadu)(to + i) * factor);
      NAME(storeu)(to + i, (vec)(rounded & 0xffff0000u));
    }
  }
}

static TARGET void NAME(decay)(float *a, float *p, const float *kk, const float *qk,
                               pega_qwen35_chunk_gates *gates, float sign, int num_rows) {
  static const int32_t counting[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  ivec lane;
  memcpy(&lane, counting, sizeof lane);

  for (int i = 0; i < num_rows; i++) {
    const vec high = set1(gates->high[i]), low = set1(gates->low[i]);
    const vec factor = set1(sign * gates->beta[i]);
    for (int j = 0; j <= (i | (kRowGranularity - 1)); j += LANES) {
      /* Right of the diagonal this is of no use and may overflow: masked, not multiplied, away. */
      const vec weight =
          NAME(exp)((high - NAME(loadu)(gates->high + j)) + (low - NAME(loadu)(gates->low + j)));
      const int from = j / COLUMNS * (kChunk * COLUMNS) + i * COLUMNS + j % COLUMNS;
      const ivec column = lane + j;
      if (kk != NULL) {
        const vec x = factor * weight * NAME(loadu)(kk + from);
        NAME(storeu)(a + i * kDim + j, (vec)((uvec)x & (uvec)(column < i)));
      }
      if (qk != NULL) {
        const vec x = weight * NAME(loadu)(qk + from);
        NAME(storeu)(p + i * kDim + j, (vec)((uvec)x & (uvec)(column <= i)));
      }
    }
  }
  const vec last_high = set1(gates->high[kChunk - 1]), last_low = set1(gates->low[kChunk - 1]);
  for (int i = 0; i < kChunk; i += LANES) {
    const vec high = NAME(loadu)(gates->high + i), low = NAME(loadu)(gates->low + i);
    NAME(storeu)(gates->from_start + i, NAME(exp)(high + low));
    NAME(storeu)(gates->to_end + i, NAME(exp)((last_high - high) + (last_low - low)));
  }
}

static TARGET void NAME(subtract_from)(float *c, const float *c_factor, const uint16_t *x,
                                       int64_t x_stride, int num_rows) {
  for (int row = 0; row < num_rows; row++, x += x_stride) {
    const vec factor = set1(c_factor == NULL ? 0.0f : -c_factor[row]);
    for (int half = 0; half < 2; half++, c += LANES) {
      vec sum = NAME(load_bf16)(x + half * LANES);
      if (c_factor != NULL) sum = fma(factor, NAME(loadu)(c), sum);
      NAME(storeu)(c, sum);
    }
  }
}

static TARGET void NAME(store)(uint16_t *to, int64_t stride, const float *c, float factor,
                               int num_rows) {
  for (int row = 0; row < num_rows; row++, to += stride, c += COLUMNS) {
    NAME(store_bf16)(to, set1(factor) * NAME(loadu)(c));
    NAME(store_bf16)(to + LANES, set1(factor) * NAME(loadu)(c + LANES));
  }
}

/* ---- One token ---- */

#define EACH_QUARTER(X) X(0) X(1) X(2) X(3)

/** \brief Fetch a row of the columns that follow, if any, into the second-level cache */
INLINE void NAME(fetch)(const float *next, int64_t stride, int row) {
  if (next == NULL) return;
  for (int i = 0; i < 4 * LANES; i += 16) __builtin_prefetch(next + row * stride + i, 0, 2);
}

static TARGET void NAME(recur)(float *s, int64_t s_stride, const float *q, const float *k,
                               const uint16_t *v, uint16_t *output, float decay, float beta,
                               float scale, const float *next) {
  /* Even and odd rows have sums of their own: four would wait for each other. */
#define ZERO(i) vec even##i = set1(0.0f), odd##i = even##i;
  EACH_QUARTER(ZERO)
#undef ZERO
  for (int d = 0; d < kDim; d += 2) {
    const float *row = s + d * s_stride;
    NAME(fetch)(next, s_stride, d / 2);
    const vec k_even = set1(k[d]), k_odd = set1(k[d + 1]);
#define ADD(i)                                                  \
  even##i = fma(k_even, NAME(loadu)(row + (i)*LANES), even##i); \
  odd##i = fma(k_odd, NAME(loadu)(row + s_stride + (i)*LANES), odd##i);
    EACH_QUARTER(ADD)
#undef ADD
  }
  const vec keep = set1(decay);
#define UPDATE_AND_CLEAR(i)                                                                   \
  const vec u##i = set1(beta) * (NAME(load_bf16)(v + (i)*LANES) - keep * (even##i + odd##i)); \
  vec o##i = set1(0.0f);
  EACH_QUARTER(UPDATE_AND_CLEAR)
#undef UPDATE_AND_CLEAR
  /* Backwards: these columns of all rows lie in half of the first-level cache's sets, where only
   * the rows that were read last are left. */
  for (int d = kDim - 1; d >= 0; d--) {
    float *row = s + d * s_stride;
    if (d % 2 == 0) NAME(fetch)(next, s_stride, (kDim + d) / 2);
    const vec kd = set1(k[d]), qd = set1(q[d]);
#define UPDATE(i)                                                           \
  {                                                                         \
    const vec updated = fma(kd, u##i, keep * NAME(loadu)(row + (i)*LANES)); \
    NAME(storeu)(row + (i)*LANES, updated);                                 \
    o##i = fma(qd, updated, o##i);                                          \
  }
    EACH_QUARTER(UPDATE)
#undef UPDATE
  }
#define OUTPUT(i) NAME(store_bf16)(output + (i)*LANES, set1(scale) * o##i);
  EACH_QUARTER(OUTPUT)
#undef OUTPUT
}

const pega_qwen35_kernels KERNELS = {
    .name = KERNELS_NAME,
    .columns = COLUMNS,
    .recur_columns = 4 * LANES,
    .multiply = NAME(multiply),
    .load = NAME(load),
    .decay = NAME(decay),
    .subtract_from = NAME(subtract_from),
    .store = NAME(store),
    .recur = NAME(recur),
};

#undef uvec
#undef ivec
#undef hvec
#undef INLINE
#undef COLUMNS
#undef NUM_ROWS
#undef EACH_ROW
#undef EACH_PAIR
#undef EACH_QUARTER
