/* SPDX-License-Identifier: Apache-2.0 */
/* The call of a plan: no lock, no allocation, no text, and of the driver the current context and
 * the launches. How a plan is made, and what else a call may come to, is in plan_create.c. */
#include "plan.h"

#include "core/hot.h"

PEGA_HOT pega_status pega_plan_launch_all(const pega_plan *plan, const pega_cuda_driver *driver,
                                          void *const *pointers, void *stream, pega_error *error) {
  const void *params[kMaxPlanParams];
  uint64_t values[kMaxPlanParams];
  for (int32_t i = 0; i < plan->num_launches; ++i) {
    const pega_plan_launch *at = &plan->launches[i];
    for (unsigned p = 0; p < at->num_params; p += kPlanStep) {
      memcpy(&params[p], &at->addresses[p], kPlanStep * sizeof *params);
    }
    for (unsigned r = 0; r < at->num_relocations; ++r) {
      const pega_plan_relocation *relocation = &at->relocations[r];
      values[r] = (uint64_t)(uintptr_t)pointers[relocation->pointer] + relocation->offset;
      params[relocation->param] = &values[r];
    }
    CUresult result;
    if (at->num_attributes == 0) {
      result = driver->cuLaunchKernel(at->function, at->grid[0], at->grid[1], at->grid[2],
                                      at->block[0], at->block[1], at->block[2], at->shared,
                                      (CUstream)stream, (void **)(uintptr_t)params, NULL);
    } else {
      const CUlaunchConfig config = {{at->grid[0], at->grid[1], at->grid[2]},
                                     {at->block[0], at->block[1], at->block[2]},
                                     at->shared,
                                     (CUstream)stream,
                                     (CUlaunchAttribute *)(uintptr_t)at->attributes,
                                     at->num_attributes};
      result = driver->cuLaunchKernelEx(&config, at->function, (void **)(uintptr_t)params, NULL);
    }
    if (__builtin_expect(result != kCudaSuccess, 0))
      return pega_plan_failed(plan, i, result, error);
  }
  pega_cuda_note_good(plan->device, plan->launches[plan->num_launches - 1].name);
  return PEGA_OK;
}

PEGA_HOT pega_status pega_plan_call(const pega_plan *plan, void *const *pointers, void *stream,
                                    pega_error *error) {
  const pega_cuda_driver *driver = pega_cuda_driver_opened();
  if (__builtin_expect(
          plan == NULL || driver == NULL || (pointers == NULL && plan->num_pointers > 0) ||
              atomic_load_explicit(&pega_cuda_closings, memory_order_relaxed) != plan->closings,
          0)) {
    return pega_plan_refuse(plan, pointers, error);
  }
  uint64_t wrong = 0;
  for (int32_t i = 0; i < plan->num_pointers; ++i) {
    const uint64_t pointer = (uint64_t)(uintptr_t)pointers[i];
    wrong |= (pointer & plan->masks[i]) | (pointer == 0);
  }
  if (__builtin_expect(wrong != 0, 0)) return pega_plan_refuse(plan, pointers, error);
  CUcontext current = NULL;
  const CUresult result = driver->cuCtxGetCurrent(&current);
  if (__builtin_expect(
          result == kCudaSuccess && current == plan->context && !pega_cuda_is_sticky(plan->device),
          1)) {
    return pega_plan_launch_all(plan, driver, pointers, stream, error);
  }
  return pega_plan_call_elsewhere(plan, driver, pointers, stream, error);
}
