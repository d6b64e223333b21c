/* SPDX-License-Identifier: Apache-2.0 */
/* From a described signature to a compiled one. The check itself is in check.c. */
#include "signature.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>

#include "object.h"
#include "options.h"
#include "text.h"

const char *pega_type_name(uint32_t type) {
  static const char *const names[] = {"any",      "None",  "bool",   "int",    "float", "pointer",
                                      "stream",   "dtype", "device", "string", "bytes", "Tensor",
                                      "function", "array", "map",    "object"};
  return type < sizeof names / sizeof *names ? names[type] : "unknown";
}

static bool identifier(const char *name) {
  if (name == NULL || !(isalpha((unsigned char)*name) || *name == '_')) return false;
  size_t size = 0;
  for (; name[size] != '\0'; ++size) {
    if (size == 64 || !(isalnum((unsigned char)name[size]) || name[size] == '_')) return false;
  }
  return true;
}

/* What the compiler builds up before it knows how much room is needed. */
typedef struct builder {
  const char *function;
  int64_t dims[kMaxParams][PEGA_MAX_RANK];
  int32_t ndim[kMaxParams];
  char symbols[kMaxSymbols][32];
  int32_t num_symbols;
} builder;

static pega_status bad_param(const builder *build, int32_t index, const pega_param *param,
                             const char *why, pega_error *error) {
  char name[96];
  return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                        "signature of '%s': parameter %" PRId32 " '%s': %s", build->function, index,
                        pega_text_short_name(param->name, name), why);
}

static const char *parse_symbol(builder *build, const char *at, int64_t *dim) {
  size_t size = 0;
  while (isalnum((unsigned char)at[size]) || at[size] == '_') ++size;
  if (size >= sizeof build->symbols[0]) return NULL;
  if (size == 1 && *at == '_') {
    *dim = kAnySize;
    return at + 1;
  }
  int32_t number = 0;
  while (number < build->num_symbols &&
         (strncmp(build->symbols[number], at, size) != 0 || build->symbols[number][size] != '\0')) {
    ++number;
  }
  if (number == kMaxSymbols) return NULL;
  if (number == build->num_symbols) {
    memcpy(build->symbols[number], at, size);
    build->symbols[number][size] = '\0';
    ++build->num_symbols;
  }
  *dim = kFirstSymbol - number;
  return at + size;
}

/* Reads "T, HV, 64" into dims; NULL if it reads well, else what is wrong. */
static const char *parse_shape(builder *build, int32_t index, const char *at) {
  int32_t ndim = 0;
  while (*at == ' ') ++at;
  while (*at != '\0') {
    if (ndim == PEGA_MAX_RANK) return "shape has more dimensions than a tensor may have";
    int64_t *dim = &build->dims[index][ndim];
    if (isdigit((unsigned char)*at)) {
      *dim = 0;
      for (; isdigit((unsigned char)*at); ++at) {
        if (*dim > (INT64_MAX - 9) / 10) return "shape has a size past int64";
        *dim = *dim * 10 + (*at - '0');
      }
    } else if (isalpha((unsigned char)*at) || *at == '_') {
      at = parse_symbol(build, at, dim);
      if (at == NULL) return "shape has too many names, or one of more than 31 bytes";
    } else {
      return "shape is no list of sizes and names such as \"T, HV, 64\"";
    }
    ++ndim;
    while (*at == ' ') ++at;
    if (*at == ',') {
      ++at;
      while (*at == ' ') ++at;
      if (*at == '\0') return "shape ends in a comma";
    } else if (*at != '\0') {
      return "shape is no list of sizes and names such as \"T, HV, 64\"";
    }
  }
  build->ndim[index] = ndim;
  return NULL;
}

/* What is said of a parameter that nothing would ever check is a mistake of who wrote it. */
static bool fits_type(const pega_param *param) {
  bool tensor = param->type == PEGA_TYPE_TENSOR;
  bool pointer = param->type == PEGA_TYPE_POINTER || param->type == PEGA_TYPE_STREAM;
  uint32_t allowed = PEGA_PARAM_OPTIONAL;
  if (tensor) allowed |= PEGA_PARAM_CONTIGUOUS | PEGA_PARAM_OUTPUT;
  if (pointer) allowed |= PEGA_PARAM_NONNULL | PEGA_PARAM_OUTPUT;
  if (param->type == PEGA_TYPE_INT) allowed |= PEGA_PARAM_RANGE;
  return (param->flags & ~allowed) == 0 && (tensor || pointer || param->alignment == 0) &&
         (tensor || (param->shape == NULL && param->dtype.bits == 0 && param->device_type == 0));
}

static pega_status check_param(builder *build, const pega_signature *signature, int32_t index,
                               pega_error *error) {
  const pega_param *param = &signature->params[index];
  const uint32_t known = PEGA_PARAM_OPTIONAL | PEGA_PARAM_NONNULL | PEGA_PARAM_RANGE |
                         PEGA_PARAM_CONTIGUOUS | PEGA_PARAM_OUTPUT;
  const char *why = NULL;
  if (!identifier(param->name)) {
    why = "the name is no identifier of at most 64 bytes";
  } else if (param->type > PEGA_TYPE_OBJECT) {
    why = "unknown type";
  } else if ((param->flags & ~known) != 0 || param->reserved != 0) {
    why = "unknown flags: built for a newer library?";
  } else if (!fits_type(param)) {
    why = "it has a flag, range, shape, dtype, device or alignment that its type does not know";
  } else if ((param->flags & PEGA_PARAM_RANGE) != 0 && param->min > param->max) {
    why = "min is greater than max";
  } else if ((param->alignment & (param->alignment - 1)) != 0) {
    why = "alignment is no power of two";
  }
  for (int32_t i = 0; why == NULL && i < index; ++i) {
    if (strcmp(signature->params[i].name, param->name) == 0) why = "the name is used twice";
  }
  build->ndim[index] = -1;
  if (why == NULL && param->shape != NULL) why = parse_shape(build, index, param->shape);
  return why == NULL ? PEGA_OK : bad_param(build, index, param, why, error);
}

static void describe_param(pega_heap_text *text, const pega_param *param) {
  char name[PEGA_NAME_SIZE];
  pega_heap_text_printf(text, "%s: ", param->name);
  if ((param->flags & PEGA_PARAM_OUTPUT) != 0) pega_heap_text_printf(text, "out ");
  pega_heap_text_printf(text, "%s", pega_type_name(param->type));
  if (param->type == PEGA_TYPE_TENSOR) {
    pega_heap_text_printf(text, "[%s",
                          param->dtype.bits == 0 ? "any" : pega_dtype_name(param->dtype, name));
    if (param->shape != NULL) pega_heap_text_printf(text, ", (%s)", param->shape);
    if (param->device_type != 0) {
      DLDevice device;
      device.device_type = (DLDeviceType)param->device_type;
      device.device_id = 0;
      pega_device_name(device, name);
      name[strcspn(name, ":")] = '\0';
      pega_heap_text_printf(text, ", %s", name);
    }
    pega_heap_text_append(text, "]", 1);
  }
  if ((param->flags & PEGA_PARAM_RANGE) != 0) {
    pega_heap_text_printf(text, "[%" PRId64 "..%" PRId64 "]", param->min, param->max);
  }
  if ((param->flags & PEGA_PARAM_OPTIONAL) != 0) pega_heap_text_printf(text, " or None");
}

static char *describe(const pega_signature *signature, const char *function) {
  pega_heap_text text = {NULL, 0, 0, 0};
  pega_heap_text_printf(&text, "%s(", function);
  for (int32_t i = 0; i < signature->num_params; ++i) {
    if (i > 0) pega_heap_text_append(&text, ", ", 2);
    describe_param(&text, &signature->params[i]);
  }
  pega_heap_text_printf(&text, ") -> %s", pega_type_name(signature->result));
  if (text.failed) {
    free(text.data);
    return NULL;
  }
  return text.data;
}

static size_t text_size(const char *text) { return text == NULL ? 0 : strlen(text) + 1; }

/* Moves a string into the block. */
static const char *keep(char **room, const char *text) {
  if (text == NULL) return NULL;
  size_t size = strlen(text) + 1;
  char *kept = memcpy(*room, text, size);
  *room += size;
  return kept;
}

static pega_quick_param quick_param(const pega_param *param) {
  pega_quick_param quick = {0, 0, 0, 0};
  int64_t min = INT64_MIN;
  int64_t max = INT64_MAX;
  switch (param->type) {
    case PEGA_TYPE_INT:
      quick.kinds = 1u << PEGA_INT;
      if ((param->flags & PEGA_PARAM_RANGE) != 0) {
        min = param->min;
        max = param->max;
      }
      break;
    case PEGA_TYPE_FLOAT:
      quick.kinds = 1u << PEGA_FLOAT | 1u << PEGA_INT;
      break;
    case PEGA_TYPE_BOOL:
      quick.kinds = 1u << PEGA_BOOL;
      break;
    case PEGA_TYPE_POINTER:
    case PEGA_TYPE_STREAM:
      quick.kinds = 1u << PEGA_POINTER | 1u << PEGA_INT;
      min = (param->flags & PEGA_PARAM_NONNULL) != 0 ? 1 : 0;
      quick.mask = param->alignment == 0 ? 0 : param->alignment - 1;
      break;
    default:
      break;
  }
  if ((param->flags & PEGA_PARAM_OPTIONAL) != 0) quick.kinds |= 1u << PEGA_NONE;
  quick.min = (uint64_t)min;
  quick.span = (uint64_t)max - (uint64_t)min;
  return quick;
}

static pega_compiled_signature *lay_out(const builder *build, const pega_signature *signature) {
  size_t count = (size_t)signature->num_params;
  size_t num_dims = 0;
  size_t num_chars = 0;
  for (size_t i = 0; i < count; ++i) {
    const pega_param *param = &signature->params[i];
    if (build->ndim[i] > 0) num_dims += (size_t)build->ndim[i];
    num_chars += text_size(param->name) + text_size(param->doc) + text_size(param->shape) +
                 text_size(param->domain);
  }
  for (int32_t i = 0; i < build->num_symbols; ++i) num_chars += text_size(build->symbols[i]);
  size_t size =
      sizeof(pega_compiled_signature) + num_dims * sizeof(int64_t) +
      count * (sizeof(pega_quick_param) + sizeof(pega_param) + sizeof(pega_compiled_param)) +
      num_chars;
  pega_compiled_signature *made = calloc(1, size);
  if (made == NULL) return NULL;
  pega_quick_param *quick = (pega_quick_param *)(made + 1);
  int64_t *dims = (int64_t *)(void *)(quick + count);
  pega_param *params = (pega_param *)(dims + num_dims);
  pega_compiled_param *compiled = (pega_compiled_param *)(params + count);
  char *room = (char *)(compiled + count);
  made->public = *signature;
  made->public.struct_size = (uint32_t)sizeof made->public;
  made->public.params = params;
  made->num_params = signature->num_params;
  made->num_required = signature->num_params;
  while (made->num_required > 0 &&
         (signature->params[made->num_required - 1].flags & PEGA_PARAM_OPTIONAL) != 0) {
    --made->num_required;
  }
  made->quick = quick;
  made->compiled = compiled;
  made->num_symbols = build->num_symbols;
  for (size_t i = 0; i < count; ++i) {
    const pega_param *param = &signature->params[i];
    params[i] = *param;
    params[i].name = keep(&room, param->name);
    params[i].doc = keep(&room, param->doc);
    params[i].shape = keep(&room, param->shape);
    params[i].domain = keep(&room, param->domain);
    quick[i] = quick_param(param);
    compiled[i].ndim = build->ndim[i];
    compiled[i].dims = dims;
    if (param->shape != NULL && pega_dtype_is_known(param->dtype)) {
      const uint64_t alignment = pega_dtype_alignment(param->dtype);
      compiled[i].device_type = param->device_type;
      compiled[i].dtype = param->dtype;
      compiled[i].most = INT64_MAX / ((int64_t)param->dtype.bits * param->dtype.lanes);
      compiled[i].mask = (alignment > param->alignment ? alignment : param->alignment) - 1;
    }
    for (int32_t j = 0; j < build->ndim[i]; ++j) *dims++ = build->dims[i][j];
  }
  for (int32_t i = 0; i < build->num_symbols; ++i)
    made->symbols[i] = keep(&room, build->symbols[i]);
  return made;
}

pega_status pega_signature_compile(const pega_signature *signature, const char *function,
                                   pega_compiled_signature **out, pega_error *error) {
  if (!pega_options_fit(signature, signature->struct_size, sizeof *signature) ||
      signature->param_size != sizeof(pega_param)) {
    return pega_error_set(error, PEGA_ERROR_VERSION, NULL,
                          "signature of '%s': struct_size %" PRIu32 " and param_size %" PRIu32
                          ": expected %zu and %zu; start from PEGA_SIGNATURE_INIT and build with "
                          "the header of this library",
                          function, signature->struct_size, signature->param_size,
                          sizeof *signature, sizeof(pega_param));
  }
  if (signature->num_params < 0 || signature->num_params > kMaxParams ||
      (signature->num_params > 0 && signature->params == NULL)) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "signature of '%s': %" PRId32 " parameters: expected 0 to %d", function,
                          signature->num_params, kMaxParams);
  }
  if ((signature->flags & ~PEGA_SIGNATURE_SAME_DEVICE) != 0 || signature->reserved != 0 ||
      signature->result > PEGA_TYPE_OBJECT) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "signature of '%s': unknown flags or result type: built for a newer "
                          "library?",
                          function);
  }
  builder *build = calloc(1, sizeof *build);
  if (build == NULL) goto out_of_memory;
  build->function = function;
  for (int32_t i = 0; i < signature->num_params; ++i) {
    pega_status status = check_param(build, signature, i, error);
    if (status != PEGA_OK) {
      free(build);
      return status;
    }
  }
  pega_compiled_signature *made = lay_out(build, signature);
  free(build);
  if (made == NULL) goto out_of_memory;
  made->text = describe(&made->public, function);
  if (made->text == NULL) {
    pega_signature_free(made);
    goto out_of_memory;
  }
  *out = made;
  return PEGA_OK;
out_of_memory:
  return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL,
                        "no memory for the signature of '%s'", function);
}

void pega_signature_free(pega_compiled_signature *signature) {
  if (signature == NULL) return;
  free(signature->text);
  free(signature);
}
