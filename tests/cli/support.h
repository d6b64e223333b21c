/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file support.h
 * \brief Running `pega` and making files, for the tests of the command line.
 */
#ifndef PEGA_TESTS_CLI_SUPPORT_H_
#define PEGA_TESTS_CLI_SUPPORT_H_

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* cmocka.h needs the headers above. */
#include <cmocka.h>
#include <jansson.h>

#define SOLVE "pegainfer.qwen35.gated_delta_rule_chunk_solve"
#define SOLVE_RAW "pegainfer.triton_cubin.qwen35.gated_delta_rule_chunk_solve"

/** \brief Makes an empty folder below the working one and goes there. */
void enter_folder(void);
/** \brief Removes that folder with all that is in it. */
void leave_folder(void);
/** \brief Files of the working folder whose name begins with `prefix`. */
int count_files(const char *prefix);

/** \brief Writes a file. */
void write_file(const char *path, const void *bytes, size_t size);
/** \brief Reads a file into owned memory. Fails the test if it is not there. */
char *read_whole_file(const char *path, size_t *size);

/**
 * \brief Writes a .safetensors file: `header`, and data_size bytes 0, 1, 2, ... behind it.
 */
void write_safetensors(const char *path, const char *header, size_t data_size);

/** \brief The `pega` to run; absolute. Set by main() from its first argument. */
extern char *pega_path;
/** \brief Sets pega_path; ends the program with a message if there is no such file. */
void set_pega_path(int argc, char **argv);

/** \brief "LD_LIBRARY_PATH=" and a folder's absolute path, owned; ends the program if there is none. */
char *library_path(const char *folder);

/** \brief What a run of `pega` did. */
typedef struct run_result {
  int code;  /**< exit code; minus the signal's number if one ended it */
  char *out; /**< stdout */
  char *err; /**< stderr */
} run_result;

/** \brief How to run it. */
typedef struct run_how {
  const char *variable;    /**< "NAME=value" for the environment, or NULL */
  const char *stdout_path; /**< where stdout goes instead of into the result, or NULL */
} run_how;

/** \brief Runs `pega` with words that end in NULL. One that takes over a minute is killed. */
run_result run_words(const run_how *how, const char *const *words);
#define run(...) run_words(NULL, (const char *const[]){__VA_ARGS__, NULL})
#define run_with(how, ...) run_words(how, (const char *const[]){__VA_ARGS__, NULL})
/** \brief Frees a result. */
void run_free(run_result *result);

/** \brief Checks a run and frees it: its code, and parts of its output; NULL for an empty one. */
void expect_run(run_result result, int code, const char *out, const char *err, const char *file,
                int line);
#define expect(result, code, out, err) expect_run(result, code, out, err, __FILE__, __LINE__)

/** \brief Checks that a run ended with `code` and printed one JSON object, which is owned. */
json_t *expect_json_run(run_result result, int code, const char *file, int line);
#define expect_json(result, code) expect_json_run(result, code, __FILE__, __LINE__)

/** \brief Checks {"error": {"status", "kind", "message" holding `text`}} and frees the run. */
void expect_error_run(run_result result, int code, const char *status, const char *kind,
                      const char *text, const char *file, int line);
#define expect_error(result, code, status, kind, text) \
  expect_error_run(result, code, status, kind, text, __FILE__, __LINE__)

/** \brief String at a path of members, "a.b.0.c"; fails the test if it is not there. */
const char *json_text_at(json_t *object, const char *path);
/** \brief Value at a path of members, or NULL. Borrowed. */
json_t *json_at(json_t *object, const char *path);

#endif  // PEGA_TESTS_CLI_SUPPORT_H_
