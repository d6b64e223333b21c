/* SPDX-License-Identifier: Apache-2.0 */
/* Elements of matrices as doubles, for the fake cuBLAS and the tests. */
#ifndef PEGA_TESTS_CUBLAS_NUMBERS_H_
#define PEGA_TESTS_CUBLAS_NUMBERS_H_

#include <math.h>
#include <stdint.h>
#include <string.h>

/* cudaDataType */
enum { NUMBER_F32 = 0, NUMBER_F16 = 2, NUMBER_BF16 = 14 };

static inline int64_t number_bytes(int type) { return type == NUMBER_F32 ? 4 : 2; }

static inline double number_read(const void *data, int type, int64_t index) {
  uint16_t half;
  uint32_t bits;
  float value;
  if (type == NUMBER_F32) {
    memcpy(&value, (const char *)data + index * 4, 4);
    return (double)value;
  }
  memcpy(&half, (const char *)data + index * 2, 2);
  if (type == NUMBER_BF16) {
    bits = (uint32_t)half << 16;
    memcpy(&value, &bits, 4);
    return (double)value;
  }
  const int exponent = half >> 10 & 31;
  const double fraction = half & 1023;
  double size = exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);
  if (exponent == 31) size = fraction != 0 ? (double)NAN : (double)INFINITY;
  return (half & 0x8000) != 0 ? -size : size;
}

/* Rounds to the nearest, ties to even, as the units of a GPU do. */
static inline void number_write(void *data, int type, int64_t index, double number) {
  float value = (float)number;
  uint32_t bits;
  uint16_t half;
  memcpy(&bits, &value, 4);
  if (type == NUMBER_F32) {
    memcpy((char *)data + index * 4, &value, 4);
    return;
  }
  if (type == NUMBER_BF16) {
    half = isnan(value) ? 0x7fc0 : (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  } else if (isnan(value)) {
    half = 0x7e00;
  } else {
    int exponent = 0;
    const double size = fabs((double)value);
    (void)frexp(size, &exponent);
    if (exponent < -13) exponent = -13;
    const double step = ldexp(1, exponent - 11);
    const double rounded = nearbyint(size / step) * step;
    half = (uint16_t)(bits >> 16 & 0x8000);
    if (rounded >= 65520) {
      half |= 0x7c00;
    } else if (rounded > 0) {
      (void)frexp(rounded, &exponent);
      if (exponent < -13) {
        half = (uint16_t)(half | (uint16_t)ldexp(rounded, 24));
      } else {
        half = (uint16_t)(half | (uint16_t)((exponent + 14) << 10) |
                          ((uint16_t)ldexp(rounded, 11 - exponent) & 1023));
      }
    }
  }
  memcpy((char *)data + index * 2, &half, 2);
}

#endif /* PEGA_TESTS_CUBLAS_NUMBERS_H_ */
