/* SPDX-License-Identifier: Apache-2.0 */
/* From a described kernel to a prepared one. The launch is in launch.c. */
#include "kernel.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/text.h"
#include "module.h"

/* Guards the lists of kernels, every list of prepared ones (read without it), and modules. */
static pega_cuda_mutex kernels_mutex = PEGA_CUDA_MUTEX_INIT;
static pega_kernel *kernels[1024]; /* by description */
atomic_uint pega_cuda_closings;

static pega_kernel **bucket_of(const pega_pack_function *function) {
  return &kernels[(uintptr_t)function / sizeof *function % (sizeof kernels / sizeof *kernels)];
}

/* --- one kernel for each function of a pack --- */

static void find_arguments(pega_kernel *kernel) {
  const pega_signature *signature = &kernel->function->signature;
  kernel->stream_arg = kernel->tensor_arg = kernel->pointer_arg = -1;
  for (int32_t i = signature->num_params - 1; i >= 0; --i) {
    const pega_param *param = &signature->params[i];
    bool optional = (param->flags & PEGA_PARAM_OPTIONAL) != 0;
    if (param->type == PEGA_TYPE_STREAM) kernel->stream_arg = i;
    if (param->type == PEGA_TYPE_TENSOR) {
      const bool held = kernel->tensor_arg >= 0 &&
                        (signature->params[kernel->tensor_arg].flags & PEGA_PARAM_OPTIONAL) == 0;
      if (!optional || !held) kernel->tensor_arg = i;
    }
    if (param->type == PEGA_TYPE_POINTER && !optional) kernel->pointer_arg = i;
  }
}

static void forget_prepared(pega_kernel *kernel) {
  pega_prepared *at = atomic_exchange_explicit(&kernel->prepared, NULL, memory_order_acq_rel);
  while (at != NULL) {
    pega_prepared *gone = at;
    at = gone->next;
    free(gone);
  }
}

/* At the end of a pack: the first of its kernels. */
static void free_kernels(void *first) {
  pega_cuda_lock(&kernels_mutex);
  for (pega_kernel *kernel = first, *sibling; kernel != NULL; kernel = sibling) {
    pega_kernel **at = bucket_of(kernel->function);
    while (*at != kernel) at = &(*at)->next;
    *at = kernel->next;
    sibling = kernel->sibling;
    forget_prepared(kernel);
    free(kernel);
  }
  pega_cuda_unlock(&kernels_mutex);
}

pega_status pega_kernel_get(pega_pack *pack, const pega_pack_function *function, pega_kernel **out,
                            pega_error *error) {
  const char *name = pega_cuda_intern(function->name);
  pega_kernel *made = calloc(1, sizeof *made);
  if (name == NULL || made == NULL) {
    free(made);
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory for kernel '%s'",
                          function->name);
  }
  pega_cuda_lock(&kernels_mutex);
  pega_kernel **first = bucket_of(function);
  pega_kernel *at = *first;
  while (at != NULL && at->function != function) at = at->next;
  if (at == NULL) {
    void **kept = pega_pack_keep(pack, free_kernels);
    at = made;
    at->pack = pack;
    at->function = function;
    at->name = name;
    find_arguments(at);
    atomic_init(&at->prepared, NULL);
    at->next = *first;
    *first = at;
    at->sibling = *kept;
    *kept = at;
    made = NULL;
  }
  pega_cuda_unlock(&kernels_mutex);
  free(made);
  pega_pack_retain(pack);
  *out = at;
  return PEGA_OK;
}

void pega_kernel_release(pega_kernel *kernel) { pega_pack_release(kernel->pack); }

pega_status pega_cuda_close(pega_error *error) {
  /* Never opened: nothing to do. In a child of fork what there is belongs to the parent. */
  const pega_cuda_driver *driver = pega_cuda_driver_opened();
  if (driver == NULL) return PEGA_OK;
  pega_cuda_lock(&kernels_mutex);
  atomic_fetch_add_explicit(&pega_cuda_closings, 1, memory_order_relaxed);
  for (size_t i = 0; i < sizeof kernels / sizeof *kernels; ++i) {
    for (pega_kernel *at = kernels[i]; at != NULL; at = at->next) forget_prepared(at);
  }
  pega_status status = pega_modules_unload(driver, error);
  pega_cuda_unlock(&kernels_mutex);
  return status == PEGA_OK ? pega_cuda_devices_release(driver, error) : status;
}

/* --- preparing --- */

/* What one attempt to prepare works on. */
typedef struct attempt {
  const pega_cuda_driver *driver;
  pega_kernel *kernel;
  pega_prepared *prepared; /* device and context are set */
  pega_step *steps;        /* what is left of them, behind the variants */
  char where[512];
} attempt;

/* Why no variant fits, one line each. */
static pega_status no_variant(const attempt *try, pega_error *error) {
  const pega_pack_function *function = try->kernel->function;
  char buffer[900];
  char reason[160];
  pega_text text = {buffer, sizeof buffer, 0};
  for (int32_t i = 0; i < function->num_variants; ++i) {
    pega_variant_rank(try->kernel->pack, &function->variants[i],
                      try->prepared->device->compute_capability, reason, sizeof reason);
    pega_text_printf(&text, "%s%s: %s", i == 0 ? "" : "; ", function->variants[i].target.name,
                     reason);
  }
  return pega_error_set(error, PEGA_ERROR_NOT_FOUND, NULL,
                        "%s: no variant runs on cuda:%" PRId32 ", sm_%" PRId32
                        ": %s; compile the pack for this target",
                        try->where, try->prepared->device->ordinal,
                        try->prepared->device->compute_capability,
                        function->num_variants == 0 ? "the function has none" : buffer);
}

/* The driver's own account of the parameters against the manifest's, as far as it has one. */
static pega_status check_parameters(const attempt *try, const pega_prepared_variant *loaded,
                                    pega_error *error) {
  if (try->driver->cuFuncGetParamInfo == NULL) return PEGA_OK;
  const pega_kernel_variant *variant = loaded->variant;
  char got[400];
  char expected[400];
  pega_text got_text = {got, sizeof got, 0};
  pega_text expected_text = {expected, sizeof expected, 0};
  got[0] = expected[0] = '\0';
  bool same = true;
  for (int32_t i = 0; i <= variant->num_params; ++i) {
    size_t offset = 0;
    size_t size = 0;
    CUresult result = try->driver->cuFuncGetParamInfo(loaded->function, (size_t)i, &offset, &size);
    /* The driver says so of an index behind the last parameter. */
    bool there = result == kCudaSuccess;
    if (!there && result != kCudaErrorInvalidValue) {
      pega_cuda_note_result(try->prepared->device, result, try->kernel->name);
      return pega_cuda_fail(try->where, "cuFuncGetParamInfo", result, NULL, error);
    }
    bool wanted = i < variant->num_params;
    const pega_kernel_param *param = wanted ? &variant->params[i] : NULL;
    if (there) pega_text_printf(&got_text, "%s%zu+%zu", i == 0 ? "" : ", ", offset, size);
    if (wanted) {
      pega_text_printf(&expected_text, "%s%" PRIu32 "+%u", i == 0 ? "" : ", ", param->offset,
                       (unsigned)param->size);
    }
    if (there != wanted || (wanted && (param->offset != offset || param->size != size)))
      same = false;
  }
  if (same) return PEGA_OK;
  return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                        "%s: parameters of '%s' (%s) as offset+size: the manifest says [%s], the "
                        "driver says [%s]; nothing is launched with a layout that may be wrong",
                        try->where, variant->entry, variant->target.name, expected, got);
}

static pega_status check_resources(const attempt *try, pega_prepared_variant *loaded,
                                   pega_error *error) {
  const pega_kernel_variant *variant = loaded->variant;
  const pega_cuda_device *device = try->prepared->device;
  const pega_cuda_driver *driver = try->driver;
  uint32_t threads = variant->block[0] * variant->block[1] * variant->block[2];
  int max_threads = 0;
  CUresult result = driver->cuFuncGetAttribute(&max_threads, kFunctionMaxThreads, loaded->function);
  if (result != kCudaSuccess) {
    pega_cuda_note_result(try->prepared->device, result, try->kernel->name);
    return pega_cuda_fail(try->where, "cuFuncGetAttribute", result, NULL, error);
  }
  if (max_threads > 0 && threads > (uint32_t)max_threads) {
    return pega_error_set(error, PEGA_ERROR_FORMAT, NULL,
                          "%s: '%s' (%s) is to run with blocks of %" PRIu32
                          " threads: the driver allows %d for it",
                          try->where, variant->entry, variant->target.name, threads, max_threads);
  }
  uint64_t shared = (uint64_t)variant->shared + variant->static_shared;
  if (shared > device->max_shared) {
    return pega_error_set(error, PEGA_ERROR_UNSUPPORTED, NULL,
                          "%s: '%s' (%s) needs %" PRIu64 " bytes of shared memory a block (%" PRIu32
                          " dynamic, %" PRIu32 " static): cuda:%" PRId32 " has %" PRIu32,
                          try->where, variant->entry, variant->target.name, shared, variant->shared,
                          variant->static_shared, device->ordinal, device->max_shared);
  }
  /* Variants and packs may share the function: what one has asked for stays. */
  int allowed = 0;
  if (variant->shared > 0) {
    result = driver->cuFuncGetAttribute(&allowed, kFunctionMaxDynamicShared, loaded->function);
    if (result != kCudaSuccess) {
      pega_cuda_note_result(try->prepared->device, result, try->kernel->name);
      return pega_cuda_fail(try->where, "cuFuncGetAttribute", result, NULL, error);
    }
  }
  if (allowed < (int)variant->shared) {
    result = driver->cuFuncSetAttribute(loaded->function, kFunctionMaxDynamicShared,
                                        (int)variant->shared);
    if (result != kCudaSuccess) {
      pega_cuda_note_result(try->prepared->device, result, try->kernel->name);
      return pega_cuda_fail(try->where, "cuFuncSetAttribute (dynamic shared memory)", result, NULL,
                            error);
    }
  }
  uint32_t ctas = variant->cluster[0] * variant->cluster[1] * variant->cluster[2];
  if (ctas > 8) { /* what every device with clusters takes */
    result = driver->cuFuncSetAttribute(loaded->function, kFunctionNonPortableCluster, 1);
    if (result != kCudaSuccess) {
      pega_cuda_note_result(try->prepared->device, result, try->kernel->name);
      return pega_cuda_fail(try->where, "cuFuncSetAttribute (cluster of more than 8)", result, NULL,
                            error);
    }
  }
  return PEGA_OK;
}

/* How the kernel is launched: with attributes where it has any. */
static pega_status set_attributes(const attempt *try, pega_prepared_variant *loaded,
                                  pega_error *error) {
  const pega_kernel_variant *variant = loaded->variant;
  const pega_cuda_device *device = try->prepared->device;
  bool cluster = variant->cluster[0] * variant->cluster[1] * variant->cluster[2] > 1;
  const char *lacks = NULL;
  if (cluster && !device->clusters) lacks = "clusters";
  if (variant->cooperative && !device->cooperative) lacks = "cooperative grids";
  /* Programmatic dependent launch came with 9.0; before it the order is the plain one. */
  bool pdl = variant->pdl && device->compute_capability >= 90;
  if (lacks == NULL && (cluster || variant->cooperative || pdl) &&
      try->driver->cuLaunchKernelEx == NULL) {
    lacks = "cuLaunchKernelEx (CUDA 11.6)";
  }
  if (lacks != NULL) {
    return pega_error_set(error, PEGA_ERROR_UNSUPPORTED, NULL,
                          "%s: '%s' (%s) needs %s, which cuda:%" PRId32
                          " or its driver %d.%d lacks",
                          try->where, variant->entry, variant->target.name, lacks, device->ordinal,
                          try->driver->version / 1000, try->driver->version % 1000 / 10);
  }
  if (cluster) {
    CUlaunchAttribute *at = &loaded->attributes[loaded->num_attributes++];
    at->id = kLaunchClusterDimension;
    at->value.cluster.x = variant->cluster[0];
    at->value.cluster.y = variant->cluster[1];
    at->value.cluster.z = variant->cluster[2];
  }
  if (pdl) {
    CUlaunchAttribute *at = &loaded->attributes[loaded->num_attributes++];
    at->id = kLaunchProgrammaticStreamSerialization;
    at->value.number = 1;
  }
  if (variant->cooperative) {
    CUlaunchAttribute *at = &loaded->attributes[loaded->num_attributes++];
    at->id = kLaunchCooperative;
    at->value.number = 1;
  }
  memcpy(loaded->max_grid, device->max_grid, sizeof loaded->max_grid);
  return PEGA_OK;
}

static bool small(const pega_instruction *at) {
  return at->op == kOpConstant && at->number >= 0 && at->number <= UINT32_MAX;
}

/* Whether an instruction loads an integer that is always there. */
static bool plain_int(const pega_signature *signature, const pega_instruction *at) {
  if (at->op != kOpInt) return false;
  const pega_param *param = &signature->params[at->arg];
  return param->type == PEGA_TYPE_INT && (param->flags & PEGA_PARAM_OPTIONAL) == 0;
}

/* The step that gives the value of `size` instructions. */
static pega_step make_step(const pega_signature *signature, const pega_instruction *code,
                           int32_t size) {
  pega_step step = {.kind = kStepExpression};
  if (size == 1 && small(code)) {
    step.kind = kStepConstant;
    step.number = (uint32_t)code->number;
    return step;
  }
  if (size < 1 || !plain_int(signature, code)) return step;
  step.arg = (uint8_t)code->arg;
  if (size == 1) {
    step.kind = kStepInt;
  } else if (size >= 3 && small(&code[1]) && code[1].number > 0) {
    step.number = (uint32_t)code[1].number;
    if (size == 3 && code[2].op == kOpCdiv) {
      step.kind = kStepCdiv;
    } else if (size == 3 && code[2].op == kOpMod) {
      step.kind = kStepModulo;
    } else if (size == 5 && code[2].op == kOpCdiv && plain_int(signature, &code[3]) &&
               code[4].op == kOpMul) {
      step.kind = kStepCdivMul;
      step.arg2 = (uint8_t)code[3].arg;
    }
  }
  return step;
}

/* "value <= number" and "value == number". */
static pega_step make_condition(const pega_signature *signature,
                                const pega_expression *expression) {
  const int32_t size = expression->size;
  pega_step step = {.kind = kStepExpression};
  if (size < 3) return step;
  const pega_instruction *limit = &expression->code[size - 2];
  const uint8_t op = expression->code[size - 1].op;
  if (!small(limit) || (op != kOpLe && op != kOpEq)) return step;
  step = make_step(signature, expression->code, size - 2);
  step.compare = op;
  step.limit = (uint32_t)limit->number;
  return step;
}

/* A parameter that is an argument as it is: an address, or an integer that always fits. */
static bool direct(const pega_signature *signature, const pega_kernel_param *param) {
  const pega_instruction *code = param->value.code;
  if (param->role != kRoleArgument || param->argument >= 0 || param->value.size != 1) return false;
  if (code->op != kOpInt && code->op != kOpAddress) return false;
  const pega_param *from = &signature->params[code->arg];
  if ((from->flags & PEGA_PARAM_OPTIONAL) != 0) return false;
  if (from->type == PEGA_TYPE_POINTER || from->type == PEGA_TYPE_STREAM) {
    return param->type == kParamPointer;
  }
  if (from->type != PEGA_TYPE_INT) return false;
  const bool ranged = (from->flags & PEGA_PARAM_RANGE) != 0;
  return param->type == kParamI64 ||
         (param->type == kParamI32 && ranged && from->min >= INT32_MIN && from->max <= INT32_MAX);
}

static pega_step make_param(const pega_signature *signature, const pega_kernel_param *param,
                            bool scratch) {
  pega_step step = {.kind = kStepExpression};
  if (direct(signature, param)) {
    step.kind = kStepDirect;
    step.arg = (uint8_t)param->value.code->arg;
  } else if (!scratch && param->size == 8 &&
             (param->role == kRoleGlobalScratch || param->role == kRoleProfileScratch)) {
    step.kind = kStepNull;
  }
  return step;
}

/* Puts what a launch reads together; `steps` has room for a step a parameter and a condition. */
static void make_steps(const pega_signature *signature, pega_prepared_variant *loaded,
                       pega_step *steps) {
  const pega_kernel_variant *variant = loaded->variant;
  loaded->scratch = variant->global_scratch.size != 0 || variant->profile_scratch.size != 0;
  loaded->num_params = variant->num_params;
  loaded->num_conditions = variant->num_conditions;
  loaded->shared = variant->shared;
  memcpy(loaded->block, variant->block, sizeof loaded->block);
  for (int axis = 0; axis < 3; ++axis) {
    const pega_expression *expression = &variant->grid[axis];
    pega_step step = make_step(signature, expression->code, expression->size);
    step.axis = (uint8_t)axis;
    if (step.kind == kStepConstant && step.number > 0 && step.number <= loaded->max_grid[axis]) {
      loaded->fixed_grid[axis] = step.number;
    } else {
      loaded->grid[loaded->num_grid++] = step;
    }
  }
  loaded->conditions = steps;
  for (int32_t i = 0; i < variant->num_conditions; ++i) {
    *steps++ = make_condition(signature, &variant->conditions[i]);
  }
  loaded->params = steps;
  for (int32_t i = 0; i < variant->num_params; ++i) {
    *steps++ = make_param(signature, &variant->params[i], loaded->scratch);
  }
}

static pega_status load_variant(attempt *try, const pega_kernel_variant *variant,
                                pega_error *error) {
  pega_prepared_variant *loaded = &try->prepared->variants[try->prepared->num_variants];
  loaded->variant = variant;
  CUmodule module;
  pega_status status = pega_module_load(try->driver, try->where, try->kernel, variant,
                                        try->prepared, &module, error);
  if (status != PEGA_OK) return status;
  const char *call = "cuModuleGetFunction";
  CUresult result = try->driver->cuModuleGetFunction(&loaded->function, module, variant->entry);
  if (result == kCudaSuccess && try->driver->cuFuncLoad != NULL) {
    call = "cuFuncLoad"; /* else the first launch would load it, in a capture perhaps */
    result = try->driver->cuFuncLoad(loaded->function);
  }
  if (result != kCudaSuccess) {
    pega_cuda_note_result(try->prepared->device, result, try->kernel->name);
    return pega_cuda_fail(try->where, call, result, variant->entry, error);
  }
  status = check_parameters(try, loaded, error);
  if (status == PEGA_OK) status = check_resources(try, loaded, error);
  if (status == PEGA_OK) status = set_attributes(try, loaded, error);
  if (status != PEGA_OK) return status;
  make_steps(&try->kernel->function->signature, loaded, try->steps);
  try->steps += variant->num_conditions + variant->num_params;
  ++try->prepared->num_variants;
  return status;
}

/* Loads all variants of the target that fits best; the context is current. */
static pega_status load_variants(attempt *try, pega_error *error) {
  const pega_pack_function *function = try->kernel->function;
  const pega_kernel_variant *best = NULL;
  int best_rank = 0;
  char reason[160];
  for (int32_t i = 0; i < function->num_variants; ++i) {
    int rank = pega_variant_rank(try->kernel->pack, &function->variants[i],
                                 try->prepared->device->compute_capability, reason, sizeof reason);
    if (rank > best_rank) {
      best = &function->variants[i];
      best_rank = rank;
    }
  }
  if (best == NULL) return no_variant(try, error);
  pega_status status = PEGA_OK;
  for (int32_t i = 0; i < function->num_variants && status == PEGA_OK; ++i) {
    const pega_kernel_variant *variant = &function->variants[i];
    bool same =
        strcmp(variant->target.name, best->target.name) == 0 &&
        pega_variant_rank(try->kernel->pack, variant, try->prepared->device->compute_capability,
                          reason, sizeof reason) == best_rank;
    if (same) status = load_variant(try, variant, error);
  }
  return status;
}

/* Under the lock, with the context current. Loading must not end a capture of another thread, so the
 * thread's capture mode is relaxed meanwhile; its own stream does not capture. */
static pega_status prepare_current(attempt *try, pega_error *error) {
  int mode = kCaptureModeRelaxed;
  CUresult result = try->driver->cuThreadExchangeStreamCaptureMode(&mode);
  if (result != kCudaSuccess) {
    pega_cuda_note_result(try->prepared->device, result, try->kernel->name);
    return pega_cuda_fail(try->where, "cuThreadExchangeStreamCaptureMode", result, NULL, error);
  }
  const uint64_t mark = pega_module_mark();
  pega_status status = load_variants(try, error);
  /* Unloading would end a capture just as well. */
  if (status != PEGA_OK) pega_module_undo(try->driver, mark);
  result = try->driver->cuThreadExchangeStreamCaptureMode(&mode);
  if (result != kCudaSuccess) {
    int again = mode;
    if (try->driver->cuThreadExchangeStreamCaptureMode(&again) != kCudaSuccess &&
        status == PEGA_OK) {
      pega_module_undo(try->driver, mark);
      status = pega_cuda_fail(try->where, "cuThreadExchangeStreamCaptureMode", result, NULL, error);
    }
  }
  return status;
}

static pega_prepared *find_prepared(const pega_kernel *kernel, CUcontext context,
                                    unsigned long long id) {
  pega_prepared *at = atomic_load_explicit(&kernel->prepared, memory_order_acquire);
  while (at != NULL && (at->context != context || at->context_id != id)) at = at->next;
  return at;
}

static pega_status prepare_locked(attempt *try, const pega_prepared **out, pega_error *error) {
  pega_prepared *found =
      find_prepared(try->kernel, try->prepared->context, try->prepared->context_id);
  if (found != NULL) {
    *out = found;
    return PEGA_OK;
  }
  pega_cuda_guard guard;
  pega_status status =
      pega_cuda_enter(try->driver, try->where, try->prepared->context, &guard, error);
  if (status != PEGA_OK) return status;
  status = prepare_current(try, error);
  status = pega_cuda_leave(try->driver, try->where, &guard, status, error);
  if (status != PEGA_OK) return status;
  try->prepared->next = atomic_load_explicit(&try->kernel->prepared, memory_order_relaxed);
  atomic_store_explicit(&try->kernel->prepared, try->prepared, memory_order_release);
  *out = try->prepared;
  try->prepared = NULL;
  return PEGA_OK;
}

pega_status pega_kernel_prepare(pega_kernel *kernel, const pega_cuda_driver *driver,
                                pega_cuda_device *device, CUcontext context,
                                const pega_prepared **out, pega_error *error) {
  attempt try = {.driver = driver, .kernel = kernel};
  snprintf(try.where, sizeof try.where, "%s: cannot be prepared on cuda:%" PRId32, kernel->name,
           device->ordinal);
  if (pega_cuda_is_sticky(device)) return pega_cuda_refuse_sticky(kernel->name, device, error);
  CUcontext primary;
  pega_status status = pega_cuda_device_primary(driver, try.where, device, &primary, error);
  if (status != PEGA_OK) return status;
  unsigned long long id = 0;
  bool foreign = context != NULL && context != primary;
  if (foreign) {
    if (driver->cuCtxGetId == NULL) {
      return pega_error_set(
          error, PEGA_ERROR_UNSUPPORTED, NULL,
          "%s: the current context is not the device's primary one, and the driver "
          "(%d.%d) cannot tell such contexts apart (cuCtxGetId, CUDA 12.0): make "
          "the primary context current",
          try.where, driver->version / 1000, driver->version % 1000 / 10);
    }
    CUresult result = driver->cuCtxGetId(context, &id);
    if (result != kCudaSuccess) {
      return pega_cuda_fail(try.where, "cuCtxGetId", result, NULL, error);
    }
  }
  size_t num = (size_t)kernel->function->num_variants;
  size_t num_steps = 0;
  for (size_t i = 0; i < num; ++i) {
    num_steps += (size_t)kernel->function->variants[i].num_params +
                 (size_t)kernel->function->variants[i].num_conditions;
  }
  try.prepared = calloc(1, sizeof *try.prepared + num * sizeof try.prepared->variants[0] +
                               num_steps * sizeof(pega_step));
  if (try.prepared == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "%s: no memory", try.where);
  }
  try.steps = (pega_step *)(void *)&try.prepared->variants[num];
  try.prepared->device = device;
  try.prepared->context = foreign ? context : primary;
  try.prepared->context_id = id;
  try.prepared->primary = !foreign;
  pega_cuda_lock(&kernels_mutex);
  status = prepare_locked(&try, out, error);
  pega_cuda_unlock(&kernels_mutex);
  free(try.prepared);
  return status;
}

pega_status pega_kernel_prepare_here(pega_kernel *kernel, DLDevice device, pega_error *error) {
  const pega_cuda_driver *driver;
  pega_cuda_device *known;
  pega_status status = pega_cuda_driver_get(&driver, error);
  if (status == PEGA_OK) status = pega_cuda_device_of(driver, kernel->name, device, &known, error);
  if (status != PEGA_OK) return status;
  CUcontext current = NULL;
  CUdevice handle = 0;
  const char *call = "cuCtxGetCurrent";
  CUresult result = driver->cuCtxGetCurrent(&current);
  if (result == kCudaSuccess && current != NULL) {
    call = "cuCtxGetDevice";
    result = driver->cuCtxGetDevice(&handle);
  }
  if (result != kCudaSuccess) {
    return pega_cuda_fail(kernel->name, call, result, "nothing was prepared", error);
  }
  const bool own = current != NULL && handle == known->handle;
  const pega_prepared *prepared;
  return pega_kernel_prepare(kernel, driver, known, own ? current : NULL, &prepared, error);
}
