/* SPDX-License-Identifier: Apache-2.0 */
/* The check of a call's arguments. What succeeds formats nothing; what fails is out of line. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "hot.h"
#include "signature.h"
#include "text.h"

typedef struct call_check {
  const pega_compiled_signature *signature;
  const char *function;
  const pega_value *args;
  pega_error *error;
} call_check;

#define COLD __attribute__((cold, noinline))

/* "f: argument 1 'x': expected E, got G; call it as f(x: ...)". */
COLD __attribute__((format(printf, 4, 5))) static pega_status fail(const call_check *check,
                                                                   int32_t index,
                                                                   pega_status status,
                                                                   const char *format, ...) {
  char why[1024];
  pega_text text = {why, sizeof why, 0};
  va_list args;
  va_start(args, format);
  pega_text_vprintf(&text, format, args);
  va_end(args);
  return pega_error_set(check->error, status, NULL,
                        "%s: argument %" PRId32 " '%s': %s; call it as %s", check->function, index,
                        check->signature->public.params[index].name, why, check->signature->text);
}

COLD static pega_status fail_expected(const call_check *check, int32_t index, pega_status status,
                                      const char *expected) {
  char got[256];
  const pega_value *value = &check->args[index];
  if (pega_value_format(value, got, sizeof got) >= sizeof got) {
    memcpy(got + pega_text_cut(got, sizeof got - 4), "...", 4);
  }
  if (value->kind == PEGA_NONE) {
    return fail(check, index, status, "expected %s, got None", expected);
  }
  /* The text of these begins with what they are. */
  bool named = value->kind == PEGA_POINTER || value->kind >= PEGA_FUNCTION;
  return fail(check, index, status, "expected %s, got %s%s%s", expected,
              named ? "" : pega_kind_name(value->kind), named ? "" : " ", got);
}

COLD static pega_status fail_tensor(const call_check *check, int32_t index) {
  /* The tensor's own complaint, under the name of the argument. */
  pega_error inner;
  pega_error_init(&inner);
  pega_status status = pega_tensor_validate(pega_value_as_tensor(&check->args[index]), &inner);
  fail(check, index, status, "%s", inner.message);
  pega_error_clear(&inner);
  return status;
}

static void format_shape(pega_text *text, const int64_t *shape, int32_t ndim) {
  pega_text_append(text, "(", 1);
  for (int32_t i = 0; i < ndim; ++i) {
    pega_text_printf(text, "%s%" PRId64, i == 0 ? "" : ", ", shape[i]);
  }
  pega_text_append(text, ")", 1);
}

COLD static pega_status fail_shape(const call_check *check, int32_t index, int32_t axis,
                                   int64_t expected, const int32_t *bound_by) {
  const pega_param *param = &check->signature->public.params[index];
  const DLTensor *tensor = pega_value_as_tensor(&check->args[index]);
  char got[512];
  pega_text text = {got, sizeof got, 0};
  format_shape(&text, tensor->shape, tensor->ndim);
  if (axis < 0) {
    return fail(check, index, PEGA_ERROR_SHAPE, "expected shape (%s), got %s of rank %" PRId32,
                param->shape, got, tensor->ndim);
  }
  int64_t dim = check->signature->compiled[index].dims[axis];
  if (dim >= 0) {
    return fail(check, index, PEGA_ERROR_SHAPE,
                "expected shape (%s), got %s: shape[%" PRId32 "] must be %" PRId64, param->shape,
                got, axis, expected);
  }
  return fail(check, index, PEGA_ERROR_SHAPE,
              "expected shape (%s), got %s: shape[%" PRId32 "] must be %s = %" PRId64
              " as in argument %" PRId32 " '%s'",
              param->shape, got, axis, check->signature->symbols[kFirstSymbol - dim], expected,
              *bound_by, check->signature->public.params[*bound_by].name);
}

/* Sizes that names stand for, bound by the first tensor that has them. */
typedef struct bindings {
  uint64_t bound; /* bit per symbol */
  int64_t size[kMaxSymbols];
  int32_t by[kMaxSymbols];
  const DLTensor *first_tensor;
  int32_t first_index;
} bindings;

COLD static pega_status check_tensor(const call_check *check, int32_t index, bindings *bind) {
  const pega_param *param = &check->signature->public.params[index];
  const pega_compiled_param *compiled = &check->signature->compiled[index];
  const DLTensor *tensor = pega_value_as_tensor(&check->args[index]);
  char name[PEGA_NAME_SIZE];
  char other[PEGA_NAME_SIZE];
  if (pega_tensor_validate(tensor, NULL) != PEGA_OK) return fail_tensor(check, index);
  if (param->dtype.bits != 0 &&
      (tensor->dtype.code != param->dtype.code || tensor->dtype.bits != param->dtype.bits ||
       tensor->dtype.lanes != param->dtype.lanes)) {
    return fail(check, index, PEGA_ERROR_DTYPE, "expected dtype %s, got %s",
                pega_dtype_name(param->dtype, name), pega_dtype_name(tensor->dtype, other));
  }
  if (compiled->ndim >= 0) {
    if (tensor->ndim != compiled->ndim) return fail_shape(check, index, -1, 0, NULL);
    for (int32_t axis = 0; axis < tensor->ndim; ++axis) {
      int64_t dim = compiled->dims[axis];
      int64_t size = tensor->shape[axis];
      if (dim >= 0) {
        if (size != dim) return fail_shape(check, index, axis, dim, NULL);
      } else if (dim <= kFirstSymbol) {
        int64_t symbol = kFirstSymbol - dim;
        if ((bind->bound >> symbol & 1) == 0) {
          bind->bound |= (uint64_t)1 << symbol;
          bind->size[symbol] = size;
          bind->by[symbol] = index;
        } else if (bind->size[symbol] != size) {
          return fail_shape(check, index, axis, bind->size[symbol], &bind->by[symbol]);
        }
      }
    }
  }
  if (param->device_type != 0 && (int32_t)tensor->device.device_type != param->device_type) {
    DLDevice expected;
    expected.device_type = (DLDeviceType)param->device_type;
    expected.device_id = 0;
    pega_device_name(expected, name);
    name[strcspn(name, ":")] = '\0';
    return fail(check, index, PEGA_ERROR_DEVICE, "expected a tensor on a %s device, got %s", name,
                pega_device_name(tensor->device, other));
  }
  if ((check->signature->public.flags & PEGA_SIGNATURE_SAME_DEVICE) != 0) {
    if (bind->first_tensor == NULL) {
      bind->first_tensor = tensor;
      bind->first_index = index;
    } else if (bind->first_tensor->device.device_type != tensor->device.device_type ||
               bind->first_tensor->device.device_id != tensor->device.device_id) {
      return fail(check, index, PEGA_ERROR_DEVICE,
                  "expected device %s as in argument %" PRId32 " '%s', got %s",
                  pega_device_name(bind->first_tensor->device, name), bind->first_index,
                  check->signature->public.params[bind->first_index].name,
                  pega_device_name(tensor->device, other));
    }
  }
  if ((param->flags & PEGA_PARAM_CONTIGUOUS) != 0 && !pega_tensor_is_contiguous(tensor)) {
    char strides[512];
    pega_text text = {strides, sizeof strides, 0};
    format_shape(&text, tensor->strides, tensor->ndim);
    return fail(check, index, PEGA_ERROR_LAYOUT,
                "expected a contiguous row-major tensor, got strides %s; copy it to one", strides);
  }
  if (param->alignment != 0 && (uintptr_t)pega_tensor_data(tensor) % param->alignment != 0 &&
      pega_tensor_num_elements(tensor) > 0) {
    return fail(check, index, PEGA_ERROR_LAYOUT,
                "expected data aligned to %" PRIu32 " bytes, got address 0x%" PRIxPTR,
                param->alignment, (uintptr_t)pega_tensor_data(tensor));
  }
  if ((param->flags & PEGA_PARAM_OUTPUT) != 0 &&
      (pega_tensor_flags(&check->args[index]) & DLPACK_FLAG_BITMASK_READ_ONLY) != 0) {
    return fail(check, index, PEGA_ERROR_LAYOUT, "expected a writable tensor, got a read-only one");
  }
  return PEGA_OK;
}

COLD static pega_status fail_range(const call_check *check, int32_t index) {
  const pega_param *param = &check->signature->public.params[index];
  char expected[96];
  pega_text text = {expected, sizeof expected, 0};
  if ((param->flags & PEGA_PARAM_RANGE) != 0) {
    pega_text_printf(&text, "a value from %" PRId64 " to %" PRId64, param->min, param->max);
  } else {
    pega_text_printf(&text, "a value that fits in int64");
  }
  return fail_expected(check, index, PEGA_ERROR_RANGE, expected);
}

static pega_status check_int(const call_check *check, int32_t index, const pega_param *param) {
  const pega_value *value = &check->args[index];
  if (value->kind != PEGA_INT && value->kind != PEGA_UINT) {
    return fail_expected(check, index, PEGA_ERROR_TYPE, "int");
  }
  if (value->kind == PEGA_UINT && value->as.u64 > INT64_MAX) return fail_range(check, index);
  if ((param->flags & PEGA_PARAM_RANGE) != 0 &&
      (value->as.i64 < param->min || value->as.i64 > param->max)) {
    return fail_range(check, index);
  }
  return PEGA_OK;
}

static pega_status check_pointer(const call_check *check, int32_t index, const pega_param *param) {
  const pega_value *value = &check->args[index];
  const char *what = param->type == PEGA_TYPE_STREAM ? "a stream (pointer or int >= 0)"
                                                     : "a pointer (or int >= 0)";
  if (value->kind != PEGA_INT && value->kind != PEGA_UINT && value->kind != PEGA_POINTER) {
    return fail_expected(check, index, PEGA_ERROR_TYPE, what);
  }
  if (value->kind == PEGA_INT && value->as.i64 < 0) {
    return fail_expected(check, index, PEGA_ERROR_RANGE, what);
  }
  if ((param->flags & PEGA_PARAM_NONNULL) != 0 && value->as.u64 == 0) {
    return fail(check, index, PEGA_ERROR_RANGE, "expected a pointer that is not NULL, got NULL");
  }
  if (param->alignment != 0 && value->as.u64 % param->alignment != 0) {
    return fail(check, index, PEGA_ERROR_LAYOUT,
                "expected an address aligned to %" PRIu32 " bytes, got 0x%" PRIx64,
                param->alignment, value->as.u64);
  }
  return PEGA_OK;
}

/* The kind that a type takes where it takes exactly one. */
static int32_t only_kind(uint32_t type) {
  static const int8_t kinds[] = {
      [PEGA_TYPE_NONE] = PEGA_NONE,     [PEGA_TYPE_BOOL] = PEGA_BOOL,
      [PEGA_TYPE_DTYPE] = PEGA_DTYPE,   [PEGA_TYPE_DEVICE] = PEGA_DEVICE,
      [PEGA_TYPE_STRING] = PEGA_STRING, [PEGA_TYPE_BYTES] = PEGA_BYTES,
      [PEGA_TYPE_TENSOR] = PEGA_TENSOR, [PEGA_TYPE_FUNCTION] = PEGA_FUNCTION,
      [PEGA_TYPE_ARRAY] = PEGA_ARRAY,   [PEGA_TYPE_MAP] = PEGA_MAP,
      [PEGA_TYPE_OBJECT] = PEGA_OBJECT,
  };
  return kinds[type];
}

/* A value whose payload cannot be: only a host that fills the fields by hand makes one. */
static bool malformed(const pega_value *value) {
  if (value->kind > PEGA_OBJECT || (value->flags & ~PEGA_VALUE_COUNTED) != 0) return true;
  if (value->kind < PEGA_STRING) return value->flags != 0;
  if (value->as.object == NULL)
    return !(value->kind <= PEGA_BYTES && value->size == 0 && value->flags == 0);
  return value->kind >= PEGA_FUNCTION && value->flags == 0;
}

static inline bool passes_quickly(const pega_quick_param *quick, const pega_value *value) {
  /* Kind and flags at once: any flag makes it great. */
  const uint32_t tag = (uint32_t)value->flags << 16 | value->kind;
  return tag < 32 && (quick->kinds >> tag & 1) != 0 && value->as.u64 - quick->min <= quick->span &&
         (value->as.u64 & quick->mask) == 0;
}

/* The same of tensors, for which most of what can be wrong is not. */
__attribute__((noinline)) static bool tensor_passes_quickly(
    const pega_compiled_signature *signature, int32_t index, const pega_value *value,
    bindings *bind) {
  const pega_compiled_param *param = &signature->compiled[index];
  const DLTensor *tensor = value->as.tensor;
  if (value->kind != PEGA_TENSOR || value->flags != 0 || tensor == NULL ||
      tensor->ndim != param->ndim || tensor->dtype.code != param->dtype.code ||
      tensor->dtype.bits != param->dtype.bits || tensor->dtype.lanes != param->dtype.lanes) {
    return false;
  }
  const int64_t *shape = tensor->shape;
  const int64_t *strides = tensor->strides;
  if (shape == NULL) return false;
  uint64_t bound = bind->bound;
  int64_t elements = 1;
  for (int32_t axis = param->ndim - 1; axis >= 0; --axis) {
    const int64_t size = shape[axis];
    const int64_t dim = param->dims[axis];
    if (size <= 0 || (strides != NULL && strides[axis] != elements && size != 1)) return false;
    if (dim >= 0) {
      if (size != dim) return false;
    } else if (dim <= kFirstSymbol) {
      const int64_t symbol = kFirstSymbol - dim;
      if ((bound >> symbol & 1) == 0) {
        bound |= (uint64_t)1 << symbol;
        bind->size[symbol] = size;
        bind->by[symbol] = index;
      } else if (bind->size[symbol] != size) {
        return false;
      }
    }
    if (__builtin_mul_overflow(elements, size, &elements)) return false;
  }
  const int32_t type = (int32_t)tensor->device.device_type;
  const int32_t id = tensor->device.device_id;
  uintptr_t address;
  if (elements > param->most || type <= 0 || id < 0 || tensor->data == NULL ||
      (param->device_type != 0 && type != param->device_type) ||
      __builtin_add_overflow((uintptr_t)tensor->data, tensor->byte_offset, &address) ||
      (address & param->mask) != 0) {
    return false;
  }
  if ((signature->public.flags & PEGA_SIGNATURE_SAME_DEVICE) != 0) {
    if (bind->first_tensor == NULL) {
      bind->first_tensor = tensor;
      bind->first_index = index;
    } else if (bind->first_tensor->device.device_id != id ||
               (int32_t)bind->first_tensor->device.device_type != type) {
      return false;
    }
  }
  bind->bound = bound;
  return true;
}

/* Kept out of the loop over plain values, whose few lines stay in the cache between launches. */
__attribute__((noinline)) static pega_status check_one(const call_check *check, int32_t index,
                                                       bindings *bind) {
  const pega_param *param = &check->signature->public.params[index];
  const pega_value *value = &check->args[index];
  if (malformed(value)) {
    return fail(check, index, PEGA_ERROR_INVALID_ARGUMENT,
                "malformed value (kind %u, flags %u, payload 0x%" PRIx64 ")", value->kind,
                value->flags, value->as.u64);
  }
  if (value->kind == PEGA_NONE && (param->flags & PEGA_PARAM_OPTIONAL) != 0) return PEGA_OK;
  switch (param->type) {
    case PEGA_TYPE_ANY:
      if (value->kind == PEGA_TENSOR &&
          pega_tensor_validate(pega_value_as_tensor(value), NULL) != PEGA_OK) {
        return fail_tensor(check, index);
      }
      return PEGA_OK;
    case PEGA_TYPE_INT:
      return check_int(check, index, param);
    case PEGA_TYPE_FLOAT:
      if (value->kind == PEGA_FLOAT || value->kind == PEGA_INT || value->kind == PEGA_UINT) {
        return PEGA_OK;
      }
      return fail_expected(check, index, PEGA_ERROR_TYPE, "float");
    case PEGA_TYPE_POINTER:
    case PEGA_TYPE_STREAM:
      return check_pointer(check, index, param);
    default:
      if ((int32_t)value->kind != only_kind(param->type)) {
        return fail_expected(check, index, PEGA_ERROR_TYPE, pega_type_name(param->type));
      }
      return param->type == PEGA_TYPE_TENSOR ? check_tensor(check, index, bind) : PEGA_OK;
  }
}

COLD static pega_status fail_count(const call_check *check, int32_t num_args) {
  const int32_t most = check->signature->num_params;
  const int32_t least = check->signature->num_required;
  char range[24] = "";
  if (least < most) (void)snprintf(range, sizeof range, "%" PRId32 " to ", least);
  return pega_error_set(check->error, PEGA_ERROR_ARGUMENT_COUNT, NULL,
                        "%s: expected %s%" PRId32 " argument%s, got %" PRId32 "; call it as %s",
                        check->function, range, most, most == 1 ? "" : "s", num_args,
                        check->signature->text);
}

PEGA_HOT pega_status pega_signature_check(const pega_compiled_signature *signature,
                                          const char *function, const pega_value *args,
                                          int32_t num_args, pega_error *error) {
  call_check check = {signature, function, args, error};
  if (__builtin_expect(num_args != signature->num_params, 0) &&
      (num_args > signature->num_params || num_args < signature->num_required)) {
    return fail_count(&check, num_args);
  }
  bindings bind;
  bind.bound = 0;
  bind.first_tensor = NULL;
  for (int32_t i = 0; i < num_args; ++i) {
    if (passes_quickly(&signature->quick[i], &args[i])) continue;
    if (signature->compiled[i].most != 0 && tensor_passes_quickly(signature, i, &args[i], &bind)) {
      continue;
    }
    pega_status status = check_one(&check, i, &bind);
    if (status != PEGA_OK) return status;
  }
  return PEGA_OK;
}

COLD static pega_status fail_untyped(const char *function, const pega_value *value, int32_t index,
                                     pega_error *error) {
  pega_error why;
  pega_error_init(&why);
  pega_status status = PEGA_ERROR_INVALID_ARGUMENT;
  if (malformed(value)) {
    pega_error_set(&why, status, NULL, "malformed value (kind %u, flags %u, payload 0x%" PRIx64 ")",
                   value->kind, value->flags, value->as.u64);
  } else {
    status = pega_tensor_validate(pega_value_as_tensor(value), &why);
  }
  pega_error_set(error, status, NULL, "%s: argument %" PRId32 ": %s", function, index,
                 pega_error_message(&why));
  pega_error_clear(&why);
  return status;
}

pega_status pega_untyped_check(const char *function, const pega_value *args, int32_t num_args,
                               pega_error *error) {
  for (int32_t i = 0; i < num_args; ++i) {
    const pega_value *value = &args[i];
    if (value->kind <= PEGA_DEVICE && value->flags == 0) continue;
    /* Counted tensors were checked when they were made. */
    bool borrowed_tensor = value->kind == PEGA_TENSOR && value->flags == 0;
    if (malformed(value) ||
        (borrowed_tensor && pega_tensor_validate(value->as.tensor, NULL) != PEGA_OK)) {
      return fail_untyped(function, value, i, error);
    }
  }
  return PEGA_OK;
}
