/* SPDX-License-Identifier: Apache-2.0 */
/* A library of plain C functions, as others write them, for test_c_library.c. It knows nothing of pega. */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define PROTOTYPE(type, name, ...) EXPORT type name(__VA_ARGS__);

/* What the last call got, as text: "i8=-1 f32=0.5". */
static char got[4096];
PROTOTYPE(const char *, fixture_got, void)
const char *fixture_got(void) { return got; }

PROTOTYPE(void, fixture_nothing, void)
void fixture_nothing(void) { strcpy(got, "nothing"); }

PROTOTYPE(void, fixture_ints, int8_t a, int16_t b, int32_t c, int64_t d, uint8_t e, uint16_t f,
          uint32_t g, uint64_t h, size_t i, bool j)
void fixture_ints(int8_t a, int16_t b, int32_t c, int64_t d, uint8_t e, uint16_t f, uint32_t g,
                  uint64_t h, size_t i, bool j) {
  snprintf(got, sizeof got, "%d %d %d %lld %u %u %u %llu %zu %d", a, b, c, (long long)d, e, f, g,
           (unsigned long long)h, i, j);
}

/* More of each kind than there are registers, mixed. */
PROTOTYPE(void, fixture_mixed, double a, int32_t b, float c, void *d, double e, int8_t f, float g,
          int64_t h, double i, uint16_t j, float k, int32_t l, double m, uint8_t n, float o,
          int64_t p, double q, float r, int32_t s, double t, float u, const char *v)
void fixture_mixed(double a, int32_t b, float c, void *d, double e, int8_t f, float g, int64_t h,
                   double i, uint16_t j, float k, int32_t l, double m, uint8_t n, float o,
                   int64_t p, double q, float r, int32_t s, double t, float u, const char *v) {
  snprintf(got, sizeof got, "%g %d %g %p %g %d %g %lld %g %u %g %d %g %u %g %lld %g %g %d %g %g %s",
           a, b, (double)c, d, e, f, (double)g, (long long)h, i, j, (double)k, l, m, n, (double)o,
           (long long)p, q, (double)r, s, t, (double)u, v);
}

#define ECHO(type, name)                  \
  PROTOTYPE(type, fixture_##name, type x) \
  type fixture_##name(type x) { return x; }
ECHO(int8_t, i8)
ECHO(int16_t, i16)
ECHO(int32_t, i32)
ECHO(int64_t, i64)
ECHO(uint8_t, u8)
ECHO(uint16_t, u16)
ECHO(uint32_t, u32)
ECHO(float, f32)
ECHO(double, f64)
ECHO(bool, bool)
ECHO(void *, pointer)
ECHO(const char *, text)

PROTOTYPE(uint64_t, fixture_greatest, void)
uint64_t fixture_greatest(void) { return UINT64_MAX; }

/* y = a x, row by row. */
PROTOTYPE(int, fixture_scale, const float *x, float *y, int32_t rows, int32_t cols,
          int64_t row_stride, float a)
int fixture_scale(const float *x, float *y, int32_t rows, int32_t cols, int64_t row_stride,
                  float a) {
  snprintf(got, sizeof got, "%d %d %lld", rows, cols, (long long)row_stride);
  for (int32_t i = 0; i < rows; ++i) {
    for (int32_t j = 0; j < cols; ++j) y[i * cols + j] = a * x[i * row_stride + j];
  }
  return 0;
}

PROTOTYPE(int, fixture_status, int code)
int fixture_status(int code) { return code; }
PROTOTYPE(const char *, fixture_last_error, void)
const char *fixture_last_error(void) { return "the moon is full"; }
PROTOTYPE(const char *, fixture_no_last_error, void)
const char *fixture_no_last_error(void) { return NULL; }

PROTOTYPE(int, fixture_five, const void *a, const void *b, int32_t c, float d, void *e)
int fixture_five(const void *a, const void *b, int32_t c, float d, void *e) {
  return a == b && c == 0 && d == 0 && e != NULL;
}
PROTOTYPE(int, fixture_three, const void *x, const void *weight, void *y, int32_t rows,
          int32_t cols, float eps, void *stream)
int fixture_three(const void *x, const void *weight, void *y, int32_t rows, int32_t cols, float eps,
                  void *stream) {
  return x == weight && y == x && rows == cols && eps > 1 && stream != NULL;
}

EXPORT extern int fixture_data;
int fixture_data = 7;
