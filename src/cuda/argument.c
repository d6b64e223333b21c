/* SPDX-License-Identifier: Apache-2.0 */
#include "argument.h"

#include <inttypes.h>
#include <math.h>

/* What an integer parameter of each type can hold. */
static bool fits(uint8_t type, int64_t value) {
  switch (type) {
    case kParamBool:
      return value == 0 || value == 1;
    case kParamI8:
      return value >= INT8_MIN && value <= INT8_MAX;
    case kParamI16:
      return value >= INT16_MIN && value <= INT16_MAX;
    case kParamI32:
      return value >= INT32_MIN && value <= INT32_MAX;
    case kParamU8:
      return value >= 0 && value <= UINT8_MAX;
    case kParamU16:
      return value >= 0 && value <= UINT16_MAX;
    case kParamU32:
      return value >= 0 && value <= UINT32_MAX;
    case kParamU64:
      return value >= 0;
    default:
      return true;
  }
}

static const char *const type_names[] = {"pointer", "bool", "i8",  "i16", "i32",
                                         "i64",     "u8",   "u16", "u32", "u64",
                                         "f16",     "bf16", "f32", "f64", "tensor map"};

__attribute__((cold, noinline)) static pega_status does_not_fit(const pega_kernel *kernel,
                                                                const pega_kernel_param *param,
                                                                int64_t value, pega_error *error) {
  return pega_error_set(
      error, PEGA_ERROR_RANGE, NULL,
      "%s: nothing was launched: parameter '%s' = %s = %" PRId64 " does not fit the kernel's %s",
      kernel->name, param->name, param->value.text, value, type_names[param->type]);
}

uint16_t pega_float_pack16(double value, int exponent_bits, int fraction_bits) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int shift = 52 - fraction_bits;
  const uint32_t infinity = ((1u << exponent_bits) - 1) << fraction_bits;
  const uint32_t sign = (uint32_t)(bits >> 63) << (exponent_bits + fraction_bits);
  const int exponent = (int)(bits >> 52 & 0x7ff) - 1023;
  uint64_t fraction = bits & ((UINT64_C(1) << 52) - 1);
  if (exponent == 1024) {
    uint32_t quiet = fraction == 0 ? 0 : 1u << (fraction_bits - 1);
    return (uint16_t)(sign | infinity | quiet);
  }
  if (exponent > bias) return (uint16_t)(sign | infinity);
  int drop = shift;
  uint32_t biased = 0;
  if (exponent >= 1 - bias) {
    biased = (uint32_t)(exponent + bias);
  } else {
    /* Subnormal: the leading one becomes part of the fraction, moved down. */
    drop += 1 - bias - exponent;
    if (drop > 54) return (uint16_t)sign;
    fraction |= UINT64_C(1) << 52;
  }
  uint64_t kept = fraction >> drop;
  const uint64_t rest = fraction & ((UINT64_C(1) << drop) - 1);
  const uint64_t half = UINT64_C(1) << (drop - 1);
  if (rest > half || (rest == half && (kept & 1) != 0)) ++kept;
  /* A carry out of the fraction goes into the exponent, and from the greatest to infinity. */
  return (uint16_t)(sign | ((biased << fraction_bits) + (uint32_t)kept));
}

double pega_float_unpack16(uint16_t bits, int exponent_bits, int fraction_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = bits >> fraction_bits & ((1 << exponent_bits) - 1);
  const int fraction = bits & ((1 << fraction_bits) - 1);
  double value;
  if (exponent == (1 << exponent_bits) - 1) {
    value = fraction == 0 ? (double)INFINITY : (double)NAN;
  } else if (exponent == 0) {
    value = ldexp(fraction, 1 - bias - fraction_bits);
  } else {
    value = ldexp(fraction + (1 << fraction_bits), exponent - bias - fraction_bits);
  }
  return (bits >> (exponent_bits + fraction_bits) & 1) != 0 ? -value : value;
}

/* False for a number that only infinity stands for in the parameter's type. */
static bool put_float(const pega_kernel_param *param, double value, unsigned char *to) {
  uint16_t half;
  float single;
  switch (param->type) {
    case kParamF16:
      half = pega_float_pack16(value, 5, 10);
      memcpy(to, &half, sizeof half);
      return !isfinite(value) || (half & 0x7fff) != 0x7c00;
    case kParamBf16:
      half = pega_float_pack16(value, 8, 7);
      memcpy(to, &half, sizeof half);
      return !isfinite(value) || (half & 0x7fff) != 0x7f80;
    case kParamF32:
      single = (float)value;
      memcpy(to, &single, sizeof single);
      return !isfinite(value) || isfinite(single);
    default:
      memcpy(to, &value, sizeof value);
      return true;
  }
}

static double number(const pega_value *value) {
  if (value->kind == PEGA_FLOAT) return value->as.f64;
  return value->kind == PEGA_UINT ? (double)value->as.u64 : (double)value->as.i64;
}

__attribute__((cold, noinline)) static pega_status not_evaluated(const pega_kernel *kernel,
                                                                 const char *what, pega_error *why,
                                                                 pega_error *error) {
  pega_status status = (pega_status)why->status;
  pega_error_set(error, status, NULL, "%s: nothing was launched: %s: %s", kernel->name, what,
                 pega_error_message(why));
  pega_error_clear(why);
  return status;
}

pega_status pega_launch_evaluate(const pega_kernel *kernel, const char *what,
                                 const pega_expression *expression, const pega_value *args,
                                 int64_t *out, pega_error *error) {
  pega_error why;
  pega_error_init(&why);
  if (__builtin_expect(pega_expression_evaluate(expression, args, out, &why) == PEGA_OK, 1)) {
    return PEGA_OK;
  }
  return not_evaluated(kernel, what, &why, error);
}

static pega_status put_argument(const pega_kernel *kernel, const pega_kernel_param *param,
                                const pega_value *args, unsigned char *to, pega_error *error) {
  if (param->type >= kParamF16 && param->type <= kParamF64) {
    const double value = number(&args[param->argument]);
    if (__builtin_expect(put_float(param, value, to), 1)) return PEGA_OK;
    return pega_error_set(error, PEGA_ERROR_RANGE, NULL,
                          "%s: nothing was launched: parameter '%s' = %g does not fit the kernel's "
                          "%s",
                          kernel->name, param->name, value, type_names[param->type]);
  }
  int64_t value;
  pega_status status =
      pega_launch_evaluate(kernel, param->name, &param->value, args, &value, error);
  if (status != PEGA_OK) return status;
  if (__builtin_expect(!fits(param->type, value), 0)) {
    return does_not_fit(kernel, param, value, error);
  }
  /* Little-endian: the low bytes come first. */
  switch (param->size) {
    case 1:
      memcpy(to, &value, 1);
      break;
    case 2:
      memcpy(to, &value, 2);
      break;
    case 4:
      memcpy(to, &value, 4);
      break;
    default:
      memcpy(to, &value, 8);
  }
  return PEGA_OK;
}

pega_status pega_param_put(const pega_kernel *kernel, const pega_kernel_param *param,
                           const pega_cuda_driver *driver, const pega_value *args,
                           CUdeviceptr global_scratch, CUdeviceptr profile_scratch,
                           unsigned char *to, pega_error *error) {
  CUtensorMap map;
  pega_status status;
  switch (param->role) {
    case kRoleArgument:
      return put_argument(kernel, param, args, to, error);
    case kRoleGlobalScratch:
      memcpy(to, &global_scratch, sizeof global_scratch);
      return PEGA_OK;
    case kRoleProfileScratch:
      memcpy(to, &profile_scratch, sizeof profile_scratch);
      return PEGA_OK;
    default:
      /* The driver wants the map aligned; where it stands among the parameters it need not be. */
      status = pega_tensor_map_encode(kernel, driver, param,
                                      pega_value_as_tensor(&args[param->argument]), &map, error);
      if (status == PEGA_OK) memcpy(to, &map, sizeof map);
      return status;
  }
}
