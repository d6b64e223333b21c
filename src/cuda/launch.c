/* SPDX-License-Identifier: Apache-2.0 */
/* The launch. On the way of a prepared kernel: no lock, no allocation, no text, and of the driver the
 * current context and the launch. */
#include <inttypes.h>

#include "argument.h"
#include "core/hot.h"
#include "plan.h"
#include "scratch.h"

enum { kGivenScratchAlignment = 256 };

/* What one launch works on. */
typedef struct launch {
  const pega_cuda_driver *driver;
  pega_kernel *kernel;
  const pega_value *args;
  CUstream stream;
  const pega_prepared *prepared;
  const pega_given_scratch *given; /* or NULL */
} launch;

/* --- where: the context, and the kernel prepared in it --- */

__attribute__((cold, noinline)) static pega_status driver_failed(const launch *call,
                                                                 pega_cuda_device *device,
                                                                 const char *entry, CUresult result,
                                                                 const char *hint,
                                                                 pega_error *error) {
  if (device != NULL) pega_cuda_note_result(device, result, call->kernel->name);
  return pega_cuda_fail(call->kernel->name, entry, result, hint, error);
}

/* Which device a pointer belongs to. A driver may want a context for the question: the first device's
 * then, as an address is known in all of them. */
static pega_status device_of_pointer(const launch *call, CUdeviceptr pointer, int *ordinal,
                                     pega_error *error) {
  const pega_cuda_driver *driver = call->driver;
  const char *name = call->kernel->name;
  CUresult result = driver->cuPointerGetAttribute(ordinal, kPointerDeviceOrdinal, pointer);
  if (result == kCudaErrorInvalidContext) {
    pega_cuda_device *first;
    CUcontext primary;
    pega_cuda_guard guard;
    pega_status status = pega_cuda_device_get(driver, name, 0, &first, error);
    if (status == PEGA_OK) status = pega_cuda_device_primary(driver, name, first, &primary, error);
    if (status == PEGA_OK) status = pega_cuda_enter(driver, name, primary, &guard, error);
    if (status != PEGA_OK) return status;
    result = driver->cuPointerGetAttribute(ordinal, kPointerDeviceOrdinal, pointer);
    status = pega_cuda_leave(driver, name, &guard, PEGA_OK, error);
    if (status != PEGA_OK) return status;
  }
  if (result == kCudaSuccess) return PEGA_OK;
  return driver_failed(
      call, NULL, "cuPointerGetAttribute", result,
      "nothing was launched; the thread has no current context and the first pointer "
      "is no memory of a device: make a context current",
      error);
}

/* The device of a call on pointers without a current context: its stream's, else its first pointer's. */
static pega_status find_device(const launch *call, pega_cuda_device **out, CUcontext *context,
                               pega_error *error) {
  const pega_cuda_driver *driver = call->driver;
  /* 0, 1 and 2 are the default streams, which belong to whatever context is current. */
  if ((uintptr_t)call->stream > 2) {
    CUresult result = driver->cuStreamGetCtx(call->stream, context);
    if (result != kCudaSuccess) {
      return driver_failed(call, NULL, "cuStreamGetCtx", result,
                           "nothing was launched; the thread has no current context and the stream "
                           "names none",
                           error);
    }
    pega_cuda_guard guard;
    CUdevice handle = 0;
    pega_status status = pega_cuda_enter(driver, call->kernel->name, *context, &guard, error);
    if (status != PEGA_OK) return status;
    result = driver->cuCtxGetDevice(&handle);
    if (result != kCudaSuccess) {
      status = driver_failed(call, NULL, "cuCtxGetDevice", result, "nothing was launched", error);
    }
    status = pega_cuda_leave(driver, call->kernel->name, &guard, status, error);
    if (status != PEGA_OK) return status;
    return pega_cuda_device_get(driver, call->kernel->name, handle, out, error);
  }
  int ordinal = 0;
  if (call->kernel->pointer_arg >= 0) {
    pega_status status =
        device_of_pointer(call, call->args[call->kernel->pointer_arg].as.u64, &ordinal, error);
    if (status != PEGA_OK) return status;
  }
  return pega_cuda_device_get(driver, call->kernel->name, ordinal, out, error);
}

#ifdef PEGA_MODULE
#define PREPARE "call it once"
#else
#define PREPARE "call pega_function_prepare()"
#endif

static pega_status refuse_capture(const launch *call, int32_t ordinal, pega_error *error) {
  pega_error_set(error, PEGA_ERROR_UNAVAILABLE, NULL,
                 "%s: nothing was launched: it is not prepared on cuda:%" PRId32
                 " and the stream is being captured, during which nothing may be loaded; " PREPARE
                 " before the capture (the capture is still valid)",
                 call->kernel->name, ordinal);
  if (error != NULL) error->code = kCudaErrorStreamCaptureUnsupported;
  return PEGA_ERROR_UNAVAILABLE;
}

/* Under the context that the launch will be in: a default stream is one of it. */
static pega_status prepare_current(launch *call, pega_cuda_device *device, CUcontext context,
                                   pega_error *error) {
  int capturing = kCaptureStatusNone;
  CUresult result = call->driver->cuStreamIsCapturing(call->stream, &capturing);
  if (result == kCudaErrorStreamCaptureImplicit ||
      (result == kCudaSuccess && capturing != kCaptureStatusNone)) {
    return refuse_capture(call, device->ordinal, error);
  }
  if (result != kCudaSuccess) {
    return driver_failed(call, device, "cuStreamIsCapturing", result,
                         "nothing was launched; is it a stream of this context?", error);
  }
  return pega_kernel_prepare(call->kernel, call->driver, device, context, &call->prepared, error);
}

static const pega_prepared *find_in(const launch *call, CUcontext context) {
  const pega_prepared *at = atomic_load_explicit(&call->kernel->prepared, memory_order_acquire);
  while (at != NULL && (at->context != context || !pega_prepared_is_there(call->driver, at))) {
    at = at->next;
  }
  return at;
}

/* The device's current stream, for a kernel that is given none. */
static pega_status take_stream(launch *call, int32_t ordinal, pega_error *error) {
  if (call->kernel->stream_arg >= 0) return PEGA_OK;
  void *stream;
  pega_status status = pega_stream_get((DLDevice){kDLCUDA, ordinal}, &stream, error);
  if (status == PEGA_OK) call->stream = stream;
  return status;
}

/* Finds out where a launch goes and prepares there if need be. `current` is the thread's context,
 * which may be NULL. */
__attribute__((cold, noinline)) static pega_status locate(launch *call, CUcontext current,
                                                          int32_t ordinal, pega_error *error) {
  const pega_cuda_driver *driver = call->driver;
  const char *name = call->kernel->name;
  pega_cuda_device *device = NULL;
  CUcontext context = NULL;
  pega_status status = PEGA_OK;
  if (current != NULL) {
    CUdevice handle = 0;
    CUresult result = driver->cuCtxGetDevice(&handle);
    if (result != kCudaSuccess) {
      return driver_failed(call, NULL, "cuCtxGetDevice", result, "nothing was launched", error);
    }
    /* The driver's handle of a device is its ordinal. */
    if (ordinal < 0 || ordinal == handle) {
      ordinal = handle;
      context = current;
    }
  }
  if (ordinal >= 0) {
    status = pega_cuda_device_get(driver, name, ordinal, &device, error);
  } else {
    status = find_device(call, &device, &context, error);
  }
  if (status != PEGA_OK) return status;
  if (pega_cuda_is_sticky(device)) return pega_cuda_refuse_sticky(name, device, error);
  status = take_stream(call, device->ordinal, error);
  if (status != PEGA_OK) return status;
  CUcontext primary;
  status = pega_cuda_device_primary(driver, name, device, &primary, error);
  if (status != PEGA_OK) return status;
  if (context == NULL) context = primary;
  call->prepared = find_in(call, context);
  if (call->prepared != NULL) return PEGA_OK;
  pega_cuda_guard guard;
  status = pega_cuda_enter(driver, name, context, &guard, error);
  if (status != PEGA_OK) return status;
  status = prepare_current(call, device, context, error);
  return pega_cuda_leave(driver, name, &guard, status, error);
}

/* Finds what is prepared for the thread's context, or, where that is none or another device's, for the
 * primary context of the call's device. */
static inline const pega_prepared *find(const launch *call, CUcontext current, int32_t ordinal) {
  const pega_prepared *first = atomic_load_explicit(&call->kernel->prepared, memory_order_acquire);
  if (current != NULL) {
    for (const pega_prepared *at = first; at != NULL; at = at->next) {
      if (at->context == current && (ordinal < 0 || at->device->ordinal == ordinal) &&
          pega_prepared_is_there(call->driver, at)) {
        return at;
      }
    }
  }
  if (ordinal < 0) return NULL;
  /* A current context of the device itself that is not the primary one is prepared on its own. */
  for (const pega_prepared *at = first; at != NULL; at = at->next) {
    if (!at->primary || at->device->ordinal != ordinal) continue;
    if (current == NULL) return at;
    CUdevice handle = 0;
    bool other = call->driver->cuCtxGetDevice(&handle) == kCudaSuccess && handle != ordinal;
    return other ? at : NULL;
  }
  return NULL;
}

/* --- what: the variant, its grid, its arguments --- */

__attribute__((cold, noinline)) static pega_status no_variant(const launch *call,
                                                              pega_error *error) {
  const pega_prepared *prepared = call->prepared;
  return pega_error_set(error, PEGA_ERROR_NOT_FOUND, NULL,
                        "%s: nothing was launched: none of the %" PRId32
                        " variants for %s takes these arguments; the first wants %s",
                        call->kernel->name, prepared->num_variants,
                        prepared->variants[0].variant->target.name,
                        prepared->variants[0].variant->conditions[0].text);
}

/* Whether condition `index` of a variant holds. */
static inline pega_status holds(const launch *call, const pega_prepared_variant *candidate,
                                int32_t index, bool *out, pega_error *error) {
  const pega_step *step = &candidate->conditions[index];
  int64_t value;
  if (step->compare != 0 && pega_step_number(step, call->args, &value)) {
    *out = step->compare == kOpLe ? value <= (int64_t)step->limit : value == (int64_t)step->limit;
    return PEGA_OK;
  }
  pega_status status = pega_launch_evaluate(
      call->kernel, "when", &candidate->variant->conditions[index], call->args, &value, error);
  *out = status == PEGA_OK && value != 0;
  return status;
}

static inline pega_status choose(const launch *call, const pega_prepared_variant **out,
                                 pega_error *error) {
  for (int32_t i = 0; i < call->prepared->num_variants; ++i) {
    const pega_prepared_variant *candidate = &call->prepared->variants[i];
    bool fits = true;
    for (int32_t c = 0; c < candidate->num_conditions && fits; ++c) {
      pega_status status = holds(call, candidate, c, &fits, error);
      if (status != PEGA_OK) return status;
    }
    if (fits) {
      *out = candidate;
      return PEGA_OK;
    }
  }
  return no_variant(call, error);
}

__attribute__((cold, noinline)) static pega_status bad_grid(const launch *call, int axis,
                                                            const char *text, int64_t size,
                                                            uint32_t limit, pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_RANGE, NULL,
                        "%s: nothing was launched: grid %c = %s = %" PRId64
                        ": expected 0 to %" PRIu32,
                        call->kernel->name, "xyz"[axis], text, size, limit);
}

static const char *const axis_names[] = {"grid x", "grid y", "grid z"};

/* `empty` tells of a grid with nothing in it. */
static inline pega_status measure(const launch *call, const pega_prepared_variant *chosen,
                                  unsigned grid[3], bool *empty, pega_error *error) {
  *empty = false;
  memcpy(grid, chosen->fixed_grid, 3 * sizeof *grid);
  for (int i = 0; i < chosen->num_grid; ++i) {
    const pega_step *step = &chosen->grid[i];
    const int axis = step->axis;
    int64_t size;
    if (__builtin_expect(!pega_step_number(step, call->args, &size), 0)) {
      pega_status status = pega_launch_evaluate(
          call->kernel, axis_names[axis], &chosen->variant->grid[axis], call->args, &size, error);
      if (status != PEGA_OK) return status;
    }
    if (__builtin_expect(size < 0 || size > chosen->max_grid[axis], 0)) {
      return bad_grid(call, axis, chosen->variant->grid[axis].text, size, chosen->max_grid[axis],
                      error);
    }
    grid[axis] = (unsigned)size;
    if (size == 0) *empty = true;
  }
  return PEGA_OK;
}

/* --- the launch itself; the context is current --- */

__attribute__((cold, noinline)) static pega_status bad_cluster(const launch *call, int axis,
                                                               unsigned size, uint32_t cluster,
                                                               pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_RANGE, NULL,
                        "%s: nothing was launched: %s = %u: expected a multiple of %" PRIu32
                        ", the cluster's size",
                        call->kernel->name, axis_names[axis], size, cluster);
}

/* What a refused launch is likely to mean. */
static const char *hint(CUresult result) {
  switch (result) {
    case kCudaErrorCooperativeLaunchTooLarge:
      return "nothing was launched: all blocks of a cooperative grid must be resident at once";
    case kCudaErrorInvalidValue:
    case kCudaErrorInvalidHandle:
    case kCudaErrorInvalidContext:
    case kCudaErrorLaunchOutOfResources:
      return "nothing was launched; do the stream and the current context belong together, and was no "
             "context reset since the kernel was prepared?";
    default:
      return "the error may be that of an earlier launch on the device";
  }
}

__attribute__((cold)) pega_status pega_launch_failed(pega_cuda_device *device, const char *name,
                                                     const char *entry, CUresult result,
                                                     pega_error *error) {
  pega_cuda_note_result(device, result, name);
  return pega_cuda_fail(name, entry, result, hint(result), error);
}

__attribute__((cold)) pega_status pega_launch_failed_midway(const char *function, int launched,
                                                            pega_status status, pega_error *error) {
  if (error == NULL || launched == 0) return status;
  pega_error why;
  pega_error_init(&why);
  pega_error_copy(error, &why);
  pega_error_set(
      error, status, NULL,
      "%s: %d launches of this call were queued before one failed: what it writes and a capture that "
      "it is in are not to be used: %s",
      function, launched, pega_error_message(&why));
  error->code = why.code;
  pega_error_clear(&why);
  return status;
}

/* What was not launched: recorded, or refused. */
__attribute__((cold, noinline)) static pega_status not_launched(
    const launch *call, const pega_prepared_variant *chosen, const unsigned grid[3],
    const pega_param_block *block, CUresult result, pega_error *error) {
#ifndef PEGA_MODULE
  if (result == kLaunchRecorded) {
    return pega_plan_record(call->driver, call->kernel->name, call->prepared, chosen, grid,
                            block->addresses, error);
  }
#else
  (void)grid;
  (void)block;
#endif
  return pega_launch_failed(call->prepared->device, call->kernel->name,
                            chosen->num_attributes == 0 ? "cuLaunchKernel" : "cuLaunchKernelEx",
                            result, error);
}

static inline pega_status submit(const launch *call, const pega_prepared_variant *chosen,
                                 const unsigned grid[3], pega_param_block *block,
                                 pega_error *error) {
  const pega_cuda_driver *driver = call->driver;
  CUresult result;
  if (chosen->num_attributes == 0) {
    result = driver->cuLaunchKernel(chosen->function, grid[0], grid[1], grid[2], chosen->block[0],
                                    chosen->block[1], chosen->block[2], chosen->shared,
                                    call->stream, (void **)(uintptr_t)block->addresses, NULL);
  } else {
    for (int axis = 0; axis < 3; ++axis) {
      const uint32_t cluster = chosen->variant->cluster[axis];
      if (grid[axis] % cluster != 0) return bad_cluster(call, axis, grid[axis], cluster, error);
    }
    CUlaunchAttribute attributes[3];
    memcpy(attributes, chosen->attributes, sizeof attributes);
    const CUlaunchConfig config = {{grid[0], grid[1], grid[2]},
                                   {chosen->block[0], chosen->block[1], chosen->block[2]},
                                   chosen->shared,
                                   call->stream,
                                   attributes,
                                   chosen->num_attributes};
    result = driver->cuLaunchKernelEx(&config, chosen->function,
                                      (void **)(uintptr_t)block->addresses, NULL);
  }
  if (__builtin_expect(result != kCudaSuccess, 0)) {
    return not_launched(call, chosen, grid, block, result, error);
  }
  pega_cuda_note_good(call->prepared->device, call->kernel->name);
  return PEGA_OK;
}

__attribute__((noinline)) static pega_status submit_with_scratch(
    const launch *call, const pega_prepared_variant *chosen, const unsigned grid[3],
    pega_param_block *block, pega_error *error) {
  const pega_kernel_variant *variant = chosen->variant;
  pega_cuda_device *device = call->prepared->device;
  pega_scratch_memory global;
  pega_scratch_memory profile;
  const uint64_t ctas = (uint64_t)grid[0] * grid[1] * grid[2];
  uint64_t wanted;
  if (call->given != NULL && variant->profile_scratch.size == 0 &&
      variant->global_scratch.alignment <= kGivenScratchAlignment &&
      !__builtin_mul_overflow(variant->global_scratch.size, ctas, &wanted) &&
      wanted <= call->given->size) {
    pega_status filled =
        pega_params_fill(call->kernel, chosen, call->driver, call->args,
                         (CUdeviceptr)(uintptr_t)call->given->memory, 0, block, error);
    return filled == PEGA_OK ? submit(call, chosen, grid, block, error) : filled;
  }
  pega_status status =
      pega_scratch_acquire(call->kernel, call->driver, device, &variant->global_scratch, ctas,
                           call->stream, &global, error);
  if (status != PEGA_OK) return status;
  status = pega_scratch_acquire(call->kernel, call->driver, device, &variant->profile_scratch, ctas,
                                call->stream, &profile, error);
  if (status == PEGA_OK) {
    status = pega_params_fill(call->kernel, chosen, call->driver, call->args,
                              (CUdeviceptr)(uintptr_t)global.address,
                              (CUdeviceptr)(uintptr_t)profile.address, block, error);
    if (status == PEGA_OK) status = submit(call, chosen, grid, block, error);
    status = pega_scratch_release(call->kernel->name, call->driver, device, call->stream, &profile,
                                  status, error);
  }
  return pega_scratch_release(call->kernel->name, call->driver, device, call->stream, &global,
                              status, error);
}

PEGA_HOT static pega_status launch_prepared(const launch *call, pega_error *error) {
  pega_param_block block;
  const pega_prepared_variant *chosen = NULL;
  unsigned grid[3];
  bool empty;
  pega_status status = choose(call, &chosen, error);
  if (status != PEGA_OK) return status;
  status = measure(call, chosen, grid, &empty, error);
  if (status != PEGA_OK || empty) return status;
  if (chosen->scratch) {
    return submit_with_scratch(call, chosen, grid, &block, error);
  }
  status = pega_params_fill(call->kernel, chosen, call->driver, call->args, 0, 0, &block, error);
  return status == PEGA_OK ? submit(call, chosen, grid, &block, error) : status;
}

/* With another context, or none, current. */
static pega_status launch_elsewhere(const launch *call, pega_error *error) {
  pega_cuda_guard guard;
  pega_status status =
      pega_cuda_enter(call->driver, call->kernel->name, call->prepared->context, &guard, error);
  if (status != PEGA_OK) return status;
  status = launch_prepared(call, error);
  return pega_cuda_leave(call->driver, call->kernel->name, &guard, status, error);
}

/* The device of the call's tensors; unchanged for a call on pointers. */
static pega_status read_device(const launch *call, int32_t *out, pega_error *error) {
  if (call->kernel->tensor_arg < 0) return PEGA_OK;
  int32_t index = call->kernel->tensor_arg;
  if (call->args[index].kind == PEGA_NONE) {
    const pega_signature *signature = &call->kernel->function->signature;
    while (index < signature->num_params && call->args[index].kind != PEGA_TENSOR) ++index;
    if (index == signature->num_params) return PEGA_OK;
  }
  const DLTensor *tensor = pega_value_as_tensor(&call->args[index]);
  const int type = (int)tensor->device.device_type;
  if (type != kDLCUDA && type != kDLCUDAManaged) {
    char name[PEGA_NAME_SIZE];
    return pega_error_set(
        error, PEGA_ERROR_DEVICE, NULL,
        "%s: argument %" PRId32 " '%s': expected a tensor on a cuda device, got %s",
        call->kernel->name, index, call->kernel->function->signature.params[index].name,
        pega_device_name(tensor->device, name));
  }
  *out = tensor->device.device_id;
  return PEGA_OK;
}

pega_status pega_kernel_launch(pega_kernel *kernel, const pega_value *args, pega_error *error) {
  return pega_kernel_launch_on(kernel, args, -1, NULL, error);
}

PEGA_HOT pega_status pega_kernel_launch_on(pega_kernel *kernel, const pega_value *args,
                                           int32_t ordinal, const pega_given_scratch *given,
                                           pega_error *error) {
  launch call = {.kernel = kernel, .args = args, .given = given};
  pega_status status = pega_cuda_driver_get(&call.driver, error);
  if (__builtin_expect(status != PEGA_OK, 0)) return status;
  status = read_device(&call, &ordinal, error);
  if (status != PEGA_OK) return status;
  if (kernel->stream_arg >= 0) {
    call.stream = (CUstream)(uintptr_t)args[kernel->stream_arg].as.u64;
  }
  CUcontext current = NULL;
  CUresult result = call.driver->cuCtxGetCurrent(&current);
  if (__builtin_expect(result != kCudaSuccess, 0)) {
    return driver_failed(&call, NULL, "cuCtxGetCurrent", result, "nothing was launched", error);
  }
  call.prepared = find(&call, current, ordinal);
  status = __builtin_expect(call.prepared == NULL, 0)
               ? locate(&call, current, ordinal, error)
               : take_stream(&call, call.prepared->device->ordinal, error);
  if (status != PEGA_OK) return status;
  if (pega_cuda_is_sticky(call.prepared->device)) {
    return pega_cuda_refuse_sticky(kernel->name, call.prepared->device, error);
  }
  if (__builtin_expect(call.prepared->context == current, 1)) return launch_prepared(&call, error);
  return launch_elsewhere(&call, error);
}

pega_status pega_kernels_ready(pega_kernel *const *kernels, int count, CUstream stream,
                               int32_t ordinal, pega_error *error) {
  launch call = {.stream = stream};
  CUcontext current = NULL;
  pega_status status = pega_cuda_driver_get(&call.driver, error);
  if (status != PEGA_OK) return status;
  CUresult result = call.driver->cuCtxGetCurrent(&current);
  for (int i = 0; i < count && status == PEGA_OK; ++i) {
    call.kernel = kernels[i];
    if (result != kCudaSuccess) {
      return driver_failed(&call, NULL, "cuCtxGetCurrent", result, "nothing was launched", error);
    }
    if (find(&call, current, ordinal) == NULL) status = locate(&call, current, ordinal, error);
  }
  return status;
}
