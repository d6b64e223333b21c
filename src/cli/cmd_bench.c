/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench_device.h"
#include "bench_peer.h"
#include "bench_scale.h"
#include "kernel_pack.h"

/* Every part, in the order in which they are measured. */
static const bench_part PARTS[] = {
    {"call", "ns", "a no-op through each boundary", false, true, bench_call},
    {"launch", "ns", "a launch of the chunk solve, prepared", true, true, bench_launch},
    {"cold", "ms", "a process from its start, and from its context to its first result", true, true,
     bench_cold},
    {"scale", "us", "packs of ever more functions, launches by ever more threads", false, false,
     bench_scale},
    {"solve", "us", "the chunk solve", true, false, bench_solve},
    {"stages", "us", "the stages of the prefill, each alone", true, false, bench_stages},
    {"prefill", "us", "the gated delta rule's prefill", true, false, bench_prefill},
    {"decode", "us", "the gated delta rule's decode step", true, false, bench_decode},
    {"cpu", "us", "the functions on CPU tensors", false, false, bench_cpu},
};
enum { NUM_PARTS = sizeof PARTS / sizeof PARTS[0] };

static const bench_part *find_part(const char *name) {
  for (int i = 0; i < NUM_PARTS; ++i) {
    if (strcmp(PARTS[i].name, name) == 0) return &PARTS[i];
  }
  return NULL;
}

/* ---- what a part needs ---- */

/* What the GPU's parts share, opened by the first of them. */
typedef struct needs {
  bool tried;
  char reason[1024]; /* why there is none of it, or "" */
  char *pack;        /* owned */
} needs;

static bool take_first(void *self, const char *path) {
  char **out = self;
  *out = strdup(path);
  if (*out == NULL) cli_out_of_memory();
  return false;
}

/* The pack whose kernels are measured: --pack, else the first that PEGA_PACK_PATH names, else libpega's. */
static bool find_pack(bench_run *run, needs *it) {
  if (run->options->pack != NULL) {
    it->pack = strdup(run->options->pack);
    if (it->pack == NULL) cli_out_of_memory();
  } else {
    cli_pack_path_each(take_first, &it->pack);
  }
  run->pack = it->pack;
  if (it->pack == NULL && pega_pack_embedded(NULL) == NULL) {
    (void)snprintf(it->reason, sizeof it->reason,
                   "no pack with kernels: give --pack PACK, or name one in " CLI_PACK_PATH
                   " (./dev kernels makes build/kernels/qwen35.pegapack)");
    return false;
  }
  return true;
}

static bool open_device(bench_run *run, needs *it) {
  pega_error error = PEGA_ERROR_INIT;
  double rate = 0;
  const char *why = gpu_open();
  if (why != NULL) {
    (void)snprintf(it->reason, sizeof it->reason, "%s", why);
    return false;
  }
  run->fake = gpu.fake;
  pega_status status = bench_device_open(&run->device, &error);
  if (status == PEGA_OK) {
    status =
        bench_device_copy_rate(run->device, (int64_t)(run->quick ? 1 : 1024) << 20, &rate, &error);
  }
  if (status == PEGA_OK) {
    bench_floor_set(gpu.name, rate);
    bench_report_device(run, gpu.name, rate);
    if (run->text) {
      const json_t *told = json_object_get(json_object_get(run->report, "machine"), "gpu");
      (void)printf("\n%s, driver %s; a copy on the device moves %.2f TB/s\n", gpu.name,
                   cli_member_text(told, "driver"), rate / 1e12);
      if (gpu.fake) {
        (void)puts("It is the fake driver, where no kernel runs: times of the GPU mean nothing.");
      }
    }
  } else {
    run->failed = true;
    (void)snprintf(it->reason, sizeof it->reason, "%s", pega_error_message(&error));
  }
  pega_error_clear(&error);
  return status == PEGA_OK;
}

/* Whether the GPU's parts can be measured; else it->reason says why not. */
static bool have_gpu(bench_run *run, needs *it) {
  if (!it->tried) {
    it->tried = true;
    if (open_device(run, it)) (void)find_pack(run, it);
  }
  if (run->device != NULL) bench_device_enter(run->device);
  return it->reason[0] == '\0';
}

/* ---- a run ---- */

/* Where it does not replace the file it only shows that it could be written. */
static pega_status keep(const bench_run *run, bool replace, pega_error *error) {
  const char *path = run->options->json_path;
  cli_json_set(run->report, "peers", bench_peers_report(run->peers));
  if (path == NULL || strcmp(path, "-") == 0) return PEGA_OK;
  /* Beside it first: whoever reads it, and a run that ends here, has one whole document or the other. */
  struct stat info;
  const bool plain = stat(path, &info) != 0 || S_ISREG(info.st_mode);
  char *beside = NULL;
  if (!plain && !replace) return PEGA_OK;
  if (asprintf(&beside, "%s%s", path, plain ? ".part" : "") < 0) cli_out_of_memory();
  const bool good =
      json_dump_file(run->report, beside, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) == 0 &&
      (!plain || !replace || rename(beside, path) == 0);
  if (plain && !(good && replace)) (void)unlink(beside);
  free(beside);
  if (good) return PEGA_OK;
  return pega_error_set(error, PEGA_ERROR_IO, NULL, "bench: cannot write %s", path);
}

pega_status bench_keep(const bench_run *run, pega_error *error) { return keep(run, true, error); }

/* Measures a part and prints it; with why it could not be measured, as an error. */
static pega_status measure_part(bench_run *run, const bench_part *part, needs *needed,
                                pega_error *error) {
  if (part->gpu && !have_gpu(run, needed)) {
    bench_add_left_out_part(run, part->name, needed->reason);
    return pega_error_set(error, PEGA_ERROR_UNAVAILABLE, NULL, "bench: %s cannot be measured: %s",
                          part->name, needed->reason);
  }
  json_t *told = json_object();
  const double start = bench_now();
  cli_json_set(told, "name", json_string(part->name));
  cli_json_set(told, "clocks_before", part->gpu ? bench_clocks() : json_null());
  run->part = part->name;
  run->unit = part->unit;
  const pega_status status = part->measure(run, error);
  cli_json_set(told, "clocks_after", part->gpu ? bench_clocks() : json_null());
  cli_json_set(told, "seconds", json_real((bench_now() - start) * 1e-9));
  cli_json_append(json_object_get(run->report, "parts"), told);
  if (status != PEGA_OK) bench_add_left_out_part(run, part->name, pega_error_message(error));
  if (run->text) bench_print_part(run, part);
  return status;
}

static bool is_asked(const cli_options *options, const char *part) {
  for (int i = 0; i < options->num_args; ++i) {
    if (strcmp(options->args[i], part) == 0) return true;
  }
  return options->num_args == 0;
}

static cli_exit measure_parts(bench_run *run, pega_error *error) {
  const cli_options *options = run->options;
  needs needed = {false, "", NULL};
  bool good = true;
  for (int i = 0; i < NUM_PARTS; ++i) {
    pega_error failure = PEGA_ERROR_INIT;
    if (!is_asked(options, PARTS[i].name)) continue;
    pega_status status = measure_part(run, &PARTS[i], &needed, &failure);
    /* What is merely not there is no failure, unless it was asked for. */
    if (status == PEGA_ERROR_UNAVAILABLE && options->num_args == 0) {
      status = PEGA_OK;
      pega_error_clear(&failure);
    }
    const pega_status kept = bench_keep(run, status == PEGA_OK ? &failure : NULL);
    if (status == PEGA_OK) status = kept;
    if (status != PEGA_OK && good) pega_error_copy(&failure, error);
    good = good && status == PEGA_OK;
    pega_error_clear(&failure);
  }
  bench_device_close(run->device);
  free(needed.pack);
  if (!run->text) cli_print_json(json_incref(run->report));
  return good && !run->failed ? CLI_DONE : CLI_FAILED;
}

cli_exit cli_bench(const cli_options *options, pega_error *error) {
  bench_run run;
  for (int i = 0; i < options->num_args; ++i) {
    if (find_part(options->args[i]) == NULL) {
      return cli_misuse(error, "bench: no benchmark \"%.100s\"; `pega bench --help` lists them",
                        options->args[i]);
    }
  }
  /* The library's built-in functions take their kernels from there. */
  if (options->pack != NULL) (void)setenv(CLI_PACK_PATH, options->pack, 1);
  memset(&run, 0, sizeof run);
  run.options = options;
  run.quick = options->quick;
  run.text = options->json_path == NULL || strcmp(options->json_path, "-") != 0;
  run.report = bench_report_begin(&run);
  run.peers = bench_peers_create(options);
  /* Before hours are spent for nothing. */
  if (keep(&run, false, error) != PEGA_OK) {
    bench_peers_free(run.peers);
    json_decref(run.report);
    return CLI_FAILED;
  }
  if (run.text && run.quick) {
    (void)puts(
        "quick: few samples of small sizes, which tell that it works and not how fast it is");
  }
  const cli_exit code = measure_parts(&run, error);
  bench_peers_free(run.peers);
  json_decref(run.report);
  return code;
}
