/* SPDX-License-Identifier: Apache-2.0 */
/* The modelled machine: defaults, the text of PEGA_FAKE_DRIVER, the control functions for it. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake.h"

/*
 * Limits that go with a compute capability. Source: the table of technical specifications in
 * NVIDIA's CUDA C++ programming guide.
 */
typedef struct limits {
  int capability;
  int shared_per_multiprocessor; /* KB */
  int shared_optin;              /* KB */
  int threads_per_multiprocessor;
  int blocks_per_multiprocessor;
} limits;

static const limits kLimits[] = {
    {70, 96, 96, 2048, 32},   {75, 64, 64, 1024, 16},    {80, 164, 163, 2048, 32},
    {86, 100, 99, 1536, 16},  {87, 164, 163, 1536, 16},  {89, 100, 99, 1536, 24},
    {90, 228, 227, 2048, 32}, {100, 228, 227, 2048, 32}, {103, 228, 227, 2048, 32},
    {120, 100, 99, 1536, 24}, {121, 100, 99, 1536, 24},
};

static const limits *limits_of(int capability) {
  const limits *found = &kLimits[0];
  for (size_t i = 0; i < sizeof kLimits / sizeof kLimits[0]; ++i) {
    if (kLimits[i].capability <= capability) found = &kLimits[i];
  }
  return found;
}

#define ATTRIBUTE(device, name) ((device)->attributes[FAKE_CU_DEVICE_ATTRIBUTE_##name])

static void set_capability(fake_device *device, int major, int minor) {
  const limits *limit = limits_of(major * 10 + minor);
  ATTRIBUTE(device, COMPUTE_CAPABILITY_MAJOR) = major;
  ATTRIBUTE(device, COMPUTE_CAPABILITY_MINOR) = minor;
  ATTRIBUTE(device, MAX_SHARED_MEMORY_PER_MULTIPROCESSOR) = limit->shared_per_multiprocessor * 1024;
  ATTRIBUTE(device, MAX_SHARED_MEMORY_PER_BLOCK_OPTIN) = limit->shared_optin * 1024;
  ATTRIBUTE(device, MAX_THREADS_PER_MULTIPROCESSOR) = limit->threads_per_multiprocessor;
  ATTRIBUTE(device, MAX_BLOCKS_PER_MULTIPROCESSOR) = limit->blocks_per_multiprocessor;
  ATTRIBUTE(device, RESERVED_SHARED_MEMORY_PER_BLOCK) = major >= 8 ? 1024 : 0;
  ATTRIBUTE(device, CLUSTER_LAUNCH) = major >= 9;
  ATTRIBUTE(device, TENSOR_MAP_ACCESS_SUPPORTED) = major >= 9;
}

static void default_device(fake_device *device, int ordinal) {
  memset(device, 0, sizeof *device);
  snprintf(device->name, sizeof device->name, "Fake GPU %d", ordinal);
  device->total_memory = (uint64_t)16 << 30;
  set_capability(device, 9, 0);
  ATTRIBUTE(device, MAX_THREADS_PER_BLOCK) = 1024;
  ATTRIBUTE(device, MAX_BLOCK_DIM_X) = 1024;
  ATTRIBUTE(device, MAX_BLOCK_DIM_Y) = 1024;
  ATTRIBUTE(device, MAX_BLOCK_DIM_Z) = 64;
  ATTRIBUTE(device, MAX_GRID_DIM_X) = INT_MAX;
  ATTRIBUTE(device, MAX_GRID_DIM_Y) = 65535;
  ATTRIBUTE(device, MAX_GRID_DIM_Z) = 65535;
  ATTRIBUTE(device, MAX_SHARED_MEMORY_PER_BLOCK) = 48 * 1024;
  ATTRIBUTE(device, TOTAL_CONSTANT_MEMORY) = 64 * 1024;
  ATTRIBUTE(device, WARP_SIZE) = 32;
  ATTRIBUTE(device, MAX_PITCH) = INT_MAX;
  ATTRIBUTE(device, MAX_REGISTERS_PER_BLOCK) = 65536;
  ATTRIBUTE(device, MAX_REGISTERS_PER_MULTIPROCESSOR) = 65536;
  ATTRIBUTE(device, CLOCK_RATE) = 1500000;
  ATTRIBUTE(device, TEXTURE_ALIGNMENT) = 512;
  ATTRIBUTE(device, GPU_OVERLAP) = 1;
  ATTRIBUTE(device, MULTIPROCESSOR_COUNT) = 132;
  ATTRIBUTE(device, CAN_MAP_HOST_MEMORY) = 1;
  ATTRIBUTE(device, CONCURRENT_KERNELS) = 1;
  ATTRIBUTE(device, PCI_BUS_ID) = ordinal + 1;
  ATTRIBUTE(device, MEMORY_CLOCK_RATE) = 2000000;
  ATTRIBUTE(device, GLOBAL_MEMORY_BUS_WIDTH) = 5120;
  ATTRIBUTE(device, L2_CACHE_SIZE) = 50 << 20;
  ATTRIBUTE(device, ASYNC_ENGINE_COUNT) = 3;
  ATTRIBUTE(device, UNIFIED_ADDRESSING) = 1;
  ATTRIBUTE(device, STREAM_PRIORITIES_SUPPORTED) = 1;
  ATTRIBUTE(device, GLOBAL_L1_CACHE_SUPPORTED) = 1;
  ATTRIBUTE(device, LOCAL_L1_CACHE_SUPPORTED) = 1;
  ATTRIBUTE(device, MANAGED_MEMORY) = 1;
  ATTRIBUTE(device, COMPUTE_PREEMPTION_SUPPORTED) = 1;
  ATTRIBUTE(device, COOPERATIVE_LAUNCH) = 1;
  ATTRIBUTE(device, MEMORY_POOLS_SUPPORTED) = 1;
  ATTRIBUTE(device, UNIFIED_FUNCTION_POINTERS) = 1;
}

static void default_machine(void) {
  for (int i = 0; i < kMaxDevices; ++i) default_device(&fake.devices[i], i);
  fake.num_devices = 1;
  fake.driver_version = 13000;
  fake.strict_loading = true;
  fake.eager_loading = false;
  fake.quiet = false;
  fake.absent_is_error = false;
  fake.bad_configuration = false;
}

static bool read_number(const char *text, uint64_t most, uint64_t *out) {
  char *end = NULL;
  if (*text < '0' || *text > '9') return false;
  *out = strtoull(text, &end, 10);
  return *end == '\0' && *out <= most;
}

static bool read_capability(const char *text) {
  int major = 0;
  int minor = 0;
  int used = 0;
  if (sscanf(text, "%2d.%1d%n", &major, &minor, &used) != 2 || text[used] != '\0') return false;
  if (major < 5 || minor < 0) return false;
  for (int i = 0; i < kMaxDevices; ++i) set_capability(&fake.devices[i], major, minor);
  return true;
}

static bool set_all(int attribute, const char *text) {
  uint64_t number;
  if (!read_number(text, INT_MAX, &number)) return false;
  for (int i = 0; i < kMaxDevices; ++i) fake.devices[i].attributes[attribute] = (int)number;
  return true;
}

static bool apply(const char *key, const char *value) {
  uint64_t number;
  if (strcmp(key, "cc") == 0) return read_capability(value);
  if (strcmp(key, "sms") == 0) return set_all(FAKE_CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, value);
  if (strcmp(key, "shared") == 0) {
    return set_all(FAKE_CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, value);
  }
  if (strcmp(key, "optin") == 0) {
    return set_all(FAKE_CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, value);
  }
  if (strcmp(key, "loading") == 0) {
    fake.eager_loading = strcmp(value, "eager") == 0;
    return fake.eager_loading || strcmp(value, "lazy") == 0;
  }
  if (strcmp(key, "absent") == 0) {
    fake.absent_is_error = strcmp(value, "error") == 0;
    return fake.absent_is_error || strcmp(value, "null") == 0;
  }
  if (!read_number(value, UINT64_MAX, &number)) return false;
  if (strcmp(key, "devices") == 0 && number <= kMaxDevices) {
    fake.num_devices = (int)number;
  } else if (strcmp(key, "driver") == 0 && number >= 1000 && number <= 99990) {
    fake.driver_version = (int)number;
  } else if (strcmp(key, "memory") == 0) {
    for (int i = 0; i < kMaxDevices; ++i) fake.devices[i].total_memory = number;
  } else if (strcmp(key, "strict") == 0 && number <= 1) {
    fake.strict_loading = number == 1;
  } else if (strcmp(key, "quiet") == 0 && number <= 1) {
    fake.quiet = number == 1;
  } else {
    return false;
  }
  return true;
}

static bool apply_text(const char *text) {
  char item[128];
  while (text != NULL && *text != '\0') {
    size_t size = strcspn(text, ",");
    if (size >= sizeof item) return false;
    memcpy(item, text, size);
    item[size] = '\0';
    char *equals = strchr(item, '=');
    if (equals == NULL) return false;
    *equals = '\0';
    if (!apply(item, equals + 1)) return false;
    text += size;
    if (*text == ',') ++text;
  }
  return true;
}

void fake_configure_default(void) {
  fake.configured = true;
  default_machine();
  if (!apply_text(getenv("PEGA_FAKE_DRIVER"))) {
    default_machine();
    fake.bad_configuration = true;
  }
}

static void begin_anew(void) {
  fake_captures_reset();
  fake_contexts_reset();
  fake_memory_reset();
  fake_slots_reset();
  fake_calls_reset();
  fake_failures_reset();
  fake_kernels_reset();
  fake.initialised = false;
  fake.num_threads = 0;
  memset(&fake.faults, 0, sizeof fake.faults);
  atomic_store(&fake_forked, 0);
}

void pega_fake_driver_reset(void) {
  fake_lock();
  begin_anew();
  fake_configure_default();
  fake_update_slow();
  fake_unlock();
}

int pega_fake_driver_configure(const char *text) {
  fake_lock();
  begin_anew();
  fake.configured = true;
  default_machine();
  bool good = apply_text(text);
  if (!good) default_machine();
  fake_update_slow();
  fake_unlock();
  return good ? FAKE_CUDA_SUCCESS : FAKE_CUDA_ERROR_INVALID_VALUE;
}

static bool has_device(int device) {
  if (!fake.configured) fake_configure_default();
  return device >= 0 && device < fake.num_devices;
}

static void set_if(fake_device *device, int attribute, int value) {
  if (value != 0) device->attributes[attribute] = value;
}

static bool tail_is_zero(const pega_fake_driver_device *values) {
  const unsigned char *bytes = (const unsigned char *)values;
  for (size_t i = sizeof *values; i < values->struct_size; ++i) {
    if (bytes[i] != 0) return false;
  }
  return true;
}

int pega_fake_driver_set_device(int device, const pega_fake_driver_device *values) {
  if (values == NULL || values->struct_size < sizeof *values || !tail_is_zero(values)) {
    return FAKE_CUDA_ERROR_INVALID_VALUE;
  }
  fake_lock();
  bool good = has_device(device);
  if (good) {
    fake_device *it = &fake.devices[device];
    if (values->major != 0) set_capability(it, values->major, values->minor);
    set_if(it, FAKE_CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, values->multiprocessors);
    set_if(it, FAKE_CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, values->shared_per_block);
    set_if(it, FAKE_CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
           values->shared_per_block_optin);
    set_if(it, FAKE_CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR,
           values->shared_per_multiprocessor);
    if (values->name != NULL) snprintf(it->name, sizeof it->name, "%s", values->name);
    if (values->total_memory != 0) it->total_memory = values->total_memory;
  }
  fake_unlock();
  return good ? FAKE_CUDA_SUCCESS : FAKE_CUDA_ERROR_INVALID_VALUE;
}

int pega_fake_driver_set_attribute(int device, int attribute, int value) {
  fake_lock();
  bool good = has_device(device) && attribute >= 1 && attribute < kNumAttributes;
  if (good) fake.devices[device].attributes[attribute] = value;
  fake_unlock();
  return good ? FAKE_CUDA_SUCCESS : FAKE_CUDA_ERROR_INVALID_VALUE;
}

void pega_fake_driver_set_strict_loading(bool strict) {
  fake_lock();
  if (!fake.configured) fake_configure_default();
  fake.strict_loading = strict;
  fake_unlock();
}

void pega_fake_driver_set_quiet(bool quiet) {
  fake_lock();
  if (!fake.configured) fake_configure_default();
  fake.quiet = quiet;
  fake_update_slow();
  fake_unlock();
}
