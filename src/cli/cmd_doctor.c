/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>

#include "cli.h"
#include "doctor.h"

/* The section on the bridge: named by what it joins to, where there is one. */
#ifdef PEGA_CLI_BRIDGE
#define BRIDGE_KEY "tvm_ffi"
#else
#define BRIDGE_KEY "bridge"
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED true
#endif
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

static json_t *about_build(void) {
  json_t *object = json_object();
  cli_json_set(object, "version", json_string(pega_version_string()));
  cli_json_set(object, "compiler", json_string(COMPILER));
  cli_json_set(object, "build_type", json_string(PEGA_CLI_BUILD_TYPE));
#ifdef PEGA_CLI_BRIDGE
  cli_json_set(object, "bridge", json_true());
#else
  cli_json_set(object, "bridge", json_false());
#endif
  cli_json_set(object, "sanitizers", json_boolean(SANITIZED));
  return object;
}

static void print_scalar(const json_t *value) {
  if (json_is_string(value)) {
    cli_print_text(stdout, json_string_value(value), json_string_length(value));
  } else if (json_is_integer(value)) {
    (void)printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
  } else if (json_is_boolean(value)) {
    (void)fputs(json_is_true(value) ? "yes" : "no", stdout);
  } else {
    (void)fputs("unknown", stdout);
  }
}

/* The report for people is the JSON report, set as text, so that the two cannot differ. */
static void print_member(const char *key, const json_t *value, int indent) {
  const char *name = NULL;
  json_t *member = NULL;
  size_t index = 0;
  (void)printf("%*s", indent, "");
  /* Names of variables keep their underscores. */
  const bool plain = *key < 'A' || *key > 'Z';
  for (const char *at = key; *at != '\0'; ++at) (void)putchar(plain && *at == '_' ? ' ' : *at);
  (void)putchar(':');
  if (json_is_object(value)) {
    (void)putchar('\n');
    json_object_foreach((json_t *)(uintptr_t)value, name, member) {
      print_member(name, member, indent + 2);
    }
  } else if (json_is_array(value) && json_is_object(json_array_get(value, 0))) {
    (void)putchar('\n');
    json_array_foreach(value, index, member) {
      char number[24];
      (void)snprintf(number, sizeof number, "%zu", index);
      print_member(number, member, indent + 2);
    }
  } else if (json_is_array(value)) {
    json_array_foreach(value, index, member) {
      (void)fputs(index == 0 ? " " : ", ", stdout);
      print_scalar(member);
    }
    (void)puts(json_array_size(value) == 0 ? " none" : "");
  } else if (json_is_string(value) && strchr(json_string_value(value), '\n') != NULL) {
    (void)putchar('\n');
    cli_print_lines(json_string_value(value), indent + 2);
  } else {
    (void)putchar(' ');
    print_scalar(value);
    (void)putchar('\n');
  }
}

static void print_text(json_t *report) {
  const char *key = NULL;
  json_t *value = NULL;
  size_t index = 0;
  const json_t *problems = json_object_get(report, "problems");
  json_object_foreach(report, key, value) {
    if (value != problems) print_member(key, value, 0);
  }
  if (json_array_size(problems) == 0) (void)puts("nothing found is broken");
  json_array_foreach(problems, index, value) {
    (void)fputs("broken: ", stdout);
    print_scalar(value);
    (void)putchar('\n');
  }
}

cli_exit cli_doctor(const cli_options *options, pega_error *error) {
  (void)error;
  json_t *problems = json_array();
  json_t *report = json_object();
  cli_json_set(report, "pega", about_build());
  cli_json_set(report, BRIDGE_KEY, cli_doctor_bridge(options->runtime_library, problems));
  cli_json_set(report, "cuda", cli_doctor_cuda(problems));
  cli_json_set(report, "cublas", cli_doctor_cublas(problems));
  cli_json_set(report, "packs", cli_doctor_packs(problems));
  cli_json_set(report, "cpu", cli_doctor_cpu());
  cli_json_set(report, "functions", cli_doctor_functions(problems));
  cli_json_set(report, "problems", problems);
  const cli_exit code = json_array_size(problems) == 0 ? CLI_DONE : CLI_FAILED;
  if (options->json) {
    cli_print_json(report);
  } else {
    print_text(report);
    json_decref(report);
  }
  return code;
}
