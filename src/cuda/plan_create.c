/* SPDX-License-Identifier: Apache-2.0 */
/* How a plan is made. The function is called as ever, with a table for the driver whose launches
 * are taken down: first with the caller's addresses, then with others that are no memory and that
 * tell whose they are. Where these turn up among a kernel's parameters, a pointer goes. All else
 * has to be the same, whatever the addresses are: then nothing depends on them, but on an
 * alignment, which is found by trying. What a pack's expressions do with addresses is not tried but
 * read. */
#include <inttypes.h>
#include <stdlib.h>

#include "core/function.h"
#include "plan.h"

enum { kMostAlignment = 256 };

/* Addresses that name their argument: a mark above, its index, and room for what is added. */
enum { kMarkShift = 54, kIndexShift = 48, kOffsetShift = 46 };
enum { kMarkBase = 0xaa, kMarkTrial = 0x155 };
/* Instead of an argument: none; all of the least alignment that was found; none, but the addresses
 * in the other order. */
enum { kNone = -1, kTogether = -2, kSwapped = -3 };

/* A call, taken down. */
typedef struct recording {
  uint64_t addresses[kMaxPlanPointers]; /* that the arguments had */
  int32_t num_launches, capacity;
  pega_plan_launch *launches;
} recording;

typedef struct recorder {
  pega_cuda_driver driver; /* first: a launch knows no more */
  pega_function *function;
  const pega_signature *signature;
  int32_t num_args;
  bool named[kMaxPlanPointers]; /* arguments that are addresses */
  uint64_t masks[kMaxPlanPointers];
  pega_value args[kMaxPlanPointers];
  DLTensor tensors[kMaxPlanPointers];
  const pega_prepared *prepared; /* what was launched last */
  recording *now;
  recording base, other;
  pega_status failed; /* of a trial that failed for no reason of its addresses... */
  pega_error why;     /* ...and why */
  pega_plan_launch launches[kMaxPlanLaunches]; /* the other's; the base's are the plan's */
} recorder;

/* --- taking down --- */

static CUresult launch(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                       unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                       CUstream stream, void **params, void **extra) {
  (void)function, (void)grid_x, (void)grid_y, (void)grid_z, (void)block_x, (void)block_y;
  (void)block_z, (void)shared_bytes, (void)stream, (void)params, (void)extra;
  return kLaunchRecorded;
}

static CUresult launch_ex(const CUlaunchConfig *config, CUfunction function, void **params,
                          void **extra) {
  (void)config, (void)function, (void)params, (void)extra;
  return kLaunchRecorded;
}

pega_status pega_plan_record(const pega_cuda_driver *driver, const char *name,
                             const pega_prepared *prepared, const pega_prepared_variant *chosen,
                             const unsigned grid[3], const void *const *params, pega_error *error) {
  recorder *r = (recorder *)(uintptr_t)driver;
  recording *now = r->now;
  if (now->num_launches == now->capacity || chosen->num_params > kMaxPlanParams ||
      chosen->variant->param_bytes > sizeof now->launches->words) {
    return pega_cuda_refuse_recording(
        name, "more than 8 launches, or than 64 parameters or 512 bytes of one", error);
  }
  r->prepared = prepared;
  pega_plan_launch *at = &now->launches[now->num_launches++];
  memset(at, 0, sizeof *at);
  at->function = chosen->function;
  at->name = name;
  at->shared = chosen->shared;
  at->num_params = (unsigned)chosen->num_params;
  at->num_attributes = chosen->num_attributes;
  memcpy(at->grid, grid, sizeof at->grid);
  memcpy(at->block, chosen->block, sizeof at->block);
  memcpy(at->attributes, chosen->attributes, sizeof at->attributes);
  for (unsigned i = 0; i < at->num_params; ++i) {
    const pega_kernel_param *param = &chosen->variant->params[i];
    at->addresses[i] = memcpy((char *)at->words + param->offset, params[i], param->size);
  }
  return PEGA_OK;
}

/* --- the calls --- */

/* Calls with addresses under a mark; that of argument `index` is a multiple of no more than
 * `alignment`, or, where that is 0, the same as the one's before. Whether the call was right. */
static bool call_marked(recorder *r, recording *into, uint64_t mark, int32_t index,
                        uint64_t alignment) {
  into->num_launches = 0;
  r->now = into;
  for (int32_t i = 0; i < r->num_args; ++i) {
    if (!r->named[i]) continue;
    const int32_t place = index == kSwapped                       ? r->num_args - 1 - i
                          : i == index && alignment == 0 && i > 0 ? i - 1
                                                                  : i;
    const uint64_t low = i == index ? alignment : index == kTogether ? r->masks[i] + 1 : 0;
    const uint64_t address =
        mark << kMarkShift | (uint64_t)place << kIndexShift | UINT64_C(1) << kOffsetShift | low;
    into->addresses[i] = address;
    if (r->args[i].kind == PEGA_TENSOR) {
      r->tensors[i].data = (void *)(uintptr_t)address;
    } else {
      r->args[i].as.u64 = address;
    }
  }
  const pega_status status = pega_function_call(r->function, r->args, r->num_args, NULL, &r->why);
  if (status == PEGA_ERROR_DRIVER || status == PEGA_ERROR_UNAVAILABLE ||
      status == PEGA_ERROR_OUT_OF_MEMORY) {
    r->failed = status;
  }
  return status == PEGA_OK;
}

/* The argument that a word of the base is an address of, or -1. */
static int32_t owner(const recorder *r, uint64_t word) {
  const int32_t index = (int32_t)(word >> kIndexShift & (kMaxPlanPointers - 1));
  return word >> kMarkShift == kMarkBase && r->named[index] ? index : -1;
}

/* Whether the other recording is the base with other addresses, and no more. */
static bool same(const recorder *r) {
  if (r->other.num_launches != r->base.num_launches) return false;
  for (int32_t l = 0; l < r->base.num_launches; ++l) {
    const pega_plan_launch *base = &r->base.launches[l];
    const pega_plan_launch *other = &r->other.launches[l];
    if (memcmp(&base->function, &other->function,
               offsetof(pega_plan_launch, num_relocations) -
                   offsetof(pega_plan_launch, function)) != 0) {
      return false;
    }
    for (int32_t w = 0; w < kMaxPlanWords; ++w) {
      const int32_t index = owner(r, base->words[w]);
      const uint64_t moved = index < 0 ? 0 : r->other.addresses[index] - r->base.addresses[index];
      if (other->words[w] - base->words[w] != moved) return false;
    }
  }
  return true;
}

/* --- expressions of packs --- */

/* What is known of a value: the same in every call, an address and something added, an address. */
typedef enum known { kFree, kSum, kAddress } known;

/* Whether all that an expression does with an address is one of
 *   x == 0, x != 0, not x, x and ..., x or ...   (it is never NULL)
 *   (x + c) % m   with m = 1, 2, 4... 256   (it is made a multiple of m)
 *   x + c, x - c   as the value, which `out` tells
 * with c that is the same in every call. */
static bool follow(recorder *r, const pega_expression *expression, known *out) {
  struct {
    known is;
    uint16_t arg;
  } stack[kMaxExpressionDepth + 1];
  int top = -1;
  for (int32_t i = 0; i < expression->size; ++i) {
    const pega_instruction *at = &expression->code[i];
    if (at->op <= kOpStride) {
      stack[++top].is = at->op == kOpAddress && r->named[at->arg] ? kAddress : kFree;
      stack[top].arg = at->arg;
      continue;
    }
    known right = kFree;
    if (at->op != kOpNeg && at->op != kOpNot) {
      right = stack[top--].is;
      if (right != kFree && at->op == kOpAdd && stack[top].is == kFree) {
        stack[top] = stack[top + 1];
        right = kFree;
      }
    }
    const known left = stack[top].is;
    if (left == kFree && right == kFree) continue;
    const int64_t literal = at[-1].op == kOpConstant ? at[-1].number : -1;
    bool fine = right == kFree;
    stack[top].is = kFree;
    switch (at->op) {
      case kOpAdd:
      case kOpSub:
        stack[top].is = kSum;
        break;
      case kOpMod:
        fine = fine && literal > 0 && literal <= kMostAlignment && (literal & (literal - 1)) == 0;
        if (fine) r->masks[stack[top].arg] |= (uint64_t)literal - 1;
        break;
      case kOpEq:
      case kOpNe:
        fine = fine && left == kAddress && literal == 0;
        break;
      case kOpAnd:
      case kOpOr:
      case kOpNot:
        fine = left != kSum && right != kSum;
        break;
      default:
        fine = false;
    }
    if (!fine) return false;
  }
  *out = top < 0 ? kFree : stack[top].is;
  return true;
}

static bool is_false(const recorder *r, const pega_expression *condition) {
  int64_t value;
  return pega_expression_evaluate(condition, r->args, &value, NULL) == PEGA_OK && value == 0;
}

static bool names_address(const recorder *r, const pega_expression *expression) {
  for (int32_t i = 0; i < expression->size; ++i) {
    if (expression->code[i].op == kOpAddress && r->named[expression->code[i].arg]) return true;
  }
  return false;
}

/* Reads what a kernel's launch evaluates, up to the variant that is taken. The text of what does
 * something else with an address, or NULL. */
static const char *read_expressions(recorder *r, const pega_prepared *prepared) {
  for (int32_t v = 0; v < prepared->num_variants; ++v) {
    const pega_kernel_variant *variant = prepared->variants[v].variant;
    known is;
    bool taken = true;
    for (int32_t i = 0; i < variant->num_conditions && taken; ++i) {
      const pega_expression *condition = &variant->conditions[i];
      taken = names_address(r, condition) || !is_false(r, condition);
    }
    if (!taken) continue;
    for (int32_t i = 0; i < variant->num_conditions; ++i) {
      const pega_expression *condition = &variant->conditions[i];
      if (!follow(r, condition, &is) || is == kSum) return condition->text;
      taken = taken && !is_false(r, condition);
    }
    if (!taken) continue;
    for (int i = 0; i < 3; ++i) {
      if (!follow(r, &variant->grid[i], &is) || is != kFree) return variant->grid[i].text;
    }
    for (int32_t i = 0; i < variant->num_params; ++i) {
      if (!follow(r, &variant->params[i].value, &is)) return variant->params[i].value.text;
    }
    break;
  }
  return NULL;
}

/* The same of all that a pack's function may launch here, or the name of an argument whose own
 * address is no multiple of what was found. */
static const char *read_function(recorder *r) {
  const pega_kernel *kernel = pega_kernel_of(r->function);
  if (kernel == NULL) return NULL;
  const pega_prepared *at = r->prepared;
  if (at == NULL) at = atomic_load_explicit(&kernel->prepared, memory_order_acquire);
  for (; at != NULL; at = r->prepared == NULL ? at->next : NULL) {
    const char *text = read_expressions(r, at);
    if (text != NULL) return text;
  }
  for (int32_t i = 0; i < r->num_args; ++i) {
    if ((r->other.addresses[i] & r->masks[i]) != 0) return r->signature->params[i].name;
  }
  return NULL;
}

static pega_status refuse(const recorder *r, const char *of, pega_error *error) {
  if (r->failed != PEGA_OK) {
    if (error != NULL) pega_error_copy(&r->why, error);
    return r->failed;
  }
  return pega_error_set(
      error, PEGA_ERROR_UNSUPPORTED, NULL,
      "%s: no plan can be made of this call: what it launches depends on %s, not only "
      "on its being NULL or not; addresses that are multiples of %d may help",
      pega_function_name(r->function), of, kMostAlignment);
}

/* Makes the base, and finds the alignment under which each pointer changes nothing. */
static pega_status examine(recorder *r, pega_error *error) {
  const char *of = "an address";
  if (r->prepared != NULL && (!call_marked(r, &r->base, kMarkBase, kNone, 0) || !same(r))) {
    goto depends;
  }
  of = read_function(r);
  if (of != NULL) goto depends;
  if (r->prepared == NULL) return PEGA_OK;
  for (int32_t i = 0; i < r->num_args; ++i) {
    if (!r->named[i]) continue;
    uint64_t alignment = r->masks[i] + 1;
    of = r->signature->params[i].name;
    while (!call_marked(r, &r->other, kMarkTrial, i, alignment) || !same(r)) {
      alignment *= 2;
      if (alignment > kMostAlignment || r->failed != PEGA_OK) goto depends;
    }
    r->masks[i] = alignment - 1;
    /* Whoever lets memory overlap is not told: such a call may be refused. */
    if (call_marked(r, &r->other, kMarkTrial, i, 0) && !same(r)) goto depends;
    if (r->failed != PEGA_OK) goto depends;
  }
  of = "more than one address";
  for (int32_t how = kTogether; how >= kSwapped; --how) {
    if (!call_marked(r, &r->other, kMarkTrial, how, 0) || !same(r)) goto depends;
  }
  return PEGA_OK;
depends:
  return refuse(r, of, error);
}

/* Which arguments are addresses, and the first call, with them as they are. */
static pega_status record(recorder *r, const pega_value *args, pega_error *error) {
  for (int32_t i = 0; i < r->num_args; ++i) {
    const DLTensor *tensor = pega_value_as_tensor(&args[i]);
    r->args[i] = args[i];
    if (tensor != NULL) {
      const int device = (int)tensor->device.device_type;
      if (device != kDLCUDA && device != kDLCUDAManaged) {
        return pega_cuda_refuse_recording(pega_function_name(r->function),
                                          "expected every tensor on a cuda device", error);
      }
      r->tensors[i] = *tensor;
      r->tensors[i].byte_offset = 0;
      r->args[i] = pega_value_tensor(&r->tensors[i]);
      r->other.addresses[i] = (uint64_t)(uintptr_t)pega_tensor_data(tensor);
      r->named[i] = r->other.addresses[i] != 0;
    } else if (args[i].kind != PEGA_NONE && r->signature->params[i].type == PEGA_TYPE_POINTER) {
      r->other.addresses[i] = args[i].as.u64;
      r->named[i] = args[i].as.u64 != 0;
    }
  }
  return pega_function_call(r->function, args, r->num_args, NULL, error);
}

static void finish(const recorder *r, pega_plan *plan) {
  int32_t pointer_of[kMaxPlanPointers];
  for (int32_t i = 0; i < r->num_args; ++i) {
    pointer_of[i] = plan->num_pointers;
    if (!r->named[i]) continue;
    plan->masks[plan->num_pointers] = r->masks[i];
    plan->arguments[plan->num_pointers++] = (uint8_t)i;
  }
  for (int32_t l = 0; l < plan->num_launches; ++l) {
    pega_plan_launch *at = &plan->launches[l];
    for (unsigned p = 0; p < at->num_params; ++p) {
      const size_t offset = (size_t)((const char *)at->addresses[p] - (const char *)at->words);
      const uint64_t word = at->words[offset / sizeof word];
      const int32_t index = offset % sizeof word == 0 ? owner(r, word) : -1;
      if (index < 0) continue;
      at->relocations[at->num_relocations++] = (pega_plan_relocation){
          (uint16_t)p, (uint16_t)pointer_of[index], word - r->base.addresses[index]};
    }
  }
}

/* After the first call. In its context what belongs to which device is known. */
static pega_status complete(recorder *r, pega_plan *plan, pega_error *error) {
  const pega_prepared *prepared = r->prepared;
  pega_cuda_guard guard;
  plan->num_launches = r->other.num_launches;
  plan->context = (CUcontext)(uintptr_t)1; /* no context is there */
  pega_status status = PEGA_OK;
  if (prepared == NULL) {
    status = examine(r, error);
  } else {
    plan->prepared = prepared;
    plan->device = prepared->device;
    if (prepared->primary) plan->context = prepared->context;
    r->base.launches = plan->launches;
    r->base.capacity = plan->num_launches;
    status = pega_cuda_enter(&r->driver, "pega_plan_create", prepared->context, &guard, error);
    if (status == PEGA_OK) {
      status = examine(r, error);
      status = pega_cuda_leave(&r->driver, "pega_plan_create", &guard, status, error);
    }
  }
  if (status == PEGA_OK) finish(r, plan);
  return status;
}

pega_status pega_plan_create(pega_function *function, const pega_value *args, int32_t num_args,
                             pega_plan **out, pega_error *error) {
  if (function == NULL || out == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL, "pega_plan_create: %s is NULL",
                          function == NULL ? "function" : "out");
  }
  pega_status status = pega_function_check(function, args, num_args, error);
  if (status != PEGA_OK) return status;
  if (!pega_function_can_prepare(function)) {
    return pega_cuda_refuse_recording(pega_function_name(function),
                                      "expected a function of a pack, or a built-in one for GPUs",
                                      error);
  }
  const pega_cuda_driver *driver;
  status = pega_cuda_driver_open(&driver, error);
  if (status != PEGA_OK) return status;
  const unsigned closings = atomic_load_explicit(&pega_cuda_closings, memory_order_relaxed);
  pega_plan *plan = NULL;
  recorder *r = calloc(1, sizeof *r);
  if (r != NULL) {
    pega_error_init(&r->why);
    r->driver = *driver;
    r->driver.cuLaunchKernel = launch;
    if (driver->cuLaunchKernelEx != NULL) r->driver.cuLaunchKernelEx = launch_ex;
    r->function = function;
    r->signature = pega_function_signature(function);
    r->num_args = num_args;
    r->other.launches = r->launches;
    r->other.capacity = kMaxPlanLaunches;
    r->now = &r->other;
    pega_cuda_driver_use(&r->driver);
    status = record(r, args, error);
    if (status == PEGA_OK) {
      plan = calloc(1, sizeof *plan + (size_t)r->other.num_launches * sizeof plan->launches[0]);
      if (plan != NULL) {
        plan->refs = 1;
        plan->closings = closings;
        plan->function = pega_function_retain(function);
        status = complete(r, plan, error);
      }
    }
    pega_cuda_driver_use(NULL);
    pega_error_clear(&r->why);
    free(r);
  }
  if (status != PEGA_OK) {
    pega_plan_release(plan);
    return status;
  }
  if (plan == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "pega_plan_create: no memory");
  }
  *out = plan;
  return PEGA_OK;
}

pega_plan *pega_plan_retain(pega_plan *plan) {
  if (plan != NULL) atomic_fetch_add_explicit(&plan->refs, 1, memory_order_relaxed);
  return plan;
}

void pega_plan_release(pega_plan *plan) {
  if (plan == NULL || atomic_fetch_sub_explicit(&plan->refs, 1, memory_order_acq_rel) != 1) return;
  pega_function_release(plan->function);
  free(plan);
}

int32_t pega_plan_num_pointers(const pega_plan *plan) {
  return plan == NULL ? 0 : plan->num_pointers;
}

int32_t pega_plan_num_launches(const pega_plan *plan) {
  return plan == NULL ? 0 : plan->num_launches;
}

static bool has(const pega_plan *plan, int32_t index) {
  return plan != NULL && index >= 0 && index < plan->num_pointers;
}

int32_t pega_plan_pointer_argument(const pega_plan *plan, int32_t index) {
  return has(plan, index) ? plan->arguments[index] : -1;
}

size_t pega_plan_pointer_alignment(const pega_plan *plan, int32_t index) {
  return has(plan, index) ? (size_t)plan->masks[index] + 1 : 0;
}

/* --- calls that are not the usual ones --- */

static pega_status gone(const char *name, pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_UNAVAILABLE, NULL,
                        "%s: nothing was launched: what the plan launches was unloaded by "
                        "pega_cuda_close(), or with its context; make another plan",
                        name);
}

pega_status pega_plan_refuse(const pega_plan *plan, void *const *pointers, pega_error *error) {
  if (plan == NULL || (pointers == NULL && plan->num_pointers > 0)) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL, "pega_plan_call: %s is NULL",
                          plan == NULL ? "plan" : "pointers");
  }
  const char *name = pega_function_name(plan->function);
  const pega_cuda_driver *driver;
  pega_status status = pega_cuda_driver_open(&driver, error);
  if (status != PEGA_OK) return status;
  if (atomic_load_explicit(&pega_cuda_closings, memory_order_relaxed) != plan->closings) {
    return gone(name, error);
  }
  int32_t i = 0;
  void *got = NULL;
  for (; i < plan->num_pointers; ++i) {
    got = pointers[i];
    if (got == NULL || ((uint64_t)(uintptr_t)got & plan->masks[i]) != 0) break;
  }
  if (i == plan->num_pointers) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "%s: nothing was launched: the pointers were changed during the call",
                          name);
  }
  return pega_error_set(
      error, got == NULL ? PEGA_ERROR_RANGE : PEGA_ERROR_LAYOUT, NULL,
      "%s: nothing was launched: pointer %" PRId32
      " of the plan, argument %d '%s': expected an address, not NULL, aligned to %zu bytes, got %p",
      name, i, plan->arguments[i],
      pega_function_signature(plan->function)->params[plan->arguments[i]].name,
      (size_t)plan->masks[i] + 1, got);
}

pega_status pega_plan_call_elsewhere(const pega_plan *plan, const pega_cuda_driver *driver,
                                     void *const *pointers, void *stream, pega_error *error) {
  if (plan->num_launches == 0) return PEGA_OK;
  const char *name = pega_function_name(plan->function);
  if (pega_cuda_is_sticky(plan->device)) {
    return pega_cuda_refuse_sticky(name, plan->device, error);
  }
  if (!pega_prepared_is_there(driver, plan->prepared)) return gone(name, error);
  pega_cuda_guard guard;
  pega_status status = pega_cuda_enter(driver, name, plan->prepared->context, &guard, error);
  if (status != PEGA_OK) return status;
  status = pega_plan_launch_all(plan, driver, pointers, stream, error);
  return pega_cuda_leave(driver, name, &guard, status, error);
}

pega_status pega_plan_failed(const pega_plan *plan, int32_t index, CUresult result,
                             pega_error *error) {
  const pega_plan_launch *at = &plan->launches[index];
  if (index > 0) pega_cuda_note_good(plan->device, at[-1].name);
  pega_status status = pega_launch_failed(
      plan->device, at->name, at->num_attributes == 0 ? "cuLaunchKernel" : "cuLaunchKernelEx",
      result, error);
  return pega_launch_failed_midway(pega_function_name(plan->function), index, status, error);
}
