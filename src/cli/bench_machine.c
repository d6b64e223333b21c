/* SPDX-License-Identifier: Apache-2.0 */
/* What a run was made on. NVML tells of clocks; it is opened at run time, where it is there. */
#include <dlfcn.h>

#include "bench.h"
#include "doctor.h"
#include "gpu.h"

enum { NVML_CLOCK_SM = 1, NVML_CLOCK_MEMORY = 2 };

typedef struct nvml_device *nvml_handle;

static struct {
  bool tried;
  int (*clock)(nvml_handle device, int type, unsigned *mhz); /* NULL: there is none */
  nvml_handle device;
  char driver[96];
} nvml;

static bool has_feature(json_t *features, const char *name) {
  size_t i = 0;
  json_t *one = NULL;
  json_array_foreach(features, i, one) {
    if (strcmp(json_string_value(one), name) == 0) return true;
  }
  return false;
}

json_t *bench_machine(void) {
  json_t *machine = json_object();
  json_t *cpu = cli_doctor_cpu();
  json_t *features = json_object_get(cpu, "features");
  const char *isa = "portable";
  if (has_feature(features, "neon")) isa = "neon";
  if (has_feature(features, "avx2") && has_feature(features, "fma")) isa = "avx2";
  if (has_feature(features, "avx512f") && has_feature(features, "avx512bw") &&
      has_feature(features, "avx512dq") && has_feature(features, "avx512vl")) {
    isa = "avx512";
  }
  cli_json_set(machine, "cpu", json_incref(json_object_get(cpu, "model")));
  cli_json_set(machine, "threads", json_incref(json_object_get(cpu, "threads")));
  cli_json_set(machine, "isa", json_string(isa));
  json_decref(cpu);
  return machine;
}

static void *symbol(void *library, const char *name) {
  return library == NULL ? NULL : dlsym(library, name);
}

/* The device is the driver's number 0, which need not be NVML's. */
static void open_nvml(void) {
  if (nvml.tried) return;
  nvml.tried = true;
  char id[64];
  int (*init)(void) = NULL;
  int (*by_bus)(const char *id, nvml_handle *device) = NULL;
  int (*version)(char *text, unsigned size) = NULL;
  int (*clock)(nvml_handle device, int type, unsigned *mhz) = NULL;
  void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  void *addresses[] = {
      symbol(library, "nvmlInit_v2"), symbol(library, "nvmlDeviceGetHandleByPciBusId_v2"),
      symbol(library, "nvmlSystemGetDriverVersion"), symbol(library, "nvmlDeviceGetClockInfo")};
  memcpy(&init, &addresses[0], sizeof init);
  memcpy(&by_bus, &addresses[1], sizeof by_bus);
  memcpy(&version, &addresses[2], sizeof version);
  memcpy(&clock, &addresses[3], sizeof clock);
  if (init == NULL || init() != 0) return;
  if (version != NULL && version(nvml.driver, (unsigned)sizeof nvml.driver) != 0) {
    nvml.driver[0] = '\0';
  }
  if (by_bus == NULL || clock == NULL || gpu.pci_bus_id == NULL) return;
  if (gpu.pci_bus_id(id, (int)sizeof id, 0) != 0 || by_bus(id, &nvml.device) != 0) return;
  nvml.clock = clock;
}

const char *bench_driver_version(void) {
  open_nvml();
  return nvml.driver[0] == '\0' || gpu.fake ? NULL : nvml.driver;
}

json_t *bench_clocks(void) {
  unsigned sm = 0;
  unsigned memory = 0;
  open_nvml();
  if (gpu.fake || nvml.clock == NULL || nvml.clock(nvml.device, NVML_CLOCK_SM, &sm) != 0 ||
      nvml.clock(nvml.device, NVML_CLOCK_MEMORY, &memory) != 0) {
    return json_null();
  }
  return json_pack("{s:i, s:i}", "sm_mhz", (int)sm, "memory_mhz", (int)memory);
}
