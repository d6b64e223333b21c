/* SPDX-License-Identifier: Apache-2.0 */
#include <dlfcn.h>
#include <inttypes.h>

#include "doctor.h"

#define LIBRARY "libcuda.so.1"

/* The symbols of the driver that are used, with their types. The numbers below are the driver's. */
#define SYMBOLS(X)                                                        \
  X(cuDriverGetVersion, int (*)(int *version))                            \
  X(cuInit, int (*)(unsigned flags))                                      \
  X(cuGetErrorName, int (*)(int result, const char **name))               \
  X(cuGetErrorString, int (*)(int result, const char **text))             \
  X(cuDeviceGetCount, int (*)(int *count))                                \
  X(cuDeviceGet, int (*)(int *device, int ordinal))                       \
  X(cuDeviceGetName, int (*)(char *name, int size, int device))           \
  X(cuDeviceGetAttribute, int (*)(int *value, int attribute, int device)) \
  X(cuDeviceTotalMem_v2, int (*)(size_t * bytes, int device))

enum { ERROR_NO_DEVICE = 100, CAPABILITY_MAJOR = 75, CAPABILITY_MINOR = 76 };

typedef struct driver {
#define MEMBER(name, type) __typeof__(type) name;
  SYMBOLS(MEMBER)
#undef MEMBER
} driver;

/* The name of the first symbol that the library lacks, or NULL. */
static const char *resolve(void *library, driver *out) {
  void *address = NULL;
#define RESOLVE(name, type)          \
  address = dlsym(library, #name);   \
  if (address == NULL) return #name; \
  memcpy(&out->name, &address, sizeof address);
  SYMBOLS(RESOLVE)
#undef RESOLVE
  return NULL;
}

static void add_problem(json_t *object, json_t *problems, json_t *text) {
  cli_json_append(problems, json_incref(text));
  cli_json_set(object, "error", text);
}

/* "cuInit: CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected". */
static json_t *describe(const driver *cuda, const char *call, int result) {
  const char *name = NULL;
  const char *text = NULL;
  if (cuda->cuGetErrorName(result, &name) != 0 || name == NULL) name = "unknown error";
  if (cuda->cuGetErrorString(result, &text) != 0 || text == NULL) text = "";
  return json_sprintf("%s: %s (%d)%s%s", call, name, result, *text == '\0' ? "" : ": ", text);
}

/* Describes one device; 0, or the result of the `call` that failed. */
static int add_device(const driver *cuda, int ordinal, json_t *devices, const char **call) {
  char name[256] = "";
  int device = 0;
  int major = 0;
  int minor = 0;
  size_t bytes = 0;
  int result = 0;
#define TRY(function, ...)              \
  *call = #function;                    \
  result = cuda->function(__VA_ARGS__); \
  if (result != 0) return result;
  TRY(cuDeviceGet, &device, ordinal)
  TRY(cuDeviceGetName, name, (int)sizeof name - 1, device)
  TRY(cuDeviceGetAttribute, &major, CAPABILITY_MAJOR, device)
  TRY(cuDeviceGetAttribute, &minor, CAPABILITY_MINOR, device)
  TRY(cuDeviceTotalMem_v2, &bytes, device)
#undef TRY
  json_t *item = json_object();
  cli_json_set(item, "device", json_sprintf("cuda:%d", ordinal));
  cli_json_set(item, "name", cli_json_string(name));
  cli_json_set(item, "compute_capability", json_sprintf("%d.%d", major, minor));
  cli_json_set(item, "memory_bytes", cli_json_uint(bytes));
  cli_json_append(devices, item);
  return 0;
}

static void add_devices(const driver *cuda, json_t *object, json_t *problems) {
  int count = 0;
  const char *call = "cuInit";
  json_t *devices = json_array();
  cli_json_set(object, "devices", devices);
  int result = cuda->cuInit(0);
  if (result == 0) {
    call = "cuDeviceGetCount";
    result = cuda->cuDeviceGetCount(&count);
  }
  for (int i = 0; result == 0 && i < count; ++i) result = add_device(cuda, i, devices, &call);
  if (result == ERROR_NO_DEVICE) {
    /* A driver without a GPU is how many build machines are. */
    cli_json_set(object, "no_device", describe(cuda, call, result));
  } else if (result != 0) {
    add_problem(object, problems, describe(cuda, call, result));
  }
}

json_t *cli_doctor_cuda(json_t *problems) {
  static const char absent[] = LIBRARY ": cannot open shared object file";
  json_t *object = json_object();
  driver cuda;
  int version = 0;
  /* Never closed: a driver does not like to be taken out of a process. */
  void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
  const char *why = library == NULL ? dlerror() : "";
  cli_json_set(object, "driver", json_boolean(library != NULL));
  if (library == NULL) {
    json_t *text = cli_json_string(why == NULL ? LIBRARY ": dlopen() gives no reason" : why);
    if (why != NULL && strncmp(why, absent, strlen(absent)) == 0) {
      cli_json_set(object, "reason", text);
    } else {
      add_problem(object, problems, text);
    }
    return object;
  }
  const char *missing = resolve(library, &cuda);
  if (missing != NULL) {
    add_problem(object, problems, json_sprintf(LIBRARY " has no symbol %s", missing));
    return object;
  }
  Dl_info where;
  void *address = dlsym(library, "cuInit");
  if (dladdr(address, &where) != 0) {
    cli_json_set(object, "library", cli_json_string(where.dli_fname));
  }
  const int result = cuda.cuDriverGetVersion(&version);
  if (result != 0) {
    add_problem(object, problems, describe(&cuda, "cuDriverGetVersion", result));
    return object;
  }
  cli_json_set(object, "version", json_sprintf("%d.%d", version / 1000, version % 1000 / 10));
  add_devices(&cuda, object, problems);
  return object;
}
