/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `pega bench` on the fake driver: the document, peers of every kind, and that a wrong result is not timed. GPU
 * times mean nothing there and none is looked at.
 */
#include <sys/stat.h>
#include <unistd.h>

#include "support.h"

static char *fake;      /* "LD_LIBRARY_PATH=..." of the fake driver */
static char *computing; /* of the one that is taken for a real one */
static char *useless;   /* of a driver that cannot be used */
static char *stub;      /* the peer */
static char *schema;    /* the script that compares a document with its schema */
static bool has_pack;

#define DOCUMENT "out.json"

#define need_pack() \
  if (!has_pack) skip()

static json_t *document(void) {
  json_error_t problem;
  json_t *object = json_load_file(DOCUMENT, JSON_REJECT_DUPLICATES, &problem);
  if (object == NULL) fail_msg("%s: %s", DOCUMENT, problem.text);
  assert_int_equal(json_integer_value(json_at(object, "schema_version")), 1);
  assert_int_equal(remove(DOCUMENT), 0);
  return object;
}

/* Rows of a part and name, or of any where NULL, that were measured or left out. */
static int count_rows(json_t *object, const char *part, const char *name, bool measured) {
  size_t i = 0;
  int count = 0;
  json_t *row = NULL;
  json_array_foreach(json_at(object, "rows"), i, row) {
    if (part != NULL && strcmp(json_text_at(row, "part"), part) != 0) continue;
    if (name != NULL && strcmp(json_text_at(row, "name"), name) != 0) continue;
    if (measured == (json_at(row, "median") != NULL)) ++count;
  }
  return count;
}

static json_t *first_row(json_t *object, const char *part, const char *name) {
  size_t i = 0;
  json_t *row = NULL;
  json_array_foreach(json_at(object, "rows"), i, row) {
    if (strcmp(json_text_at(row, "part"), part) == 0 &&
        strcmp(json_text_at(row, "name"), name) == 0) {
      return row;
    }
  }
  fail_msg("no row %s of %s", name, part);
  return NULL;
}

/* The stub under a name that says what it does. */
static const char *peer(const char *behaviour) {
  static char path[4][64];
  static int which;
  char *own = path[which++ % 4];
  (void)snprintf(own, sizeof path[0], "./%s", behaviour);
  (void)unlink(own);
  assert_int_equal(symlink(stub, own), 0);
  return own;
}

/* ---- the document ---- */

static void test_document(void **state) {
  (void)state;
  static const char *const parts[] = {"call",   "launch",  "cold",  "solve",
                                      "stages", "prefill", "decode"};
  need_pack();
  const run_how how = {fake, NULL};
  expect(run_with(&how, "bench", "--quick", "--peers", peer("honest"), "--json", DOCUMENT), 0,
         "GPU mean nothing", NULL);
  if (schema != NULL) {
    char command[8192];
    (void)snprintf(command, sizeof command, "%s " DOCUMENT, schema);
    assert_int_equal(system(command), 0);
  }
  json_t *object = document();
  assert_true(json_is_true(json_at(object, "quick")));
  assert_true(json_is_true(json_at(object, "machine.gpu.fake")));
  assert_true(json_number_value(json_at(object, "machine.gpu.copy_bytes_per_second")) > 0);
  assert_int_equal(json_array_size(json_at(object, "left_out")), 0);
  for (size_t i = 0; i < sizeof parts / sizeof *parts; ++i) {
    size_t k = 0;
    bool told = false;
    json_t *part = NULL;
    json_array_foreach(json_at(object, "parts"), k, part) {
      told = told || strcmp(json_text_at(part, "name"), parts[i]) == 0;
    }
    assert_true(told);
    assert_true(count_rows(object, parts[i], NULL, true) >= 2);
  }
  /* Every implementation, by the names that `pega explain` has; what does not fit with why. */
  assert_true(json_is_true(json_at(first_row(object, "prefill", "triton_fused"), "default")));
  assert_true(json_at(first_row(object, "prefill", "cuda_recurrent"), "default") == NULL);
  assert_int_equal(count_rows(object, "prefill", "triton_chunked", true),
                   2 * 5 + 1); /* a brief one */
  assert_int_equal(count_rows(object, "prefill", "triton_chunked, projected", true), 2 * 5);
  assert_int_equal(count_rows(object, "prefill", "triton_stages", false), 3);
  assert_int_equal(count_rows(object, "stages", "triton", true), 7 * 3);
  assert_int_equal(count_rows(object, "decode", "cuda", true), 2 * 4);
  assert_true(json_is_true(json_at(first_row(object, "decode", "cuda"), "rotated")));
  assert_true(count_rows(object, "launch", NULL, true) >= 6);
  assert_int_equal(count_rows(object, "cold", NULL, true), 4);
  size_t i = 0;
  json_t *row = NULL;
  json_array_foreach(json_at(object, "rows"), i, row) {
    if (json_at(row, "median") == NULL) {
      assert_true(strlen(json_text_at(row, "left_out")) > 0);
      continue;
    }
    assert_true(json_number_value(json_at(row, "low")) <=
                json_number_value(json_at(row, "median")));
    assert_true(json_number_value(json_at(row, "high")) >=
                json_number_value(json_at(row, "median")));
    assert_true(json_integer_value(json_at(row, "samples")) >= 2);
    assert_true(json_at(row, "floor") != NULL);
  }
  json_decref(object);
}

static void test_to_stdout(void **state) {
  (void)state;
  json_t *object = expect_json(run("bench", "call", "--batches", "3", "--json", "-"), 0);
  assert_int_equal(json_array_size(json_at(object, "rows")), 10);
  json_decref(object);
  object = expect_json(run("bench", "call", "--quick", "--peers", "none", "--peers", "./x y",
                           "--batches", "4", "--json", "-"),
                       0);
  assert_string_equal(json_text_at(object, "command"),
                      "pega bench call --quick --peers none --peers ./x y --batches 4");
  assert_true(json_is_null(json_at(object, "choices")));
  json_decref(object);
  expect(run("bench", "call", "--quick", "--peers", "none", "--json", "/none/out.json"), 1, NULL,
         "cannot write /none/out.json");
  /* It takes the place of what was there at once; another link to that has what it had. */
  write_file("kept.json", "what was there", 14);
  assert_int_equal(link("kept.json", "link.json"), 0);
  expect(run("bench", "call", "--quick", "--peers", "none", "--json", "kept.json"), 0, "five ints",
         NULL);
  struct stat was;
  assert_int_equal(stat("link.json", &was), 0);
  assert_int_equal(was.st_size, 14);
  assert_int_not_equal(access("kept.json.part", F_OK), 0);
}

/* What prefills were chosen by. */
static void test_choices(void **state) {
  (void)state;
  static const struct {
    const char *list;
    const char *told; /* or NULL */
  } cases[] = {{"PEGA_CHOICES=/a folder/of/h100.json", "h100.json"},
               {"PEGA_CHOICES=:a/b.json::c.json:/d/e/f.json:", "b.json:c.json:f.json"},
               {"PEGA_CHOICES=", NULL},
               {"PEGA_CHOICES=::", NULL}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
    const run_how how = {cases[i].list, NULL};
    char command[256] = "pega bench call --quick --peers none";
    expect(run_with(&how, "bench", "call", "--quick", "--peers", "none", "--json", DOCUMENT), 0,
           "five ints", NULL);
    if (schema != NULL) {
      char check[8192];
      (void)snprintf(check, sizeof check, "%s " DOCUMENT, schema);
      assert_int_equal(system(check), 0);
    }
    json_t *object = document();
    if (cases[i].told == NULL) {
      assert_true(json_is_null(json_at(object, "choices")));
    } else {
      assert_string_equal(json_text_at(object, "choices"), cases[i].told);
      (void)snprintf(command, sizeof command,
                     "PEGA_CHOICES=%s pega bench call --quick --peers none", cases[i].told);
    }
    assert_string_equal(json_text_at(object, "command"), command);
    json_decref(object);
  }
}

static void test_no_gpu(void **state) {
  (void)state;
  const run_how how = {useless, NULL};
  /* Whatever cannot be measured is told, and is no failure, */
  expect(run_with(&how, "bench", "--quick", "--peers", "none", "--json", DOCUMENT), 0,
         "left out: prefill: ", NULL);
  json_t *object = document();
  assert_true(json_is_null(json_at(object, "machine.gpu")));
  assert_int_equal(json_array_size(json_at(object, "left_out")), 6);
  assert_string_equal(json_text_at(object, "left_out.0.part"), "launch");
  assert_non_null(strstr(json_text_at(object, "left_out.0.reason"), "no driver that can be used"));
  assert_true(count_rows(object, "call", NULL, true) >= 4);
  json_decref(object);
  /* unless it was asked for. */
  expect(run_with(&how, "bench", "decode", "call", "--quick", "--peers", "none"), 1, "five ints",
         "bench: decode cannot be measured: libcuda.so.1 is no driver");
}

static void test_no_pack(void **state) {
  (void)state;
  const run_how how = {fake, NULL};
  const char *packs = getenv("PEGA_PACK_PATH");
  char *kept = packs == NULL ? NULL : strdup(packs);
  assert_int_equal(unsetenv("PEGA_PACK_PATH"), 0);
  run_result result =
      run_with(&how, "bench", "solve", "--quick", "--peers", "none", "--json", DOCUMENT);
  json_t *object = document();
  if (result.code == 1) { /* a libpega that carries kernels needs none */
    assert_non_null(strstr(json_text_at(object, "left_out.0.reason"), "--pack PACK"));
  }
  run_free(&result);
  json_decref(object);
  if (kept == NULL) return;
  expect(run_with(&how, "bench", "solve", "--quick", "--peers", "none", "--pack", kept), 0,
         "T = 256, HV 32", NULL);
  assert_int_equal(setenv("PEGA_PACK_PATH", kept, 1), 0);
  free(kept);
}

/* ---- right or wrong ---- */

static void test_right(void **state) {
  (void)state;
  need_pack();
  const run_how how = {computing, NULL};
  expect(run_with(&how, "bench", "solve", "--quick", "--peers", "none", "--json", DOCUMENT), 0,
         "triton", NULL);
  json_t *object = document();
  assert_true(json_is_false(json_at(object, "machine.gpu.fake")));
  const double error =
      json_number_value(json_at(first_row(object, "solve", "triton"), "error.max"));
  assert_true(error >= 0 && error < 1e-3);
  /* Of it nearly all is the rounding's: it computes in fp32. */
  const double rounding =
      json_number_value(json_at(first_row(object, "solve", "triton"), "error.rounding"));
  const double past =
      json_number_value(json_at(first_row(object, "solve", "triton"), "error.past_rounding"));
  assert_true(rounding > 4e-4 && rounding <= error);
  assert_true(past >= 0 && past < 1e-5);
  assert_int_equal(count_rows(object, NULL, NULL, false), 0);
  json_decref(object);
  /* Launches of the solve are right; those of kernels that compute nothing are not timed. */
  expect(run_with(&how, "bench", "launch", "--quick", "--peers", "none", "--json", DOCUMENT), 1,
         "wrong: its output", NULL);
  object = document();
  assert_int_equal(count_rows(object, "launch", "raw form", true), 1);
  assert_int_equal(count_rows(object, "launch", "a stage, 7 tensors", true), 0);
  assert_int_equal(count_rows(object, "launch", "a decode step, 7 tensors", true), 0);
  assert_int_equal(count_rows(object, "launch", "a plan of the decode step", true), 0);
  assert_int_equal(count_rows(object, "launch", NULL, false), 3);
  json_decref(object);
}

static void test_wrong(void **state) {
  (void)state;
  need_pack();
  const run_how how = {computing, NULL};
  assert_int_equal(setenv("PEGA_TEST_WRONG", "1", 1), 0);
  expect(
      run_with(&how, "bench", "solve", "launch", "--quick", "--peers", "none", "--json", DOCUMENT),
      1, "wrong: its output", NULL);
  json_t *object = document();
  assert_int_equal(count_rows(object, NULL, NULL, true), 0);
  json_decref(object);
  /* A chunk between the first and the last. */
  assert_int_equal(setenv("PEGA_TEST_WRONG", "middle", 1), 0);
  expect(run_with(&how, "bench", "solve", "--quick", "--peers", "none"), 1, "wrong: its output",
         NULL);
  assert_int_equal(unsetenv("PEGA_TEST_WRONG"), 0);
}

/* A kernel that does nothing is the fastest of all. */
static void test_nothing_done(void **state) {
  (void)state;
  need_pack();
  const run_how how = {computing, NULL};
  expect(run_with(&how, "bench", "stages", "prefill", "decode", "--quick", "--peers", "none",
                  "--json", DOCUMENT),
         1, "wrong: its ", NULL);
  json_t *object = document();
  size_t i = 0;
  json_t *row = NULL;
  json_array_foreach(json_at(object, "rows"), i, row) {
    /* The solve alone computes, and so it does in the stages. */
    const char *stage = json_string_value(json_at(row, "case.stage"));
    if (stage != NULL && strcmp(stage, "solve") == 0) continue;
    assert_null(json_at(row, "median"));
  }
  json_decref(object);
}

/* ---- peers ---- */

static void test_honest_peer(void **state) {
  (void)state;
  need_pack();
  const run_how how = {fake, NULL};
  expect(run_with(&how, "bench", "solve", "--quick", "--peers", peer("honest"), "--json", DOCUMENT),
         0, "peer / ours", NULL);
  json_t *object = document();
  assert_string_equal(json_text_at(object, "peers.0.name"), "The honest");
  assert_string_equal(json_text_at(object, "peers.0.version"), "1.2");
  assert_null(json_at(object, "peers.0.left_out"));
  /* Of graph, row and eager all but the last; the others are measured all the same. */
  assert_int_equal(count_rows(object, "solve", "fast", true), 2);
  assert_int_equal(count_rows(object, "solve", "fast", false), 1);
  assert_int_equal(count_rows(object, "solve", "slow", true), 2);
  assert_int_equal(count_rows(object, "solve", "triton", true), 3);
  json_t *row = first_row(object, "solve", "fast");
  assert_string_equal(json_text_at(row, "by"), "The honest");
  assert_true(json_is_true(json_at(row, "rotated")));
  assert_true(json_real_value(json_at(row, "error.output")) == 0.001);
  assert_null(json_at(row, "error.what"));
  assert_null(json_at(first_row(object, "solve", "slow"), "error"));
  assert_true(json_number_value(json_at(row, "floor")) > 0);
  json_decref(object);
  /* A part that a peer does not know is none of its business. */
  expect(
      run_with(&how, "bench", "stages", "--quick", "--peers", peer("honest"), "--json", DOCUMENT),
      0, "stages", NULL);
  object = document();
  assert_int_equal(count_rows(object, "stages", "fast", true), 0);
  json_decref(object);
}

/* Of functions and of threads a table each; beside ours the driver alone, launching as many. */
static void test_scale(void **state) {
  (void)state;
  need_pack();
  const run_how how = {fake, NULL};
  expect(run_with(&how, "bench", "scale", "--quick", "--peers", "none"), 0,
         "\n  launches/s  launches of the chunk solve  launches, a function of its own each  "
         "cuLaunchKernelEx alone\n  threads 1 ",
         NULL);
  expect(run_with(&how, "bench", "scale", "--quick", "--peers", "none", "--json", DOCUMENT), 0,
         "\n  functions 100 ", NULL);
  json_t *object = document();
  json_t *row = first_row(object, "scale", "cuLaunchKernelEx alone");
  assert_string_equal(json_text_at(row, "by"), "driver");
  assert_int_equal(count_rows(object, "scale", "cuLaunchKernelEx alone", true), 5);
  assert_int_equal(count_rows(object, "scale", "launches of the chunk solve", true), 5);
  json_decref(object);
}

/* A peer that launches by its own means is told of the kernel that pega launches. */
static void test_told_of_the_kernel(void **state) {
  (void)state;
  need_pack();
  const run_how how = {fake, NULL};
  expect(
      run_with(&how, "bench", "launch", "--quick", "--peers", peer("launches"), "--json", DOCUMENT),
      0, "  launcher  ", NULL);
  json_t *object = document();
  assert_int_equal(count_rows(object, "launch", "launcher", true), 1);
  json_decref(object);
}

/* Ours and a peer's are judged on the same inputs, by pega. */
static void test_same_data(void **state) {
  (void)state;
  need_pack();
  const run_how how = {fake, NULL};
  expect(
      run_with(&how, "bench", "prefill", "--quick", "--peers", peer("zeros"), "--json", DOCUMENT),
      0, "wrong: on the inputs that all get its output is off by 1.00e+00, its state by 1.00e+00",
      NULL);
  if (schema != NULL) {
    char command[8192];
    (void)snprintf(command, sizeof command, "%s " DOCUMENT, schema);
    assert_int_equal(system(command), 0);
  }
  json_t *object = document();
  assert_int_equal(count_rows(object, "prefill", "zero", true), 0);
  assert_int_equal(count_rows(object, "prefill", "zero", false), 2 * 5 + 1);
  json_t *row = first_row(object, "prefill", "triton_chunked");
  assert_int_equal(json_integer_value(json_at(row, "same_data.sequences")), 1);
  assert_int_equal(json_integer_value(json_at(row, "same_data.tokens")), 40);
  assert_true(json_at(row, "same_data.output_rms") != NULL);
  assert_null(json_at(first_row(object, "prefill", "triton_chunked, projected"), "same_data"));
  json_decref(object);
  expect(
      run_with(&how, "bench", "prefill", "--quick", "--peers", peer("short"), "--json", DOCUMENT),
      0, "wrong: it left no result of the size that its small case has", NULL);
  assert_int_equal(remove(DOCUMENT), 0);
}

static void test_bad_peers(void **state) {
  (void)state;
  need_pack();
  static const struct {
    const char *behaviour;
    const char *reason;
    int rows; /* that are left out of the part: with the case */
  } bad[] = {
      {"aborts", "it died of signal 6", 0},
      {"nonsense", "its answer is no JSON object: hello to you, too", 0},
      {"nameless", "it does not say its name", 0},
      {"impostor", "another has its name, pega", 1},
      {"absent", "No module named 'absent'", 0},
      {"deaf", "signal 9", 1},
      {"exits", "it ended with exit status 3", 1},
      {"floods", "an answer of more than 65536 bytes in one line", 1},
      {"chatters", "it answered more than one line", 1},
      {"vague", "has neither names nor", 1},
      {"negative", "its times of \"fast\" cannot be", 6},
      {"boasts", "its times of \"fast\" cannot be", 6},
      {"strings", "its times of \"fast\" cannot be", 6},
      {"generous", "its times of \"fast\" cannot be", 6},
  };
  const run_how how = {fake, NULL};
  assert_int_equal(setenv("PEGA_BENCH_PEER_SECONDS", "2", 1), 0);
  for (size_t i = 0; i < sizeof bad / sizeof *bad; ++i) {
    /* One that behaves comes behind it, and is measured. */
    run_result result =
        run_with(&how, "bench", "solve", "--quick", "--peers", peer(bad[i].behaviour), "--peers",
                 peer("honest"), "--json", DOCUMENT);
    if (result.code != 0 || strstr(result.err, bad[i].reason) == NULL) {
      fail_msg("%s: exit code %d, stderr: %s", bad[i].behaviour, result.code, result.err);
    }
    run_free(&result);
    json_t *object = document();
    assert_non_null(strstr(json_text_at(object, "peers.0.left_out"), bad[i].reason));
    assert_null(json_at(object, "peers.1.left_out"));
    assert_int_equal(count_rows(object, "solve", "triton", true), 3);
    assert_int_equal(count_rows(object, "solve", NULL, true), 3 + 4);
    /* And the two that an honest one leaves out. */
    assert_int_equal(count_rows(object, "solve", NULL, false), bad[i].rows + 2);
    json_decref(object);
  }
  assert_int_equal(unsetenv("PEGA_BENCH_PEER_SECONDS"), 0);
}

/* Who takes too long in one case starts again for the next; who does again and again does no
 * more. */
static void test_slow_peer(void **state) {
  (void)state;
  need_pack();
  const run_how how = {fake, NULL};
  assert_int_equal(setenv("PEGA_BENCH_PEER_SECONDS", "1", 1), 0);
  run_result result =
      run_with(&how, "bench", "decode", "--quick", "--peers", peer("stalls"), "--json", DOCUMENT);
  assert_int_equal(result.code, 0);
  assert_non_null(strstr(result.err, "The stalls is left out of this case: no answer within 1 s"));
  run_free(&result);
  json_t *object = document();
  assert_null(json_at(object, "peers.0.left_out"));
  size_t i = 0;
  json_t *row = NULL;
  json_array_foreach(json_at(object, "rows"), i, row) {
    if (strcmp(json_text_at(row, "by"), "The stalls") != 0) continue;
    const bool first = json_integer_value(json_at(row, "case.batch")) == 1;
    assert_true(first == (json_at(row, "median") == NULL));
    if (first) assert_string_equal(json_text_at(row, "left_out"), "no answer within 1 s");
  }
  assert_int_equal(count_rows(object, "decode", "fast", true), 4);
  json_decref(object);
  result = run_with(&how, "bench", "solve", "decode", "decode", "--quick", "--peers", peer("hangs"),
                    "--json", DOCUMENT);
  assert_int_equal(result.code, 0);
  run_free(&result);
  object = document();
  assert_int_equal(count_rows(object, NULL, "fast", true), 0);
  json_decref(object);
  assert_int_equal(unsetenv("PEGA_BENCH_PEER_SECONDS"), 0);
}

/* What somebody else writes is shown, and not without end. */
static void test_rambling_peer(void **state) {
  (void)state;
  need_pack();
  const run_how how = {fake, NULL};
  expect(
      run_with(&how, "bench", "solve", "--quick", "--peers", peer("rambles"), "--json", DOCUMENT),
      0, "left out: The rambles, T = 256, HV 32: \\x1b[31m", NULL);
  json_t *object = document();
  const char *told = json_text_at(first_row(object, "solve", "The rambles"), "left_out");
  assert_true(strlen(told) <= 303 && strlen(told) > 290);
  assert_string_equal(told + strlen(told) - 3, "...");
  json_decref(object);
}

/* Who ends the program by a signal ends its peers. */
static void test_no_peer_stays(void **state) {
  (void)state;
  char command[4096];
  need_pack();
  (void)snprintf(
      command, sizeof command,
      "%s timeout -s INT 2 %s bench solve --quick --peers %s >/dev/null 2>&1; sleep 0.2; "
      "for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$f 2>/dev/null | grep -q '^./hangs' && "
      "[ \"$(readlink ${f%%cmdline}cwd)\" = \"$PWD\" ] && exit 1; done; exit 0",
      fake, pega_path, peer("hangs"));
  assert_int_equal(system(command), 0);
}

/* More than can be asked are told. */
static void test_too_many_peers(void **state) {
  (void)state;
  char command[4096];
  size_t size = (size_t)snprintf(command, sizeof command, "%s bench call --quick", pega_path);
  for (int i = 0; i < 17; ++i) {
    size += (size_t)snprintf(command + size, sizeof command - size, " --peers ./p%d", i);
  }
  (void)snprintf(command + size, sizeof command - size,
                 " 2>&1 >/dev/null | grep -q 'the peer ./p16 is left out: there are 16 already'");
  assert_int_equal(system(command), 0);
}

/* A peer's way by a name of ours has a column of its own. */
static void test_peer_by_our_name(void **state) {
  (void)state;
  need_pack();
  const run_how how = {fake, NULL};
  run_result result = run_with(&how, "bench", "solve", "--quick", "--peers", peer("copies"));
  const char *head = strstr(result.out, "floor");
  assert_non_null(head);
  const char *own = strstr(head, "triton");
  assert_non_null(own);
  const char *theirs = strstr(own + 1, "triton");
  assert_non_null(theirs);
  assert_true(theirs < strchr(head, '\n'));
  expect(result, 0, "peer / ours", NULL);
}

/* They have so many seconds together; the library has as long as it takes. */
static void test_out_of_time(void **state) {
  (void)state;
  need_pack();
  const run_how how = {fake, NULL};
  assert_int_equal(setenv("PEGA_BENCH_SECONDS", "0.0001", 1), 0);
  expect(
      run_with(&how, "bench", "decode", "--quick", "--peers", peer("honest"), "--json", DOCUMENT),
      0, "out of time", NULL);
  assert_int_equal(unsetenv("PEGA_BENCH_SECONDS"), 0);
  json_t *object = document();
  assert_int_equal(count_rows(object, "decode", "The honest", false), 2);
  assert_int_equal(count_rows(object, "decode", "cuda", true), 2 * 4);
  json_decref(object);
}

static void test_peers_that_are_not(void **state) {
  (void)state;
  need_pack();
  const run_how how = {fake, NULL};
  expect(run_with(&how, "bench", "solve", "--quick", "--peers", "./none", "--json", DOCUMENT), 0,
         "solve", "./none does not start: No such file or directory");
  json_t *object = document();
  assert_string_equal(json_text_at(object, "peers.0.name"), "none");
  json_decref(object);
  /* A case that it does not do is no reason to leave out more, and its words drive no terminal. */
  run_result result = run_with(&how, "bench", "solve", "--quick", "--peers", peer("refuses"));
  assert_null(strchr(result.out, '\x1b'));
  expect(result, 0, "left out: The refuses, T = 256, HV 32: too \\x1b[31msmall", NULL);
  expect(run_with(&how, "bench", "solve", "--quick", "--peers", "none"), 0, "solve", NULL);
  /* One that does not go is sent. */
  assert_int_equal(setenv("PEGA_BENCH_PEER_SECONDS", "1", 1), 0);
  expect(run_with(&how, "bench", "solve", "--quick", "--peers", peer("clings")), 0, "slow", NULL);
  assert_int_equal(unsetenv("PEGA_BENCH_PEER_SECONDS"), 0);
}

/* Those that are installed, found from where the program is; Python ones by the interpreter that is named. */
static void test_installed_peers(void **state) {
  (void)state;
  need_pack();
  static const char *const folders[] = {"prefix",
                                        "prefix/bin",
                                        "prefix/share",
                                        "prefix/share/pega",
                                        "prefix/share/pega/bench",
                                        "prefix/share/pega/bench/peers"};
  const run_how how = {fake, NULL};
  char *own = pega_path;
  for (size_t i = 0; i < sizeof folders / sizeof *folders; ++i) {
    assert_int_equal(mkdir(folders[i], 0700), 0);
  }
  assert_int_equal(link(own, "prefix/bin/pega"), 0);
  assert_int_equal(symlink(stub, "prefix/share/pega/bench/peers/honest"), 0);
  assert_int_equal(symlink(stub, "prefix/share/pega/bench/peers/_no_peer"), 0);
  write_file("prefix/share/pega/bench/peers/python.py", "", 0);
  write_file("prefix/share/pega/bench/peers/README", "", 0);
  assert_int_equal(setenv("PEGA_TORCH_PYTHON", peer("refuses"), 1), 0);
  pega_path = realpath("prefix/bin/pega", NULL);
  assert_non_null(pega_path);
  expect(run_with(&how, "bench", "solve", "--quick", "--json", DOCUMENT), 0, "fast", NULL);
  json_t *object = document();
  assert_int_equal(json_array_size(json_at(object, "peers")), 2);
  assert_string_equal(json_text_at(object, "peers.0.name"), "The honest");
  assert_string_equal(json_text_at(object, "peers.1.name"), "The refuses");
  json_decref(object);
  free(pega_path);
  pega_path = own;
  assert_int_equal(unsetenv("PEGA_TORCH_PYTHON"), 0);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_document),
      cmocka_unit_test(test_to_stdout),
      cmocka_unit_test(test_choices),
      cmocka_unit_test(test_no_gpu),
      cmocka_unit_test(test_no_pack),
      cmocka_unit_test(test_right),
      cmocka_unit_test(test_wrong),
      cmocka_unit_test(test_nothing_done),
      cmocka_unit_test(test_honest_peer),
      cmocka_unit_test(test_bad_peers),
      cmocka_unit_test(test_told_of_the_kernel),
      cmocka_unit_test(test_scale),
      cmocka_unit_test(test_same_data),
      cmocka_unit_test(test_slow_peer),
      cmocka_unit_test(test_rambling_peer),
      cmocka_unit_test(test_peers_that_are_not),
      cmocka_unit_test(test_installed_peers),
      cmocka_unit_test(test_out_of_time),
      cmocka_unit_test(test_peer_by_our_name),
      cmocka_unit_test(test_no_peer_stays),
      cmocka_unit_test(test_too_many_peers),
  };
  set_pega_path(argc, argv);
  if (argc < 7) return 2;
  fake = library_path(argv[2]);
  computing = library_path(argv[3]);
  useless = library_path(argv[4]);
  stub = realpath(argv[5], NULL);
  has_pack = access(argv[6], R_OK) == 0;
  if (has_pack) (void)setenv("PEGA_PACK_PATH", argv[6], 1);
  if (!has_pack) (void)unsetenv("PEGA_PACK_PATH");
  (void)unsetenv("PEGA_CHOICES");
  schema = argc > 7 ? argv[7] : NULL;
  enter_folder();
  const int failed = cmocka_run_group_tests_name("cli.bench", tests, NULL, NULL);
  leave_folder();
  free(fake);
  free(computing);
  free(useless);
  free(stub);
  free(pega_path);
  return failed;
}
