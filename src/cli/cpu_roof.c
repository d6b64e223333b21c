/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu_roof.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "print.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

enum { MAX_THREADS = 256 };

static double now(void) {
  struct timespec time;
  (void)clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

int cpu_roof_threads(void) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  const int count = CPU_COUNT(&set);
  return count < 1 ? 1 : count > MAX_THREADS ? MAX_THREADS : count;
}

/* ---- at once on several threads ---- */

typedef struct share {
  void (*body)(struct share *self);
  atomic_int *waiting; /* threads that are not there yet */
  int64_t rounds;
  char *from, *to; /* what is copied */
  size_t bytes;
  float sum; /* where a result goes, so that nothing is left out */
  double start, end;
} share;

static void *share_main(void *arg) {
  share *self = arg;
  atomic_fetch_sub(self->waiting, 1);
  while (atomic_load(self->waiting) > 0) (void)sched_yield();
  self->start = now();
  self->body(self);
  self->end = now();
  return NULL;
}

/* Seconds from the first one's begin to the last one's end. */
static double together(share *shares, int threads) {
  pthread_t others[MAX_THREADS];
  bool started[MAX_THREADS] = {false};
  atomic_int waiting = threads;
  for (int i = 0; i < threads; ++i) shares[i].waiting = &waiting;
  for (int i = 1; i < threads; ++i) {
    started[i] = pthread_create(&others[i], NULL, share_main, &shares[i]) == 0;
    if (!started[i]) cli_out_of_memory();
  }
  (void)share_main(&shares[0]);
  double start = shares[0].start;
  double end = shares[0].end;
  for (int i = 1; i < threads; ++i) {
    (void)pthread_join(others[i], NULL);
    if (shares[i].start < start) start = shares[i].start;
    if (shares[i].end > end) end = shares[i].end;
  }
  return end - start;
}

/* The most that is done a second, where a thread does `amount` in a round. */
static double best_rate(share *shares, int threads, double amount, bool quick) {
  const int tries = quick ? 1 : 9;
  const double wanted = quick ? 1e-4 : 0.02; /* seconds a try */
  double best = 0;
  int64_t rounds = 1;
  double seconds = 0;
  for (;; rounds *= 2) {
    for (int i = 0; i < threads; ++i) shares[i].rounds = rounds;
    seconds = together(shares, threads);
    if (seconds >= wanted || rounds >= INT64_C(1) << 40) break;
  }
  for (int attempt = 0; attempt < tries; ++attempt) {
    const double rate = amount * (double)rounds * threads / together(shares, threads);
    if (rate > best) best = rate;
  }
  return best;
}

/* ---- arithmetic ---- */

/* As many sums as hide the latency of an addition on every processor, and as registers hold. */
#define EACH_OF_8(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define EACH_OF_12(X) EACH_OF_8(X) X(8) X(9) X(10) X(11)
#define EACH_OF_24(X) \
  EACH_OF_12(X) X(12) X(13) X(14) X(15) X(16) X(17) X(18) X(19) X(20) X(21) X(22) X(23)
enum { STEPS = 64 };

/* flop_NAME() adds up; OPERATIONS_NAME is what a round of it is. */
#define DEFINE_FLOP(name, target, vec, lanes, set1, each, num)           \
  enum { OPERATIONS_##name = 2 * (lanes) * (num)*STEPS };                \
  target static void flop_##name(share *self) {                          \
    const vec x = set1(0.999F);                                          \
    const vec y = set1(0.5F);                                            \
    each(FLOP_BEGIN_##name) for (int64_t i = 0; i < self->rounds; ++i) { \
      for (int step = 0; step < STEPS; ++step) {                         \
        each(FLOP_STEP_##name)                                           \
      }                                                                  \
    }                                                                    \
    vec all = x;                                                         \
    each(FLOP_END_##name) float lane[lanes];                             \
    memcpy(lane, &all, sizeof lane);                                     \
    self->sum = lane[0];                                                 \
  }

#if defined(__x86_64__)
#define FLOP_BEGIN_avx512(i) __m512 sum##i = _mm512_set1_ps((float)(i));
#define FLOP_STEP_avx512(i)               \
  sum##i = _mm512_fmadd_ps(sum##i, x, y); \
  __asm__ volatile("" : "+v"(sum##i));
#define FLOP_END_avx512(i) all = _mm512_add_ps(all, sum##i);
DEFINE_FLOP(avx512, __attribute__((target("avx512f"))), __m512, 16, _mm512_set1_ps, EACH_OF_24, 24)
#define FLOP_BEGIN_avx2(i) __m256 sum##i = _mm256_set1_ps((float)(i));
#define FLOP_STEP_avx2(i)                 \
  sum##i = _mm256_fmadd_ps(sum##i, x, y); \
  __asm__ volatile("" : "+x"(sum##i));
#define FLOP_END_avx2(i) all = _mm256_add_ps(all, sum##i);
DEFINE_FLOP(avx2, __attribute__((target("avx2,fma"))), __m256, 8, _mm256_set1_ps, EACH_OF_12, 12)
#elif defined(__aarch64__)
#define FLOP_BEGIN_neon(i) float32x4_t sum##i = vdupq_n_f32((float)(i));
#define FLOP_STEP_neon(i)           \
  sum##i = vfmaq_f32(y, sum##i, x); \
  __asm__ volatile("" : "+w"(sum##i));
#define FLOP_END_neon(i) all = vaddq_f32(all, sum##i);
DEFINE_FLOP(neon, , float32x4_t, 4, vdupq_n_f32, EACH_OF_24, 24)
#endif

typedef float float_x4 __attribute__((vector_size(16)));
#define SET1_PORTABLE(x) ((float_x4){(x), (x), (x), (x)})
#define FLOP_BEGIN_portable(i) float_x4 sum##i = SET1_PORTABLE((float)(i));
#define FLOP_STEP_portable(i) sum##i = sum##i * x + y;
#define FLOP_END_portable(i) all += sum##i;
DEFINE_FLOP(portable, , float_x4, 4, SET1_PORTABLE, EACH_OF_8, 8)

double cpu_roof_flop(int threads, bool quick) {
  share shares[MAX_THREADS] = {{0}};
  void (*body)(share *) = flop_portable;
  double amount = OPERATIONS_portable;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    body = flop_avx2;
    amount = OPERATIONS_avx2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl")) {
      body = flop_avx512;
      amount = OPERATIONS_avx512;
    }
  }
#elif defined(__aarch64__)
  body = flop_neon;
  amount = OPERATIONS_neon;
#endif
  for (int i = 0; i < threads; ++i) shares[i].body = body;
  return best_rate(shares, threads, amount, quick);
}

/* ---- bytes ---- */

static void copy(share *self) {
  for (int64_t i = 0; i < self->rounds; ++i) {
    memcpy(self->to, self->from, self->bytes);
    __asm__ volatile("" : : "r"(self->to) : "memory"); /* each of them is wanted */
  }
}

double cpu_roof_bytes(int threads, int64_t bytes, bool quick) {
  share shares[MAX_THREADS] = {{0}};
  const size_t own = (size_t)bytes / 2 / (size_t)threads / 64 * 64;
  char *memory = NULL;
  if (own == 0) return 0;
  if (posix_memalign((void **)&memory, 4096, 2 * own * (size_t)threads) != 0) cli_out_of_memory();
  memset(memory, 1, 2 * own * (size_t)threads);
  for (int i = 0; i < threads; ++i) {
    shares[i].body = copy;
    shares[i].from = memory + 2 * own * (size_t)i;
    shares[i].to = shares[i].from + own;
    shares[i].bytes = own;
  }
  const double rate = best_rate(shares, threads, 2.0 * (double)own, quick);
  free(memory);
  return rate;
}
