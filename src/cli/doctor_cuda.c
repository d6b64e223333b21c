/* SPDX-License-Identifier: Apache-2.0 */
/* What the library's own driver layer finds; and of the driver's library, which it does not tell of,
 * whether there is one, where, and of which version, also where the library refuses it. */
#include <dlfcn.h>
#include <inttypes.h>

#include <pega/cuda.h>

#include "doctor.h"

#define LIBRARY "libcuda.so.1"

enum { ERROR_NO_DEVICE = 100 }; /* CUDA_ERROR_NO_DEVICE */

static void add_problem(json_t *object, json_t *problems, const char *text) {
  json_t *string = cli_json_string(text);
  cli_json_append(problems, json_incref(string));
  cli_json_set(object, "error", string);
}

/* "CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected", as the driver names it. */
static json_t *describe(void *library, int code) {
  static const char *const symbols[2] = {"cuGetErrorName", "cuGetErrorString"};
  const char *texts[2] = {NULL, NULL};
  for (int i = 0; i < 2; ++i) {
    int (*get)(int code, const char **text) = NULL;
    void *address = dlsym(library, symbols[i]);
    memcpy(&get, &address, sizeof get);
    if (get != NULL && get(code, &texts[i]) != 0) texts[i] = NULL;
  }
  const char *name = texts[0] == NULL ? "CUresult" : texts[0];
  const char *text = texts[1];
  /* A driver that has no text for a code may give its name again. */
  if (text == NULL || *text == '\0' || strcmp(text, name) == 0) {
    return json_sprintf("%s (%d)", name, code);
  }
  return json_sprintf("%s (%d): %s", name, code, text);
}

/* Path and version. Returns the library, or NULL with why. */
static void *add_library(json_t *object, json_t *problems) {
  static const char absent[] = LIBRARY ": cannot open shared object file";
  /* Never closed: a driver does not like to be taken out of a process. */
  void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
  const char *why = library == NULL ? dlerror() : "";
  cli_json_set(object, "driver", json_boolean(library != NULL));
  if (library == NULL) {
    if (why != NULL && strncmp(why, absent, strlen(absent)) == 0) {
      cli_json_set(object, "reason", cli_json_string(why));
    } else {
      add_problem(object, problems, why == NULL ? LIBRARY ": dlopen() gives no reason" : why);
    }
    return NULL;
  }
  Dl_info where;
  int version = 0;
  int (*get_version)(int *version) = NULL;
  void *address = dlsym(library, "cuDriverGetVersion");
  if (address == NULL) return library;
  if (dladdr(address, &where) != 0) {
    cli_json_set(object, "library", cli_json_string(where.dli_fname));
  }
  memcpy(&get_version, &address, sizeof get_version);
  if (get_version(&version) == 0) {
    cli_json_set(object, "version", json_sprintf("%d.%d", version / 1000, version % 1000 / 10));
  }
  return library;
}

static pega_status add_device(DLDevice device, json_t *devices, pega_error *error) {
  char name[PEGA_NAME_SIZE];
  pega_device_info info;
  pega_device_health_info health;
  memset(&info, 0, sizeof info);
  memset(&health, 0, sizeof health);
  info.struct_size = (uint32_t)sizeof info;
  health.struct_size = (uint32_t)sizeof health;
  pega_status status = pega_device_query(device, &info, error);
  if (status == PEGA_OK) status = pega_device_health(device, &health, error);
  if (status != PEGA_OK) return status;
  json_t *item = json_object();
  cli_json_set(item, "device", json_string(pega_device_name(device, name)));
  cli_json_set(item, "name", cli_json_string(info.name));
  cli_json_set(item, "compute_capability",
               json_sprintf("%" PRId32 ".%" PRId32, info.compute_capability / 10,
                            info.compute_capability % 10));
  cli_json_set(item, "memory_bytes", json_integer(info.total_memory));
  cli_json_set(item, "multiprocessors", json_integer(info.multiprocessors));
  cli_json_set(item, "max_shared_memory_bytes", json_integer(info.max_shared_memory));
  cli_json_set(item, "health",
               health.code == 0 ? json_string("well") : cli_json_string(health.code_name));
  cli_json_append(devices, item);
  return PEGA_OK;
}

json_t *cli_doctor_cuda(json_t *problems) {
  json_t *object = json_object();
  pega_error error = PEGA_ERROR_INIT;
  int32_t count = 0;
  void *library = add_library(object, problems);
  if (library == NULL) return object;
  json_t *devices = json_array();
  pega_status status = pega_device_count(&count, &error);
  for (int32_t i = 0; status == PEGA_OK && i < count; ++i) {
    status = add_device((DLDevice){kDLCUDA, i}, devices, &error);
  }
  cli_json_set(object, "devices", devices);
  if (error.code == ERROR_NO_DEVICE) {
    /* A driver without a GPU is how many build machines are. */
    cli_json_set(object, "no_device", describe(library, error.code));
  } else if (status != PEGA_OK) {
    if (error.code != 0) cli_json_set(object, "driver_error", describe(library, error.code));
    add_problem(object, problems, pega_error_message(&error));
  }
  pega_error_clear(&error);
  return object;
}
