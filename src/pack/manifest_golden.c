/* SPDX-License-Identifier: Apache-2.0 */
/* Golden cases: arguments of a call and what must come of it. */
#include <inttypes.h>

#include "core/signature.h"
#include "manifest.h"

/* An address that pointers and tensors of a case are checked with: not 0, aligned to anything. */
#define PEGA_SOME_ADDRESS ((uintptr_t)1 << 40)

/* Whether a generator can fill, and a comparison read, such elements. */
static bool is_number_dtype(DLDataType dtype) {
  if (dtype.lanes != 1) return false;
  switch (dtype.code) {
    case kDLInt:
    case kDLUInt:
      return dtype.bits == 8 || dtype.bits == 16 || dtype.bits == 32 || dtype.bits == 64;
    case kDLFloat:
      return dtype.bits == 16 || dtype.bits == 32 || dtype.bits == 64;
    case kDLBfloat:
      return dtype.bits == 16;
    case kDLBool:
      return dtype.bits == 8;
    default:
      return false;
  }
}

static bool check_number_dtype(pega_json_reader *reader, const pega_json *at,
                               const pega_golden_arg *arg) {
  char name[PEGA_NAME_SIZE];
  if (is_number_dtype(arg->dtype)) return true;
  return pega_json_fail(reader, at, PEGA_ERROR_FORMAT,
                        "elements of type %s can be filled from a blob only and not be compared",
                        pega_dtype_name(arg->dtype, name));
}

/* The blob of a tensor's elements: of the tensor's size. */
static bool read_data_blob(const pega_manifest_function *function, const pega_json *at,
                           int64_t num_bytes, int32_t *out) {
  if (!pega_manifest_blob(function->manifest, at, "blob", 1u << kBlobData, out)) return false;
  const pega_blob *blob = &function->manifest->pack->blobs[*out];
  if (blob->size == (uint64_t)num_bytes) return true;
  return pega_json_fail(&function->manifest->reader, at, PEGA_ERROR_FORMAT,
                        "blob %s has %" PRIu64 " bytes, the tensor has %" PRId64, blob->name,
                        blob->size, num_bytes);
}

static bool read_fill(const pega_manifest_function *function, const pega_json *at,
                      int64_t num_bytes, pega_golden_arg *out) {
  static const char *const uniform[] = {"generator", "seed", "low", "high", NULL};
  static const char *const constant[] = {"generator", "value", NULL};
  static const char *const blob[] = {"blob", NULL};
  pega_json_reader *reader = &function->manifest->reader;
  pega_json member;
  if (!pega_json_is(at->value, kJsonObject)) return pega_json_expected(reader, at, "an object");
  if (pega_json_get(at, "blob", &member)) {
    out->fill = kFillBlob;
    return pega_json_fields(reader, at, blob) &&
           read_data_blob(function, at, num_bytes, &out->fill_blob);
  }
  if (!pega_json_need(reader, at, "generator", &member)) return false;
  const char *name = pega_json_text_of(member.value);
  if (!check_number_dtype(reader, at, out)) return false;
  if (strcmp(name, "constant") == 0) {
    out->fill = kFillConstant;
    return pega_json_fields(reader, at, constant) &&
           pega_json_need_number(reader, at, "value", &out->low);
  }
  if (strcmp(name, "uniform") != 0) {
    return pega_json_expected(reader, &member, "\"uniform\" or \"constant\"");
  }
  int64_t seed;
  out->fill = kFillUniform;
  if (!pega_json_fields(reader, at, uniform) ||
      !pega_json_need_int(reader, at, "seed", 0, INT64_MAX, &seed) ||
      !pega_json_need_number(reader, at, "low", &out->low) ||
      !pega_json_need_number(reader, at, "high", &out->high)) {
    return false;
  }
  out->seed = (uint64_t)seed;
  if (out->low <= out->high) return true;
  return pega_json_fail(reader, at, PEGA_ERROR_FORMAT, "low is %g, greater than high, %g", out->low,
                        out->high);
}

static bool read_tolerance(pega_json_reader *reader, const pega_json *at, const char *key,
                           double *out) {
  pega_json member;
  if (!pega_json_need(reader, at, key, &member) || !pega_json_number(reader, &member, out)) {
    return false;
  }
  return *out >= 0 || pega_json_expected(reader, &member, "a number >= 0");
}

static bool read_expect(const pega_manifest_function *function, const pega_json *at,
                        int64_t num_bytes, pega_golden_arg *out) {
  static const char *const fields[] = {"blob", "atol", "rtol", NULL};
  pega_json_reader *reader = &function->manifest->reader;
  return pega_json_fields(reader, at, fields) && check_number_dtype(reader, at, out) &&
         read_data_blob(function, at, num_bytes, &out->expect_blob) &&
         read_tolerance(reader, at, "atol", &out->atol) &&
         read_tolerance(reader, at, "rtol", &out->rtol);
}

/* ---- Tensors, and memory behind pointers ---- */

static DLTensor view_of(pega_golden_arg *arg) {
  DLTensor view;
  memset(&view, 0, sizeof view);
  view.data = (void *)PEGA_SOME_ADDRESS;
  view.device.device_type = kDLCUDA;
  view.dtype = arg->dtype;
  view.ndim = arg->rank;
  view.shape = arg->shape;
  return view;
}

static bool read_tensor_type(pega_json_reader *reader, const pega_json *at, pega_golden_arg *out) {
  pega_json member;
  pega_error error;
  pega_error_init(&error);
  size_t rank;
  if (!pega_json_need(reader, at, "dtype", &member)) return false;
  if (!pega_json_is(member.value, kJsonString))
    return pega_json_expected(reader, &member, "a string");
  if (pega_dtype_parse(pega_json_text_of(member.value), &out->dtype, &error) != PEGA_OK) {
    return pega_json_wrap(reader, &member, &error);
  }
  if (!pega_json_need(reader, at, "shape", &member) ||
      !pega_json_array(reader, &member, 0, kMaxGoldenRank, &rank)) {
    return false;
  }
  out->rank = (int32_t)rank;
  for (size_t i = 0; i < rank; ++i) {
    pega_json item = pega_json_item(&member, i);
    if (!pega_json_int(reader, &item, 0, INT64_MAX, &out->shape[i])) return false;
  }
  DLTensor view = view_of(out);
  if (pega_tensor_validate(&view, &error) == PEGA_OK) return true;
  return pega_json_wrap(reader, at, &error);
}

static bool read_tensor(const pega_manifest_function *function, const pega_json *at,
                        pega_golden_arg *out) {
  static const char *const fields[] = {"dtype", "shape", "fill", "expect", NULL};
  pega_json_reader *reader = &function->manifest->reader;
  pega_json member;
  out->kind = PEGA_TENSOR;
  if (!pega_json_fields(reader, at, fields) || !read_tensor_type(reader, at, out)) return false;
  DLTensor view = view_of(out);
  int64_t num_bytes = pega_tensor_num_bytes(&view);
  if (pega_json_get(at, "fill", &member) && !read_fill(function, &member, num_bytes, out)) {
    return false;
  }
  return !pega_json_get(at, "expect", &member) || read_expect(function, &member, num_bytes, out);
}

/* Memory behind a pointer is what the parameter's `pointee` says, where it says something, with the case's
 * numbers. */
static bool check_pointee(const pega_manifest_function *function, const pega_json *at,
                          const pega_pointee *pointee, const pega_golden *golden,
                          const int32_t *places, const pega_golden_arg *arg) {
  pega_json_reader *reader = &function->manifest->reader;
  char wanted[PEGA_NAME_SIZE], got[PEGA_NAME_SIZE];
  if (pointee->rank < 0) return true;
  if (memcmp(&arg->dtype, &pointee->dtype, sizeof arg->dtype) != 0) {
    return pega_json_fail(
        reader, at, PEGA_ERROR_FORMAT, "dtype: expected %s, as the parameter's pointee, got %s",
        pega_dtype_name(pointee->dtype, wanted), pega_dtype_name(arg->dtype, got));
  }
  if (arg->rank != pointee->rank) {
    return pega_json_fail(reader, at, PEGA_ERROR_FORMAT,
                          "shape: expected %" PRId32
                          " sizes, as the parameter's pointee, got "
                          "%" PRId32,
                          pointee->rank, arg->rank);
  }
  for (int32_t i = 0; i < arg->rank; ++i) {
    const pega_pointee_dim *dim = &pointee->dims[i];
    int64_t size = dim->param < 0 ? dim->size : golden->args[places[dim->param]].as.i64;
    if (arg->shape[i] == size) continue;
    return pega_json_fail(reader, at, PEGA_ERROR_FORMAT,
                          "shape[%" PRId32 "]: expected %" PRId64
                          ", as the parameter's pointee, got %" PRId64,
                          i, size, arg->shape[i]);
  }
  return true;
}

/* ---- Arguments ---- */

static bool read_arg(const pega_manifest_function *function, const pega_json *at, uint32_t type,
                     pega_golden_arg *out) {
  pega_json_reader *reader = &function->manifest->reader;
  out->fill_blob = -1;
  out->expect_blob = -1;
  switch (type) {
    case PEGA_TYPE_INT:
      out->kind = PEGA_INT;
      return pega_json_int(reader, at, INT64_MIN, INT64_MAX, &out->as.i64);
    case PEGA_TYPE_FLOAT:
      out->kind = PEGA_FLOAT;
      return pega_json_number(reader, at, &out->as.f64);
    case PEGA_TYPE_BOOL:
      out->kind = PEGA_BOOL;
      if (!pega_json_is_bool(at->value)) return pega_json_expected(reader, at, "true or false");
      out->as.i64 = pega_json_is(at->value, kJsonTrue);
      return true;
    default:
      return read_tensor(function, at, out);
  }
}

/* What pega_function_check() has to say of the case's arguments. */
static bool check_call(const pega_manifest_function *function, const pega_json *at,
                       pega_golden_arg *golden, const int32_t *places) {
  const pega_signature *signature = &function->description->signature;
  pega_error error;
  pega_error_init(&error);
  pega_value values[kMaxParams];
  DLTensor views[kMaxParams];
  for (int32_t i = 0; i < signature->num_params; ++i) {
    uint32_t type = signature->params[i].type;
    if (type == PEGA_TYPE_STREAM) {
      values[i] = pega_value_pointer((const void *)PEGA_SOME_ADDRESS);
      continue;
    }
    pega_golden_arg *arg = &golden[places[i]];
    if (arg->kind == PEGA_INT) values[i] = pega_value_int(arg->as.i64);
    if (arg->kind == PEGA_FLOAT) values[i] = pega_value_float(arg->as.f64);
    if (arg->kind == PEGA_BOOL) values[i] = pega_value_bool(arg->as.i64 != 0);
    if (arg->kind != PEGA_TENSOR) continue;
    views[i] = view_of(arg);
    values[i] = type == PEGA_TYPE_POINTER ? pega_value_pointer(views[i].data)
                                          : pega_value_tensor(&views[i]);
  }
  if (pega_function_check(function->function, values, signature->num_params, &error) == PEGA_OK) {
    return true;
  }
  return pega_json_wrap(&function->manifest->reader, at, &error);
}

bool pega_manifest_read_golden(const pega_manifest_function *function, const pega_json *at,
                               pega_golden *out) {
  static const char *const fields[] = {"name", "args", NULL};
  pega_json_reader *reader = &function->manifest->reader;
  const pega_signature *signature = &function->description->signature;
  const char *names[kMaxParams + 1];
  int32_t places[kMaxParams];
  bool compared = false;
  pega_json args;
  if (!pega_json_fields(reader, at, fields) ||
      !pega_json_need_text(reader, at, "name", 1, kMaxText, &out->name) ||
      !pega_json_need(reader, at, "args", &args)) {
    return false;
  }
  for (int32_t i = 0; i < signature->num_params; ++i) {
    places[i] = out->num_args;
    if (signature->params[i].type == PEGA_TYPE_STREAM) continue;
    names[out->num_args++] = signature->params[i].name;
  }
  names[out->num_args] = NULL;
  if (!pega_json_fields(reader, &args, names)) return false;
  pega_golden_arg *read = pega_arena_alloc(reader->arena, (size_t)out->num_args, sizeof *read);
  if (read == NULL) return pega_json_out_of_memory(reader);
  out->args = read;
  for (int32_t i = 0; i < signature->num_params; ++i) {
    const pega_param *param = &signature->params[i];
    pega_json member;
    if (param->type == PEGA_TYPE_STREAM) continue;
    if (!pega_json_need(reader, &args, param->name, &member) ||
        !read_arg(function, &member, param->type, &read[places[i]])) {
      return false;
    }
    if (read[places[i]].expect_blob >= 0) compared = true;
  }
  if (!check_call(function, &args, read, places)) return false;
  for (int32_t i = 0; i < signature->num_params; ++i) {
    if (signature->params[i].type != PEGA_TYPE_POINTER) continue;
    pega_json member;
    pega_json_get(&args, signature->params[i].name, &member);
    if (!check_pointee(function, &member, &function->pointees[i], out, places, &read[places[i]])) {
      return false;
    }
  }
  return compared || pega_json_fail(reader, &args, PEGA_ERROR_FORMAT,
                                    "no argument has 'expect': nothing would be compared");
}
