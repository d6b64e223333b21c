/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The chunk solve on the CPU, next to OpenBLAS on the same tiles with the same threads.
 *
 * OpenBLAS is opened at run time. Its two ways to the answer are both measured, tile by tile, each
 * tile on one OpenBLAS thread, and the tiles spread over the same threads as ours:
 *   strtri  copy I + A into a 64 x 64 buffer, invert in place, round to bf16
 *   strsm   solve X (I + A) = I with A where it lies, round to bf16
 * Ratios are printed against strtri and against the faster of the two.
 *
 * The methods take turns within one run, so that a busy neighbour hurts all of them; the median of
 * the runs counts. GB/s takes both tensors whole, 6 bytes an entry, though half of the input and
 * nothing more has to be read.
 */
#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/parallel.h"
#include "ops/qwen35/chunk_solve_cpu.h"

enum { WARM_UPS = 3, MAX_RUNS = 1001, TILE_GRAIN = 16, CHECKED_TILES = 64 };

static const int64_t seq_lens[] = {512, 2048, 8192};
enum { NUM_SEQ_LENS = sizeof seq_lens / sizeof seq_lens[0] };

/* ---- OpenBLAS ---- */

/* The last two arguments of each are the hidden lengths of the character arguments. */
typedef void strtri_fn(const char *uplo, const char *diag, const int *n, float *a, const int *lda,
                       int *info, size_t, size_t);
typedef void strsm_fn(const char *side, const char *uplo, const char *trans, const char *diag,
                      const int *m, const int *n, const float *alpha, const float *a,
                      const int *lda, float *b, const int *ldb, size_t, size_t, size_t, size_t);

typedef struct {
  strtri_fn *strtri;
  strsm_fn *strsm;
  const char *config; /* version and kernel set; NULL if not installed */
} openblas;

static openblas open_openblas(void) {
  openblas blas = {0};
  setenv("OPENBLAS_NUM_THREADS", "1", 1);
  void *library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) library = dlopen("libopenblas.so", RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) return blas;

  void (*set_num_threads)(int) = NULL;
  char *(*get_config)(void) = NULL;
  *(void **)&set_num_threads = dlsym(library, "openblas_set_num_threads");
  *(void **)&get_config = dlsym(library, "openblas_get_config");
  *(void **)&blas.strtri = dlsym(library, "strtri_");
  *(void **)&blas.strsm = dlsym(library, "strsm_");
  if (set_num_threads == NULL || blas.strtri == NULL || blas.strsm == NULL) return (openblas){0};
  set_num_threads(1);
  blas.config = get_config == NULL ? "OpenBLAS" : get_config();
  return blas;
}

typedef struct {
  const openblas *blas;
  const float *a_tril;
  uint16_t *a_inv;
  int64_t seq_len;
  int64_t num_value_heads;
} blas_solve;

static void write_rounded(const float *x, int num_rows, uint16_t *out, int64_t stride) {
  for (int i = 0; i < num_rows; i++) {
    /* All 64 columns, the zeros above the diagonal too: a fixed length is what compilers turn into
     * vector code. */
    for (int j = 0; j < 64; j++) {
      uint32_t bits;
      memcpy(&bits, x + i * 64 + j, sizeof bits);
      out[i * stride + j] = (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
    }
  }
}

/* What is lower in rows is upper in the columns that OpenBLAS sees. */
static void strtri_tiles(void *self, int64_t begin, int64_t end) {
  const blas_solve *s = self;
  const int64_t stride = s->num_value_heads * 64;
  for (int64_t tile = begin; tile < end; tile++) {
    const int64_t row = tile / s->num_value_heads * 64;
    const int64_t offset = row * stride + tile % s->num_value_heads * 64;
    const int ld = 64, n = s->seq_len - row < 64 ? (int)(s->seq_len - row) : 64;
    _Alignas(64) float x[64 * 64] = {0};
    for (int i = 0; i < n; i++) {
      memcpy(x + i * 64, s->a_tril + offset + i * stride, (size_t)i * sizeof(float));
      x[i * 64 + i] = 1.0f;
    }
    int info;
    s->blas->strtri("U", "U", &n, x, &ld, &info, 1, 1);
    write_rounded(x, n, s->a_inv + offset, stride);
  }
}

static void strsm_tiles(void *self, int64_t begin, int64_t end) {
  const blas_solve *s = self;
  const int64_t stride = s->num_value_heads * 64;
  for (int64_t tile = begin; tile < end; tile++) {
    const int64_t row = tile / s->num_value_heads * 64;
    const int64_t offset = row * stride + tile % s->num_value_heads * 64;
    const int ld = 64, n = s->seq_len - row < 64 ? (int)(s->seq_len - row) : 64;
    const int lda = (int)stride;
    const float one = 1.0f;
    _Alignas(64) float x[64 * 64] = {0};
    for (int i = 0; i < n; i++) x[i * 64 + i] = 1.0f;
    s->blas->strsm("R", "U", "N", "U", &n, &n, &one, s->a_tril + offset, &lda, x, &ld, 1, 1, 1, 1);
    write_rounded(x, n, s->a_inv + offset, stride);
  }
}

/* ---- Input ---- */

static double uniform(uint64_t *state) {
  uint64_t z = (*state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

typedef struct {
  float *a_tril;
  int64_t num_value_heads;
} input;

/* A[i, j] = beta_i exp(G_i - G_j) k_i . k_j with unit keys in 128 dimensions, each tile from a seed
 * of its own. Entries that must not be read are NaN. */
static void make_tiles(void *self, int64_t begin, int64_t end) {
  const input *in = self;
  for (int64_t tile = begin; tile < end; tile++) {
    const int64_t stride = in->num_value_heads * 64;
    float *a =
        in->a_tril + tile / in->num_value_heads * 64 * stride + tile % in->num_value_heads * 64;
    uint64_t state = (uint64_t)tile * 0x9e3779b97f4a7c15u + 1;
    double beta[64], gate[64], sum = 0;
    float keys[64][128];
    for (int i = 0; i < 64; i++) {
      double norm = 0;
      for (int d = 0; d < 128; d += 2) {
        const double radius = sqrt(-2 * log(1 - uniform(&state)));
        const double angle = 6.283185307179586 * uniform(&state);
        keys[i][d] = (float)(radius * cos(angle));
        keys[i][d + 1] = (float)(radius * sin(angle));
        norm += radius * radius;
      }
      for (int d = 0; d < 128; d++) keys[i][d] /= (float)sqrt(norm);
      beta[i] = uniform(&state);
      gate[i] = sum -= 0.1 * uniform(&state);
    }
    for (int i = 0; i < 64; i++) {
      for (int j = 0; j < 64; j++) {
        float dot = 0;
        for (int d = 0; d < 128; d++) dot += keys[i][d] * keys[j][d];
        const double entry = beta[i] * exp(gate[i] - gate[j]) * (double)dot;
        a[i * stride + j] = j < i ? (float)entry : NAN;
      }
    }
  }
}

/* ---- Measuring ---- */

/* max|x - reference| / max|reference| over some tiles spread over the whole. */
static double max_error(const float *a_tril, const uint16_t *a_inv, int64_t num_tiles,
                        int64_t num_value_heads) {
  double error = 0, scale = 0;
  const int64_t stride = num_value_heads * 64;
  for (int64_t check = 0; check < CHECKED_TILES; check++) {
    const int64_t tile = check * (num_tiles - 1) / (CHECKED_TILES - 1);
    const int64_t offset = tile / num_value_heads * 64 * stride + tile % num_value_heads * 64;
    double x[64][64] = {{0}};
    for (int i = 0; i < 64; i++) {
      x[i][i] = 1;
      for (int j = 0; j < i; j++) {
        const double factor = (double)a_tril[offset + i * stride + j];
        for (int k = 0; k <= j; k++) x[i][k] -= factor * x[j][k];
      }
      for (int j = 0; j < 64; j++) {
        const uint32_t bits = (uint32_t)a_inv[offset + i * stride + j] << 16;
        float got;
        memcpy(&got, &bits, sizeof got);
        const double difference = fabs((double)got - x[i][j]);
        if (!(difference <= error)) error = difference;
        scale = fmax(scale, fabs(x[i][j]));
      }
    }
  }
  return error / scale;
}

static double now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static int compare_doubles(const void *left, const void *right) {
  const double l = *(const double *)left, r = *(const double *)right;
  return (l > r) - (l < r);
}

static double median(double *values, int count) {
  qsort(values, (size_t)count, sizeof *values, compare_doubles);
  return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

typedef struct {
  double pega_us, strtri_us, strsm_us; /* medians; the last two 0 without OpenBLAS */
  double pega_error, strtri_error, strsm_error;
} result;

typedef struct {
  const char *implementation;
  int64_t num_value_heads;
  int num_threads;
  int num_runs;
  bool json;
} options;

static result measure(const options *opt, const openblas *blas, int64_t seq_len,
                      const float *a_tril, uint16_t *a_inv) {
  static double pega[MAX_RUNS], strtri[MAX_RUNS], strsm[MAX_RUNS];
  const int64_t heads = opt->num_value_heads;
  const int64_t num_tiles = (seq_len + 63) / 64 * heads;
  blas_solve s = {blas, a_tril, a_inv, seq_len, heads};
  result r = {0};
  for (int run = -WARM_UPS; run < opt->num_runs; run++) {
    const int slot = run < 0 ? 0 : run;
    double start = now_us();
    pega_qwen35_chunk_solve_cpu_with(opt->implementation, a_tril, a_inv, seq_len, heads,
                                     opt->num_threads);
    pega[slot] = now_us() - start;
    if (run < 0) r.pega_error = max_error(a_tril, a_inv, num_tiles, heads);
    if (blas->config == NULL) continue;

    start = now_us();
    pega_parallel_for(num_tiles, TILE_GRAIN, opt->num_threads, strtri_tiles, &s);
    strtri[slot] = now_us() - start;
    if (run < 0) r.strtri_error = max_error(a_tril, a_inv, num_tiles, heads);

    start = now_us();
    pega_parallel_for(num_tiles, TILE_GRAIN, opt->num_threads, strsm_tiles, &s);
    strsm[slot] = now_us() - start;
    if (run < 0) r.strsm_error = max_error(a_tril, a_inv, num_tiles, heads);
  }
  r.pega_us = median(pega, opt->num_runs);
  if (blas->config != NULL) {
    r.strtri_us = median(strtri, opt->num_runs);
    r.strsm_us = median(strsm, opt->num_runs);
  }
  return r;
}

/* ---- Report ---- */

static void cpu_model(char *model, size_t size) {
  char line[256];
  snprintf(model, size, "unknown");
  FILE *file = fopen("/proc/cpuinfo", "r");
  if (file == NULL) return;
  while (fgets(line, sizeof line, file) != NULL) {
    const char *value = strchr(line, ':');
    if (value == NULL || strncmp(line, "model name", 10) != 0) continue;
    value += 1 + strspn(value + 1, " \t");
    snprintf(model, size, "%.*s", (int)strcspn(value, "\n\"\\"), value);
    break;
  }
  fclose(file);
}

static double gb_per_s(const options *opt, int64_t seq_len, const result *r) {
  return (double)(seq_len * opt->num_value_heads * 64 * 6) / r->pega_us * 1e-3;
}

static double ratio(const result *r) { return fmin(r->strtri_us, r->strsm_us) / r->pega_us; }

static void print_table(const options *opt, const openblas *blas, const char *cpu,
                        const result *results) {
  printf("chunk solve, HV = %" PRId64 ", %d thread%s, %s\n", opt->num_value_heads, opt->num_threads,
         opt->num_threads == 1 ? "" : "s", cpu);
  if (blas->config == NULL) {
    printf("openblas: not installed, left out\n");
  } else {
    printf("openblas: %s\n", blas->config);
  }
  char title[32];
  snprintf(title, sizeof title, "pega %s us", opt->implementation);
  printf("median of %d runs; error = max|x - fp64| / max|fp64|\n\n", opt->num_runs);
  printf("%6s  %16s  %8s  %9s", "T", title, "GB/s", "error");
  if (blas->config != NULL)
    printf("  %9s  %9s  %9s  %9s", "strtri us", "strsm us", "to strtri", "to better");
  printf("\n");
  for (int i = 0; i < NUM_SEQ_LENS; i++) {
    const result *r = &results[i];
    printf("%6" PRId64 "  %16.1f  %8.1f  %9.2e", seq_lens[i], r->pega_us,
           gb_per_s(opt, seq_lens[i], r), r->pega_error);
    if (blas->config != NULL) {
      printf("  %9.1f  %9.1f  %8.1fx  %8.1fx", r->strtri_us, r->strsm_us, r->strtri_us / r->pega_us,
             ratio(r));
    }
    printf("\n");
  }
}

static void print_json(const options *opt, const openblas *blas, const char *cpu,
                       const result *results) {
  printf("{\"benchmark\": \"chunk_solve_cpu\", \"cpu\": \"%s\", \"threads\": %d, ", cpu,
         opt->num_threads);
  printf("\"num_value_heads\": %" PRId64 ", \"implementation\": \"%s\", \"runs\": %d, ",
         opt->num_value_heads, opt->implementation, opt->num_runs);
  if (blas->config == NULL) {
    printf("\"openblas\": null, ");
  } else {
    printf("\"openblas\": \"%s\", ", blas->config);
  }
  printf("\"results\": [");
  for (int i = 0; i < NUM_SEQ_LENS; i++) {
    const result *r = &results[i];
    printf("%s\n  {\"seq_len\": %" PRId64 ", \"pega_us\": %.2f, \"gb_per_s\": %.2f, ",
           i == 0 ? "" : ",", seq_lens[i], r->pega_us, gb_per_s(opt, seq_lens[i], r));
    printf("\"max_error\": %.4e", r->pega_error);
    if (blas->config != NULL) {
      printf(", \"strtri_us\": %.2f, \"strtri_max_error\": %.4e", r->strtri_us, r->strtri_error);
      printf(", \"strsm_us\": %.2f, \"strsm_max_error\": %.4e", r->strsm_us, r->strsm_error);
      printf(", \"ratio_strtri\": %.3f, \"ratio\": %.3f", r->strtri_us / r->pega_us, ratio(r));
    }
    printf("}");
  }
  printf("\n]}\n");
}

/* ---- Command line ---- */

static int usage(FILE *to) {
  fprintf(to,
          "usage: solve_openblas [--json] [--threads N] [--heads HV] [--runs N] "
          "[--implementation NAME]\n"
          "  --threads N            threads for every method (default: the CPUs it may run on)\n"
          "  --heads HV             value heads (default: 32)\n"
          "  --runs N               timed runs, 1 to %d (default: 21)\n"
          "  --implementation NAME  one of:",
          MAX_RUNS);
  for (int i = 0; pega_qwen35_chunk_solve_cpu_name(i) != NULL; i++) {
    fprintf(to, " %s", pega_qwen35_chunk_solve_cpu_name(i));
  }
  fprintf(to, "\n");
  return to == stdout ? EXIT_SUCCESS : 2;
}

static bool parse_int(const char *text, int min, int max, int *out) {
  char *end;
  errno = 0;
  const long value = strtol(text, &end, 10);
  if (errno != 0 || end == text || *end != '\0' || value < min || value > max) return false;
  *out = (int)value;
  return true;
}

static bool is_implementation(const char *name) {
  return pega_qwen35_chunk_solve_cpu_with(name, NULL, NULL, 0, 0, 1) == 0;
}

int main(int argc, char **argv) {
  options opt = {.implementation = pega_qwen35_chunk_solve_cpu_implementation(),
                 .num_threads = pega_parallel_num_threads(INT_MAX, 1, 0),
                 .num_runs = 21};
  int heads = 32;
  for (int i = 1; i < argc; i++) {
    const char *name = argv[i];
    if (strcmp(name, "--help") == 0) return usage(stdout);
    if (strcmp(name, "--json") == 0) {
      opt.json = true;
      continue;
    }
    const char *value = i + 1 < argc ? argv[++i] : "";
    if (strcmp(name, "--threads") == 0) {
      if (parse_int(value, 1, PEGA_PARALLEL_MAX_THREADS, &opt.num_threads)) continue;
    } else if (strcmp(name, "--heads") == 0) {
      if (parse_int(value, 1, 1024, &heads)) continue;
    } else if (strcmp(name, "--runs") == 0) {
      if (parse_int(value, 1, MAX_RUNS, &opt.num_runs)) continue;
    } else if (strcmp(name, "--implementation") == 0) {
      opt.implementation = value;
      if (is_implementation(value)) continue;
    }
    return usage(stderr);
  }
  opt.num_value_heads = heads;

  const int64_t max_seq_len = seq_lens[NUM_SEQ_LENS - 1];
  const size_t count = (size_t)(max_seq_len * opt.num_value_heads * 64);
  float *a_tril = aligned_alloc(64, count * sizeof *a_tril);
  uint16_t *a_inv = aligned_alloc(64, count * sizeof *a_inv);
  if (a_tril == NULL || a_inv == NULL) {
    fprintf(stderr, "solve_openblas: no memory for %zu bytes\n", count * 6);
    free(a_tril);
    free(a_inv);
    return EXIT_FAILURE;
  }
  /* A shorter sequence is the beginning of a longer one, so one input serves them all. */
  input in = {a_tril, opt.num_value_heads};
  pega_parallel_for(max_seq_len / 64 * opt.num_value_heads, 1, opt.num_threads, make_tiles, &in);

  const openblas blas = open_openblas();
  result results[NUM_SEQ_LENS];
  for (int i = 0; i < NUM_SEQ_LENS; i++) {
    results[i] = measure(&opt, &blas, seq_lens[i], a_tril, a_inv);
  }

  char cpu[128];
  cpu_model(cpu, sizeof cpu);
  (opt.json ? print_json : print_table)(&opt, &blas, cpu, results);
  free(a_tril);
  free(a_inv);
  return EXIT_SUCCESS;
}
