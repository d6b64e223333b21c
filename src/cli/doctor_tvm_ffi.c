/* SPDX-License-Identifier: Apache-2.0 */
#include "doctor.h"

#include <inttypes.h>
#include <pega/tvm_ffi.h>
#include <stdlib.h>

static const char *source_name(uint32_t source) {
  switch ((pega_tvm_ffi_source)source) {
    case PEGA_TVM_FFI_EXPLICIT:
      return "the command line";
    case PEGA_TVM_FFI_ENVIRONMENT:
      return PEGA_TVM_FFI_LIBRARY_ENV;
    case PEGA_TVM_FFI_PROCESS:
      return "already in the process";
    case PEGA_TVM_FFI_FOLDER:
      return "a given folder";
    case PEGA_TVM_FFI_BUILD:
      return "the copy of the build";
    case PEGA_TVM_FFI_SYSTEM:
      return "the dynamic loader's search";
  }
  return "unknown";
}

static void add_runtime(pega_tvm_ffi *runtime, json_t *object, json_t *problems) {
  pega_error error = PEGA_ERROR_INIT;
  pega_tvm_ffi_info info;
  memset(&info, 0, sizeof info);
  info.struct_size = (uint32_t)sizeof info;
  if (pega_tvm_ffi_describe(runtime, &info, &error) != PEGA_OK) {
    cli_json_append(problems, cli_json_string(pega_error_message(&error)));
    pega_error_clear(&error);
    return;
  }
  cli_json_set(object, "path", cli_json_string(info.path));
  cli_json_set(object, "found_by", json_string(source_name(info.source)));
  cli_json_set(
      object, "reported_version",
      json_sprintf("%" PRIu32 ".%" PRIu32 ".%" PRIu32, info.major, info.minor, info.patch));
  cli_json_set(object, "wheel_version",
               *info.wheel_version == '\0' ? json_null() : cli_json_string(info.wheel_version));
  cli_json_set(object, "copies", json_integer(info.num_copies));
  if (info.num_copies > 1) {
    cli_json_set(object, "other_copy", cli_json_string(info.other_copy));
    cli_json_append(problems,
                    json_sprintf("%" PRIu32 " TVM FFI libraries in one process, with a registry "
                                 "each; another one is %s",
                                 info.num_copies, info.other_copy));
  }
}

json_t *cli_doctor_bridge(const char *library, json_t *problems) {
  pega_error error = PEGA_ERROR_INIT;
  pega_tvm_ffi *runtime = NULL;
  pega_value report = pega_value_none();
  pega_tvm_ffi_options options = PEGA_TVM_FFI_OPTIONS_INIT;
  options.library_path = library;
  json_t *object = json_object();
  cli_json_set(object, "bridge", json_true());
  /* First of all: opening puts a copy into the process, which the report would then find. */
  if (pega_tvm_ffi_search_report(&options, &report, &error) == PEGA_OK) {
    size_t size = 0;
    const char *text = pega_value_as_string(&report, &size);
    cli_json_set(object, "search", cli_json_text(text, size));
  }
  pega_value_release(&report);
  const pega_status status = pega_tvm_ffi_open(&options, &runtime, &error);
  cli_json_set(object, "runtime", json_boolean(status == PEGA_OK));
  if (status == PEGA_OK) {
    add_runtime(runtime, object, problems);
  } else {
    /* None anywhere is fine; one that was asked for or found, and cannot be used, is not. */
    const bool chosen = library != NULL || getenv(PEGA_TVM_FFI_LIBRARY_ENV) != NULL;
    const bool absent = status == PEGA_ERROR_NOT_FOUND || status == PEGA_ERROR_UNAVAILABLE;
    cli_json_set(object, "reason", cli_json_string(pega_error_message(&error)));
    if (chosen || !absent) {
      cli_json_append(problems, cli_json_string(pega_error_message(&error)));
    }
  }
  pega_tvm_ffi_close(runtime);
  pega_error_clear(&error);
  return object;
}
