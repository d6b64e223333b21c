/* SPDX-License-Identifier: Apache-2.0 */
/* Cold start: whole processes take turns, the library's and a bare driver program's. */
#include <inttypes.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launch.h"

enum { RUNS = 15, WARM_UP_RUNS = 2, MAX_WORDS = 32, TEXT = 4200 };

extern char **environ;

typedef struct program {
  const char *name;
  char words[MAX_WORDS][TEXT];
  int num_words;
  double whole[RUNS]; /* ms, from spawn to exit */
  double stage[RUNS]; /* ms, from having a context to the result, as the program says */
} program;

static void add_word(program *it, const char *text) {
  snprintf(it->words[it->num_words++], TEXT, "%s", text);
}

static void add_number(program *it, uint64_t number) {
  snprintf(it->words[it->num_words++], TEXT, "%" PRIu64, number);
}

/* One process; false if it did not end well. */
static bool run(program *it, double *whole, double *stage) {
  char *words[MAX_WORDS + 1] = {NULL};
  int ends[2];
  for (int i = 0; i < it->num_words; ++i) words[i] = it->words[i];
  if (pipe(ends) != 0) return false;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
  posix_spawn_file_actions_addclose(&actions, ends[0]);
  posix_spawn_file_actions_addclose(&actions, ends[1]);
  pid_t child;
  int status = -1;
  char text[64] = "";
  const double start = bench_now();
  bool spawned = posix_spawn(&child, words[0], &actions, NULL, words, environ) == 0;
  close(ends[1]);
  if (spawned) {
    if (read(ends[0], text, sizeof text - 1) < 0) text[0] = '\0';
    waitpid(child, &status, 0);
  }
  *whole = (bench_now() - start) / 1e6;
  *stage = strtod(text, NULL) / 1e6;
  close(ends[0]);
  posix_spawn_file_actions_destroy(&actions);
  if (!spawned || status != 0) printf("%s: wait status 0x%x\n", words[0], (unsigned)status);
  return spawned && status == 0;
}

/* The program of this name beside this one. */
static void name_program(program *it, const char *self, const char *name) {
  char path[TEXT];
  snprintf(path, sizeof path, "%s", self);
  char *slash = strrchr(path, '/');
  const size_t folder = slash == NULL ? 0 : (size_t)(slash - path) + 1;
  snprintf(path + folder, sizeof path - folder, "%s", name);
  it->name = name;
  add_word(it, path);
}

static bool describe_driver(program *it, const char *cubin, const bench_kernel *kernel) {
  static const uint64_t in = UINT64_C(1) << 62;
  static const uint64_t out = UINT64_C(1) << 61;
  const bench_args args = {in, out, 64, 1};
  bench_launch launch;
  if (!bench_launch_make(kernel, &args, &launch)) return false;
  add_word(it, cubin);
  add_word(it, kernel->entry);
  for (int i = 0; i < 3; ++i) add_number(it, launch.grid[i]);
  for (int i = 0; i < 3; ++i) add_number(it, kernel->block[i]);
  add_number(it, kernel->shared);
  for (int i = 0; i < kernel->num_params; ++i) {
    if (launch.storage[i] == in || launch.storage[i] == out) {
      add_word(it, launch.storage[i] == in ? "in" : "out");
    } else {
      add_number(it, launch.storage[i]);
    }
  }
  return true;
}

static bool write_cubin(char *path, const bench_kernel *kernel) {
  int file = mkstemp(path);
  if (file < 0) return false;
  bool good = write(file, kernel->cubin, kernel->cubin_size) == (ssize_t)kernel->cubin_size;
  close(file);
  return good;
}

static json_t *describe(const char *label, double ours[RUNS], double bare[RUNS], double *ratio) {
  bench_sort(ours, RUNS);
  bench_sort(bare, RUNS);
  const double mine = bench_quantile(ours, RUNS, 0.5);
  const double other = bench_quantile(bare, RUNS, 0.5);
  *ratio = mine / other;
  printf("  %-36s %9.3f %9.3f to %-9.3f %9.3f %9.3f to %-9.3f %9.3f\n", label, mine,
         bench_quantile(ours, RUNS, 0.1), bench_quantile(ours, RUNS, 0.9), other,
         bench_quantile(bare, RUNS, 0.1), bench_quantile(bare, RUNS, 0.9), *ratio);
  return json_pack("{s:f, s:f, s:f}", "pega_ms", mine, "driver_ms", other, "ratio", *ratio);
}

json_t *bench_cold_start(const char *self, const char *pack, const bench_kernel *kernel) {
  static program ours;
  static program bare;
  char cubin[] = "/tmp/pega-cold-start-XXXXXX";
  if (kernel->pdl || kernel->cooperative || kernel->cluster[0] > 1) {
    printf("left out: cold start: the kernel is launched with attributes\n");
    return NULL;
  }
  name_program(&ours, self, "cold_start_pega");
  add_word(&ours, pack);
  name_program(&bare, self, "cold_start_driver");
  if (!write_cubin(cubin, kernel) || !describe_driver(&bare, cubin, kernel)) return NULL;
  bool good = true;
  for (int i = -WARM_UP_RUNS; i < RUNS && good; ++i) {
    const int at = i < 0 ? 0 : i;
    program *first = i % 2 == 0 ? &ours : &bare;
    program *second = first == &ours ? &bare : &ours;
    good = run(first, &first->whole[at], &first->stage[at]) &&
           run(second, &second->whole[at], &second->stage[at]);
  }
  unlink(cubin);
  if (!good) return NULL;
  double ratio;
  printf("\ncold start, ms (median and p10 to p90 of %d processes each, by turns)\n", RUNS);
  printf("  %-36s %9s %22s %9s %22s %9s\n", "", "pega", "", "driver", "", "ratio");
  json_t *whole = describe("process start to end", ours.whole, bare.whole, &ratio);
  json_t *stage = describe("context there to first result", ours.stage, bare.stage, &ratio);
  return json_pack("{s:o, s:o, s:i}", "process", whole, "stage", stage, "runs", RUNS);
}
