/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Part of a fake driver that `pega bench` takes for a real one, since it hides the fake one's own functions: its
 * chunk solve computes, and no other kernel does anything. PEGA_TEST_WRONG: it computes one
 * element wrong, of
 * the last chunk, or of one in between where it says "middle".
 */
#include <pega/fake_driver.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 64 };

static uint16_t to_bf16(float value) {
  uint32_t bits = 0;
  memcpy(&bits, &value, sizeof bits);
  return (uint16_t)((bits + 0x7fffU + (bits >> 16 & 1U)) >> 16);
}

static void invert(const float *a, uint16_t *out, int64_t stride) {
  static float x[CHUNK][CHUNK];
  for (int i = 0; i < CHUNK; ++i) {
    for (int j = 0; j < CHUNK; ++j) {
      float sum = i == j ? 1 : 0;
      for (int k = j; k < i && j < i; ++k) sum -= a[i * stride + k] * x[k][j];
      x[i][j] = sum;
      out[i * stride + j] = to_bf16(sum);
    }
  }
}

static int solve(const pega_fake_driver_launch *launch, void *user) {
  const float *a = NULL;
  uint16_t *out = NULL;
  int32_t tokens = 0;
  int32_t heads = 0;
  (void)user;
  if (launch->num_params < 4) return 1;
  memcpy((void *)&a, launch->params[0].bytes, sizeof a);
  memcpy((void *)&out, launch->params[1].bytes, sizeof out);
  memcpy(&tokens, launch->params[2].bytes, sizeof tokens);
  memcpy(&heads, launch->params[3].bytes, sizeof heads);
  const int64_t stride = (int64_t)heads * CHUNK;
  /* It was computed and nobody has written there since. */
  if (out[0] == to_bf16(1)) return 0;
  for (int32_t row = 0; row < tokens; row += CHUNK) {
    for (int32_t head = 0; head < heads; ++head) {
      invert(a + row * stride + head * CHUNK, out + row * stride + head * CHUNK, stride);
    }
  }
  const char *which = getenv("PEGA_TEST_WRONG");
  if (which != NULL) {
    const float wrong = 0.25F;
    const int middle = strcmp(which, "middle") == 0 && tokens > 2 * CHUNK;
    out[(middle ? tokens / 2 + CHUNK - 1 : tokens - 1) * stride + 3] = to_bf16(wrong);
  }
  return 0;
}

__attribute__((constructor)) static void begin(void) {
  (void)pega_fake_driver_set_kernel("gated_delta_rule_chunk_solve", solve, NULL);
  (void)pega_fake_driver_set_kernel("gated_delta_rule_chunk_solve_halves", solve, NULL);
}
