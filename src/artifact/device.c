/* SPDX-License-Identifier: Apache-2.0 */
#include "device.h"

#include "context.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

enum { kMaxDevices = 64, kInvalidDevice = 101 };

typedef struct driver {
  int (*init)(unsigned flags);
  int (*get_current)(void **context);
  int (*set_current)(void *context);
  int (*get_device)(int *device);
  int (*push_current)(void *context);
  int (*pop_current)(void **context);
  int (*device_get)(int *device, int ordinal);
  int (*retain)(void **context, int device);
} driver;

static driver table; /* written before `opened`, then never again */
static _Atomic(const driver *) opened;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(void *) primaries[kMaxDevices];
static _Atomic(int) numbers[kMaxDevices]; /* CUdevice + 1; 0 where it has not been asked for */

static void look_up(int flags) {
  /* Without the lock: this runs the library's constructors. Two threads get the same library. */
  void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE | flags);
  if (library == NULL) return;
  static const char *const names[] = {
      "cuInit",         "cuCtxGetCurrent",         "cuCtxSetCurrent",
      "cuCtxGetDevice", "cuCtxPushCurrent_v2",     "cuCtxPopCurrent_v2",
      "cuDeviceGet",    "cuDevicePrimaryCtxRetain"};
  void *found[sizeof names / sizeof *names];
  _Static_assert(sizeof found == sizeof table, "a name for each function");
  for (size_t i = 0; i < sizeof names / sizeof *names; ++i) {
    found[i] = dlsym(library, names[i]);
    if (found[i] == NULL) return;
  }
  pthread_mutex_lock(&lock);
  if (atomic_load_explicit(&opened, memory_order_relaxed) == NULL) {
    memcpy(&table, found, sizeof table);
    atomic_store_explicit(&opened, &table, memory_order_release);
  }
  pthread_mutex_unlock(&lock);
}

void pega_device_prepare(void) {
  if (atomic_load_explicit(&opened, memory_order_acquire) == NULL) look_up(0);
}

/* The artifact was opened before the driver was there: who made the tensor has brought it. */
__attribute__((cold, noinline)) static const driver *find_late(void) {
  look_up(RTLD_NOLOAD);
  const driver *cuda = atomic_load_explicit(&opened, memory_order_acquire);
  if (cuda != NULL) pega_context_prepare();
  return cuda;
}

/* Two threads may ask for the same. */
static int find_number(const driver *cuda, int32_t ordinal, int *device) {
  *device = atomic_load_explicit(&numbers[ordinal], memory_order_relaxed) - 1;
  if (__builtin_expect(*device >= 0, 1)) return 0;
  const int code = cuda->device_get(device, ordinal);
  if (code == 0) {
    atomic_store_explicit(&numbers[ordinal], *device + 1, memory_order_relaxed);
  }
  return code;
}

/* The primary context, retained at the first use. Two threads may retain it twice. */
static int find_primary(const driver *cuda, int32_t ordinal, void **out) {
  int device;
  *out = atomic_load_explicit(&primaries[ordinal], memory_order_acquire);
  if (*out != NULL) return 0;
  int code = cuda->init(0);
  if (code == 0) code = find_number(cuda, ordinal, &device);
  if (code == 0) code = cuda->retain(out, device);
  if (code == 0) atomic_store_explicit(&primaries[ordinal], *out, memory_order_release);
  return code;
}

int pega_device_enter(int32_t ordinal, pega_device_entered *entered) {
  const driver *cuda = atomic_load_explicit(&opened, memory_order_acquire);
  int device, current;
  void *primary;
  entered->context = NULL;
  if (__builtin_expect(cuda == NULL, 0) && (cuda = find_late()) == NULL) return 0;
  if (ordinal < 0 || ordinal >= kMaxDevices) return kInvalidDevice;

  if (cuda->get_device(&current) == 0 && find_number(cuda, ordinal, &device) == 0 &&
      current == device) {
    return 0;
  }
  int code = find_primary(cuda, ordinal, &primary);
  if (code == 0) code = cuda->get_current(&entered->before);
  if (code == 0) code = cuda->push_current(primary);
  if (code == 0) entered->context = primary;
  return code;
}

void pega_device_leave(const pega_device_entered *entered) {
  const driver *cuda = atomic_load_explicit(&opened, memory_order_acquire);
  void *now;
  if (cuda->get_current(&now) == 0 && now == entered->context) cuda->pop_current(&now);
  /* Code that takes contexts off may have taken the caller's. */
  if (cuda->get_current(&now) == 0 && now != entered->before) cuda->set_current(entered->before);
}
