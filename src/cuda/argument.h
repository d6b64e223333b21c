/* SPDX-License-Identifier: Apache-2.0 */
/* A call's arguments as the bytes that a kernel gets. */
#ifndef PEGA_CUDA_ARGUMENT_H_
#define PEGA_CUDA_ARGUMENT_H_

#include "kernel.h"

/* Addresses of a kernel's parameters, and room for those that are not arguments as they are. */
typedef struct pega_param_block {
  const void *addresses[kMaxKernelParams];
  _Alignas(64) unsigned char bytes[kMaxKernelParamBytes];
} pega_param_block;

/* Evaluates an expression of a launch; a failure is told with the function and `what` it was for. */
pega_status pega_launch_evaluate(const pega_kernel *kernel, const char *what,
                                 const pega_expression *expression, const pega_value *args,
                                 int64_t *out, pega_error *error);

/* Puts a parameter that is no argument as it is at `to`. PEGA_ERROR_RANGE for a value that does not fit
 * it. No lock, no allocation. */
pega_status pega_param_put(const pega_kernel *kernel, const pega_kernel_param *param,
                           const pega_cuda_driver *driver, const pega_value *args,
                           CUdeviceptr global_scratch, CUdeviceptr profile_scratch,
                           unsigned char *to, pega_error *error);

/* Fills the block from checked arguments; scratch is the launch's. */
static inline pega_status pega_params_fill(const pega_kernel *kernel,
                                           const pega_prepared_variant *chosen,
                                           const pega_cuda_driver *driver, const pega_value *args,
                                           CUdeviceptr global_scratch, CUdeviceptr profile_scratch,
                                           pega_param_block *block, pega_error *error) {
  static const uint64_t null;
  const int32_t count = chosen->num_params;
  const pega_step *step = chosen->params;
  for (int32_t i = 0; i < count; ++i, ++step) {
    if (__builtin_expect(step->kind == kStepDirect, 1)) {
      /* Little-endian: the low bytes of an integer come first. */
      block->addresses[i] = &args[step->arg].as;
    } else if (step->kind == kStepNull) {
      block->addresses[i] = &null;
    } else {
      const pega_kernel_param *param = &chosen->variant->params[i];
      unsigned char *to = block->bytes + param->offset;
      block->addresses[i] = to;
      pega_status status =
          pega_param_put(kernel, param, driver, args, global_scratch, profile_scratch, to, error);
      if (status != PEGA_OK) return status;
    }
  }
  return PEGA_OK;
}

/* a / b rounded up, a >= 0, b > 0. Tiles are powers of two, and a division takes longer than the rest. */
static inline int64_t pega_cdiv(int64_t a, uint32_t b) {
  if ((b & (b - 1)) == 0) return (int64_t)(((uint64_t)a + b - 1) >> __builtin_ctz(b));
  return a / b + (a % b != 0 ? 1 : 0);
}

/* What a step gives; false where it takes the expression to tell. */
static inline bool pega_step_number(const pega_step *step, const pega_value *args, int64_t *out) {
  const int kind = step->kind;
  if (kind == kStepConstant) {
    *out = step->number;
    return true;
  }
  if (kind == kStepExpression) return false;
  const int64_t value = args[step->arg].as.i64;
  *out = value;
  if (kind == kStepInt) return true;
  if (value < 0) return false;
  if (kind == kStepModulo) {
    *out = value % step->number;
    return true;
  }
  *out = pega_cdiv(value, step->number);
  return kind == kStepCdiv || !__builtin_mul_overflow(*out, args[step->arg2].as.i64, out);
}

/* Encodes a tensor map (the driver's cuTensorMapEncodeTiled) of a tensor. */
pega_status pega_tensor_map_encode(const pega_kernel *kernel, const pega_cuda_driver *driver,
                                   const pega_kernel_param *param, const DLTensor *tensor,
                                   CUtensorMap *out, pega_error *error);

/* A double as a 16-bit float, rounded to nearest even: 5 and 10 bits of exponent and fraction for
 * float16, 8 and 7 for bfloat16. */
uint16_t pega_float_pack16(double value, int exponent_bits, int fraction_bits);
/* And back. */
double pega_float_unpack16(uint16_t bits, int exponent_bits, int fraction_bits);

#endif /* PEGA_CUDA_ARGUMENT_H_ */
