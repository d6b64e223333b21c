/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a launch costs and how fast the solve is.
 *
 *     bench_launch [--pack FILE] [--json FILE]
 *
 * On a GPU: the library's forms beside raw driver calls and TVM FFI's C++ launcher, cold start beside a
 * bare driver program, and the solve's GPU time beside what memory allows. On pega's fake driver: what
 * the host spends before the driver's entry. Without either: "SKIP: reason" and 77.
 */
#include <errno.h>
#include <limits.h>
#include <pega/pega.h>
#include <pega/qwen35.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "launch.h"

void bench_must(CUresult result, const char *call) {
  if (result == 0) return;
  fprintf(stderr, "%s: %s (%d)\n", call, gpu_result_name(result), result);
  exit(1);
}

double bench_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a;
  double y = *(const double *)b;
  return (x > y) - (x < y);
}

void bench_sort(double *values, int count) {
  qsort(values, (size_t)count, sizeof *values, compare);
}

double bench_quantile(const double *sorted, int count, double fraction) {
  return sorted[(int)(fraction * (count - 1) + 0.5)];
}

static int misuse(const char *word) {
  fprintf(stderr, "bench_launch: '%s'? usage: bench_launch [--pack FILE] [--json FILE]\n", word);
  return 2;
}

static void set_part(json_t *all, const char *name, json_t *part) {
  if (part != NULL) json_object_set_new(all, name, part);
}

int main(int argc, char **argv) {
  const char *pack = getenv("PEGA_PACK_PATH");
  const char *json = NULL;
  for (int i = 1; i < argc; i += 2) {
    if (i + 1 == argc) return misuse(argv[i]);
    if (strcmp(argv[i], "--pack") == 0) {
      pack = argv[i + 1];
    } else if (strcmp(argv[i], "--json") == 0) {
      json = argv[i + 1];
    } else {
      return misuse(argv[i]);
    }
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (pack == NULL) pack = "build/kernels/qwen35.pegapack";
  if (access(pack, R_OK) != 0) {
    printf("SKIP: no pack %s: %s; ./dev kernels makes it\n", pack, strerror(errno));
    return 77;
  }
  const char *why = gpu_open();
  if (why != NULL) {
    printf("SKIP: %s\n", why);
    return 77;
  }
  /* The library's built-in solve uses the same pack. */
  setenv("PEGA_PACK_PATH", pack, 1);
  CUcontext context;
  MUST(gpu.primary_retain(&context, 0));
  MUST(gpu.context_set(context));
  char self[PATH_MAX];
  ssize_t size = readlink("/proc/self/exe", self, sizeof self - 1);
  if (size < 0) return 1;
  self[size] = '\0';
  bench_kernel kernel;
  if (!bench_kernel_read(pack, "cuda:0", &kernel)) return 1;
  printf("%s, driver %d.%d; %s for %s, %zu bytes\n", gpu.name, gpu.version / 1000,
         gpu.version % 1000 / 10, kernel.entry, kernel.target, kernel.cubin_size);
  json_t *all =
      json_pack("{s:s, s:i, s:s, s:s, s:b}", "device", gpu.name, "driver", gpu.version, "pega",
                pega_version_string(), "target", kernel.target, "fake_driver", (int)gpu.fake);
  if (all == NULL) return 1;
  set_part(all, "launch", bench_launches(&kernel));
  if (!gpu.fake) {
    set_part(all, "cold_start", bench_cold_start(self, pack, &kernel));
    set_part(all, "solve", bench_solve());
  }
  if (json != NULL && json_dump_file(all, json, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) != 0) {
    fprintf(stderr, "cannot write %s\n", json);
    return 1;
  }
  int parts = (int)json_object_size(all) - 5;
  json_decref(all);
  free(kernel.cubin);
  return parts == (gpu.fake ? 1 : 3) ? 0 : 1;
}
