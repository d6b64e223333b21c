/* SPDX-License-Identifier: Apache-2.0 */
/* Cold start: whole processes take turns, the library's and a bare driver program's: programs of their own,
 * linked with no more than they need. */
#include <inttypes.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "bench_kernel.h"
#include "gpu.h"
#include "installed.h"

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
static bool run_program(program *it, double *whole, double *stage) {
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
  const bool spawned = posix_spawn(&child, words[0], &actions, NULL, words, environ) == 0;
  close(ends[1]);
  if (spawned) {
    if (read(ends[0], text, sizeof text - 1) < 0) text[0] = '\0';
    waitpid(child, &status, 0);
  }
  *whole = (bench_now() - start) / 1e6;
  *stage = strtod(text, NULL) / 1e6;
  close(ends[0]);
  posix_spawn_file_actions_destroy(&actions);
  return spawned && status == 0;
}

/* Installed, or beside this program. */
static bool name_program(program *it, const char *name, const char *file) {
  static const char *const folders[] = {"libexec/pega", "bin"};
  it->name = name;
  for (size_t i = 0; i < sizeof folders / sizeof *folders; ++i) {
    char place[64];
    char path[PATH_MAX];
    (void)snprintf(place, sizeof place, "%s/%s", folders[i], file);
    if (!cli_installed(place, path, sizeof path)) continue;
    add_word(it, path);
    return true;
  }
  return false;
}

static bool describe_driver(program *it, const char *cubin, const bench_kernel *kernel) {
  static const uint64_t in = UINT64_C(1) << 62;
  static const uint64_t out = UINT64_C(1) << 61;
  const bench_args args = {in, out, 64, 1};
  bench_kernel_launch launch;
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

static pega_status unavailable(pega_error *error, const char *reason) {
  return pega_error_set(error, PEGA_ERROR_UNAVAILABLE, NULL, "%s", reason);
}

static void add_case(bench_run *run, const char *from, program *const *programs, int count,
                     bool whole) {
  double ratios[RUNS];
  for (int i = 0; i < count; ++i) {
    ratios[i] = whole ? programs[0]->whole[i] / programs[1]->whole[i]
                      : programs[0]->stage[i] / programs[1]->stage[i];
  }
  bench_sort(ratios, count);
  bench_case_begin(run, json_pack("{s:s}", "from", from), BENCH_ALONE);
  for (int i = 0; i < 2; ++i) {
    bench_way way = {.name = programs[i]->name, .by = i == 0 ? BENCH_OURS : "driver"};
    double *times = whole ? programs[i]->whole : programs[i]->stage;
    bench_sort(times, count);
    bench_add_row(run, &way, BENCH_WALL, times, count,
                  i == 0 ? bench_quantile(ratios, count, 0.5) : 1);
  }
  bench_case_end(run);
}

/* Each takes the other's turn to be first. */
static pega_status take_turns(bench_run *run, program *ours, program *bare, pega_error *error) {
  const int count = run->quick ? 2 : RUNS;
  for (int i = run->quick ? 0 : -WARM_UP_RUNS; i < count; ++i) {
    const int at = i < 0 ? 0 : i;
    program *first = i % 2 == 0 ? ours : bare;
    program *second = first == ours ? bare : ours;
    if (!run_program(first, &first->whole[at], &first->stage[at]) ||
        !run_program(second, &second->whole[at], &second->stage[at])) {
      run->failed = true;
      return unavailable(error, "a program of the cold start fails, or its result is wrong");
    }
  }
  program *const both[] = {ours, bare};
  add_case(run, "process", both, count, true);
  add_case(run, "first result", both, count, false);
  return PEGA_OK;
}

static pega_status measure(bench_run *run, const bench_kernel *kernel, pega_error *error) {
  program *ours = calloc(1, sizeof *ours);
  program *bare = calloc(1, sizeof *bare);
  char cubin[] = "/tmp/pega-cold-start-XXXXXX";
  pega_status status = PEGA_OK;
  if (ours == NULL || bare == NULL) cli_out_of_memory();
  /* One that may begin early need not. */
  if (kernel->cooperative || kernel->cluster[0] > 1) {
    status = unavailable(error, "the solve's kernel is launched with attributes");
  } else if (!name_program(ours, "pega", "cold_start_pega") ||
             !name_program(bare, "driver alone", "cold_start_driver")) {
    status = unavailable(error, "PREFIX/libexec/pega lacks cold_start_pega or cold_start_driver");
  } else if (!write_cubin(cubin, kernel)) {
    status = unavailable(error, "the kernel cannot be written to /tmp");
  } else {
    add_word(ours, run->pack);
    status = describe_driver(bare, cubin, kernel) ? take_turns(run, ours, bare, error)
                                                  : unavailable(error, bench_kernel_problem());
    (void)unlink(cubin);
  }
  free(ours);
  free(bare);
  return status;
}

pega_status bench_cold(bench_run *run, pega_error *error) {
  static const bench_args args = {0, 0, 64, 1}; /* as cold_start_pega calls it */
  bench_kernel kernel;
  if (!bench_kernel_read(run->pack, "cuda:0", &args, &kernel)) {
    return unavailable(error, bench_kernel_problem());
  }
  const pega_status status = measure(run, &kernel, error);
  free(kernel.cubin);
  return status;
}
