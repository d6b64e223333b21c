/* SPDX-License-Identifier: Apache-2.0 */
/* Proves a pack on a device: runs its golden cases and compares what they write. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "argument.h"

enum { kMaxArgs = 64 };

/* One argument's memory. */
typedef struct golden_memory {
  CUdeviceptr device;
  void *host;
  size_t bytes;
  int64_t elements;
  DLTensor tensor;
} golden_memory;

typedef struct golden_run {
  const pega_cuda_driver *driver;
  pega_cuda_device *device;
  pega_pack *pack;
  pega_kernel *kernel;
  const pega_golden *golden;
  void (*report)(void *user, const pega_pack_test_result *result);
  void *user;
  golden_memory memory[kMaxArgs];
  pega_value args[kMaxArgs];
} golden_run;

static pega_status driver_failed(const golden_run *run, const char *call, CUresult result,
                                 pega_error *error) {
  pega_cuda_note_result(run->device, result, run->kernel->name);
  return pega_cuda_fail(run->kernel->name, call, result, run->golden->name, error);
}

/* --- elements --- */

static double read_element(DLDataType dtype, const void *memory, int64_t index) {
  const int bytes = dtype.bits / 8;
  const unsigned char *at = (const unsigned char *)memory + index * bytes;
  uint64_t bits = 0;
  memcpy(&bits, at, (size_t)bytes);
  if (dtype.code == kDLBfloat) return pega_float_unpack16((uint16_t)bits, 8, 7);
  if (dtype.code == kDLFloat && dtype.bits == 16) return pega_float_unpack16((uint16_t)bits, 5, 10);
  if (dtype.code == kDLFloat && dtype.bits == 32) {
    float value;
    memcpy(&value, at, sizeof value);
    return (double)value;
  }
  if (dtype.code == kDLFloat) {
    double value;
    memcpy(&value, at, sizeof value);
    return value;
  }
  if (dtype.code == kDLInt && bytes < 8 && (bits >> (dtype.bits - 1) & 1) != 0) {
    bits |= ~UINT64_C(0) << dtype.bits;
  }
  return dtype.code == kDLInt ? (double)(int64_t)bits : (double)bits;
}

static void write_element(DLDataType dtype, void *memory, int64_t index, double value) {
  const int bytes = dtype.bits / 8;
  unsigned char *at = (unsigned char *)memory + index * bytes;
  uint64_t bits;
  if (dtype.code == kDLBfloat) {
    bits = pega_float_pack16(value, 8, 7);
  } else if (dtype.code == kDLFloat && dtype.bits == 16) {
    bits = pega_float_pack16(value, 5, 10);
  } else if (dtype.code == kDLFloat && dtype.bits == 32) {
    float single = (float)value;
    uint32_t single_bits;
    memcpy(&single_bits, &single, sizeof single);
    bits = single_bits;
  } else if (dtype.code == kDLFloat) {
    memcpy(&bits, &value, sizeof bits);
  } else {
    bits = value < 0 ? (uint64_t)(int64_t)floor(value) : (uint64_t)floor(value);
  }
  memcpy(at, &bits, (size_t)bytes);
}

static uint64_t splitmix64(uint64_t z) {
  z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
  return z ^ (z >> 31);
}

/* Fills host memory as docs/packs.md says. */
static pega_status fill(const golden_run *run, const pega_golden_arg *arg, golden_memory *memory,
                        pega_error *error) {
  if (arg->fill == kFillNone) {
    memset(memory->host, 0xff, memory->bytes);
    return PEGA_OK;
  }
  if (arg->fill == kFillBlob) {
    const void *bytes;
    size_t size;
    pega_status status = pega_pack_blob_bytes(run->pack, arg->fill_blob, &bytes, &size, error);
    if (status != PEGA_OK) return status;
    if (size != memory->bytes) {
      return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                            "%s: golden '%s': a blob of %zu bytes cannot fill %zu",
                            run->kernel->name, run->golden->name, size, memory->bytes);
    }
    memcpy(memory->host, bytes, size);
    return PEGA_OK;
  }
  for (int64_t i = 0; i < memory->elements; ++i) {
    double value = arg->low;
    if (arg->fill == kFillUniform) {
      uint64_t random =
          splitmix64(arg->seed + ((uint64_t)i + 1) * UINT64_C(0x9E3779B97F4A7C15)) >> 11;
      value = arg->low + (arg->high - arg->low) * ((double)random * 0x1p-53);
    }
    write_element(arg->dtype, memory->host, i, value);
  }
  return PEGA_OK;
}

/* --- one case --- */

static pega_status place(golden_run *run, int32_t index, const pega_golden_arg *arg,
                         pega_error *error) {
  golden_memory *memory = &run->memory[index];
  int64_t elements = 1;
  for (int32_t i = 0; i < arg->rank; ++i) elements *= arg->shape[i]; /* capped by the reader */
  memory->elements = elements;
  memory->bytes = (size_t)elements * (size_t)(arg->dtype.bits / 8);
  const size_t room = memory->bytes == 0 ? 16 : memory->bytes;
  memory->host = malloc(room);
  if (memory->host == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "%s: no memory for %zu bytes",
                          run->kernel->name, room);
  }
  pega_status status = fill(run, arg, memory, error);
  if (status != PEGA_OK) return status;
  CUresult result = run->driver->cuMemAlloc(&memory->device, room);
  if (result != kCudaSuccess) {
    memory->device = 0;
    return driver_failed(run, "cuMemAlloc", result, error);
  }
  if (memory->bytes > 0) {
    result = run->driver->cuMemcpyHtoD(memory->device, memory->host, memory->bytes);
    if (result != kCudaSuccess) return driver_failed(run, "cuMemcpyHtoD", result, error);
  }
  const pega_param *param = &run->kernel->function->signature.params[index];
  if (param->type == PEGA_TYPE_TENSOR) {
    memory->tensor = (DLTensor){(void *)(uintptr_t)memory->device,
                                {kDLCUDA, run->device->ordinal},
                                arg->rank,
                                arg->dtype,
                                (int64_t *)(uintptr_t)arg->shape,
                                NULL,
                                0};
    run->args[index] = pega_value_tensor(&memory->tensor);
  } else {
    run->args[index] = pega_value_pointer((void *)(uintptr_t)memory->device);
  }
  return PEGA_OK;
}

static pega_status place_all(golden_run *run, pega_error *error) {
  const pega_signature *signature = &run->kernel->function->signature;
  int32_t next = 0;
  for (int32_t i = 0; i < signature->num_params; ++i) {
    if (signature->params[i].type == PEGA_TYPE_STREAM) {
      run->args[i] = pega_value_pointer(NULL);
      continue;
    }
    const pega_golden_arg *arg = &run->golden->args[next++];
    pega_status status = PEGA_OK;
    switch (arg->kind) {
      case PEGA_TENSOR:
        status = place(run, i, arg, error);
        break;
      case PEGA_INT:
        run->args[i] = pega_value_int(arg->as.i64);
        break;
      case PEGA_BOOL:
        run->args[i] = pega_value_bool(arg->as.i64 != 0);
        break;
      default:
        run->args[i] = pega_value_float(arg->as.f64);
    }
    if (status != PEGA_OK) return status;
  }
  return PEGA_OK;
}

static pega_status compare(const golden_run *run, int32_t index, const pega_golden_arg *arg,
                           pega_error *error) {
  const golden_memory *memory = &run->memory[index];
  const void *expected;
  size_t size;
  pega_status status = pega_pack_blob_bytes(run->pack, arg->expect_blob, &expected, &size, error);
  if (status != PEGA_OK) return status;
  if (size != memory->bytes) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          "%s: golden '%s': %zu bytes are expected of %zu", run->kernel->name,
                          run->golden->name, size, memory->bytes);
  }
  pega_pack_test_result result = {run->kernel->name,
                                  run->golden->name,
                                  run->kernel->function->signature.params[index].name,
                                  memory->elements,
                                  0,
                                  0,
                                  arg->atol,
                                  arg->rtol};
  int64_t first = -1;
  for (int64_t i = 0; i < memory->elements; ++i) {
    const double got = read_element(arg->dtype, memory->host, i);
    const double want = read_element(arg->dtype, expected, i);
    /* Equal first: infinities have no difference. */
    const bool same = got == want || (isnan(got) && isnan(want));
    const double difference = same ? 0 : fabs(got - want);
    const bool agree = same || difference <= arg->atol + arg->rtol * fabs(want);
    /* NaN where a number is wanted is off by more than any number. */
    const double shown = isnan(difference) ? (double)INFINITY : difference;
    if (shown > result.max_error) result.max_error = shown;
    if (!agree) {
      if (first < 0) first = i;
      ++result.mismatches;
    }
  }
  if (run->report != NULL) run->report(run->user, &result);
  if (first < 0) return PEGA_OK;
  return pega_error_set(
      error, PEGA_ERROR_CALLEE, "AssertionError",
      "%s on cuda:%" PRId32 ": golden '%s': %" PRId64 " of %" PRId64
      " elements of '%s' are off by more than %g + %g * |expected|; the first is [%" PRId64
      "]: expected %.9g, got %.9g",
      result.function, run->device->ordinal, result.golden, result.mismatches, result.elements,
      result.argument, arg->atol, arg->rtol, first, read_element(arg->dtype, expected, first),
      read_element(arg->dtype, memory->host, first));
}

static pega_status compare_all(const golden_run *run, pega_error *error) {
  const pega_signature *signature = &run->kernel->function->signature;
  pega_status status = PEGA_OK;
  int32_t next = 0;
  for (int32_t i = 0; i < signature->num_params; ++i) {
    if (signature->params[i].type == PEGA_TYPE_STREAM) continue;
    const pega_golden_arg *arg = &run->golden->args[next++];
    if (arg->kind != PEGA_TENSOR || arg->expect_blob < 0) continue;
    const golden_memory *memory = &run->memory[i];
    CUresult result = memory->bytes == 0
                          ? kCudaSuccess
                          : run->driver->cuMemcpyDtoH(memory->host, memory->device, memory->bytes);
    if (result != kCudaSuccess) return driver_failed(run, "cuMemcpyDtoH", result, error);
    /* Every output is reported, the first failure is returned. */
    pega_status compared = compare(run, i, arg, status == PEGA_OK ? error : NULL);
    if (status == PEGA_OK) status = compared;
  }
  return status;
}

static pega_status launch_and_compare(golden_run *run, pega_error *error) {
  pega_status status = place_all(run, error);
  if (status == PEGA_OK) status = pega_kernel_launch(run->kernel, run->args, error);
  if (status != PEGA_OK) return status;
  CUresult result = run->driver->cuCtxSynchronize();
  if (result != kCudaSuccess) return driver_failed(run, "cuCtxSynchronize", result, error);
  return compare_all(run, error);
}

static pega_status run_case(golden_run *run, pega_error *error) {
  memset(run->memory, 0, sizeof run->memory);
  memset(run->args, 0, sizeof run->args);
  pega_status status = launch_and_compare(run, error);
  for (int i = 0; i < kMaxArgs; ++i) {
    if (run->memory[i].device != 0) {
      CUresult result = run->driver->cuMemFree(run->memory[i].device);
      if (result != kCudaSuccess && run->driver->cuMemFree(run->memory[i].device) != kCudaSuccess &&
          status == PEGA_OK) {
        status = driver_failed(run, "cuMemFree", result, error);
      }
    }
    free(run->memory[i].host);
  }
  return status;
}

/* --- the pack --- */

static pega_status run_function(golden_run *run, int32_t index, int64_t *num_cases,
                                pega_error *error) {
  const pega_pack_function *function;
  pega_status status = pega_pack_describe(run->pack, index, &function, error);
  if (status == PEGA_OK) status = pega_kernel_get(run->pack, function, &run->kernel, error);
  if (status != PEGA_OK) return status;
  for (int32_t i = 0; i < function->num_golden; ++i) {
    run->golden = &function->golden[i];
    pega_status ran = run_case(run, status == PEGA_OK ? error : NULL);
    if (status == PEGA_OK) status = ran;
    ++*num_cases;
    if (pega_cuda_is_sticky(run->device)) break;
  }
  pega_kernel_release(run->kernel);
  return status;
}

static pega_status run_all(golden_run *run, pega_error *error) {
  pega_status status = PEGA_OK;
  int64_t num_cases = 0;
  for (int32_t i = 0; i < pega_pack_num_functions(run->pack); ++i) {
    pega_status ran = run_function(run, i, &num_cases, status == PEGA_OK ? error : NULL);
    if (status == PEGA_OK) status = ran;
    if (pega_cuda_is_sticky(run->device)) break;
  }
  if (status == PEGA_OK && num_cases == 0) {
    return pega_error_set(error, PEGA_ERROR_NOT_FOUND, NULL,
                          "pack '%s' has no golden case: nothing was proved",
                          pega_pack_name(run->pack));
  }
  return status;
}

pega_status pega_pack_test(pega_pack *pack, DLDevice device,
                           void (*report)(void *user, const pega_pack_test_result *result),
                           void *user, pega_error *error) {
  static const char where[] = "pega_pack_test";
  if (pack == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL, "%s: pack is NULL", where);
  }
  golden_run *run = calloc(1, sizeof *run);
  if (run == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "%s: no memory", where);
  }
  run->pack = pack;
  run->report = report;
  run->user = user;
  CUcontext primary;
  pega_cuda_guard guard;
  pega_status status = pega_cuda_driver_get(&run->driver, error);
  if (status == PEGA_OK) {
    status = pega_cuda_device_of(run->driver, where, device, &run->device, error);
  }
  if (status == PEGA_OK && pega_cuda_is_sticky(run->device)) {
    status = pega_cuda_refuse_sticky(where, run->device, error);
  }
  if (status == PEGA_OK) {
    status = pega_cuda_device_primary(run->driver, where, run->device, &primary, error);
  }
  if (status == PEGA_OK) {
    status = pega_cuda_enter(run->driver, where, primary, &guard, error);
    if (status == PEGA_OK) {
      status = run_all(run, error);
      status = pega_cuda_leave(run->driver, where, &guard, status, error);
    }
  }
  free(run);
  return status;
}
