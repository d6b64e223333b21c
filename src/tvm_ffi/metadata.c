/* SPDX-License-Identifier: Apache-2.0 */
/* What TVM FFI is told of a function. */
#include "metadata.h"

#include <inttypes.h>
#include <stdlib.h>

#include "core/text.h"

/* TVM FFI's name of a type, as its own schemas write it. */
static const char *schema_type(uint32_t type) {
  static const char *const names[] = {"Any",
                                      "None",
                                      "bool",
                                      "int",
                                      "float",
                                      "ctypes.c_void_p",
                                      "ctypes.c_void_p",
                                      "DataType",
                                      "Device",
                                      "ffi.String",
                                      "ffi.Bytes",
                                      "DLTensor*",
                                      "ffi.Function",
                                      "ffi.Array",
                                      "ffi.Map",
                                      "ffi.Object"};
  return type < sizeof names / sizeof *names ? names[type] : "Any";
}

/* {"type": "ffi.Function", ...} as TVM FFI of this version writes it for its own functions. */
static void append_schema(pega_heap_text *text, const pega_tvm_ffi *runtime,
                          const pega_signature *signature) {
  /* Named arguments came with the version that reports 0.1.16. */
  bool named = runtime->version.patch >= 16;
  pega_heap_text_printf(text, "{\"type\":\"ffi.Function\",%s{\"type\":\"%s\"}%s",
                        named ? "\"named_args\":{\"return\":[" : "\"args\":[",
                        schema_type(signature->result), named ? "],\"params\":[" : "");
  for (int32_t i = 0; i < signature->num_params; ++i) {
    const pega_param *param = &signature->params[i];
    const char *separator = i > 0 || !named ? "," : "";
    bool optional = (param->flags & PEGA_PARAM_OPTIONAL) != 0;
    pega_heap_text_printf(
        text,
        optional ? "%s{\"type\":\"Optional\",\"args\":[{\"type\":\"%s\"}]}" : "%s{\"type\":\"%s\"}",
        separator, schema_type(param->type));
  }
  pega_heap_text_printf(text, named ? "]}}" : "]}");
}

static void append_member(pega_heap_text *text, const char *key, const char *value) {
  if (value == NULL) return;
  pega_heap_text_printf(text, ",\"%s\":", key);
  pega_heap_text_quote(text, value, strlen(value));
}

static void append_param(pega_heap_text *text, const pega_param *param) {
  char name[PEGA_NAME_SIZE];
  pega_heap_text_printf(text, "{\"name\":\"%s\",\"type\":\"%s\"", param->name,
                        pega_type_name(param->type));
  append_member(text, "doc", param->doc);
  append_member(text, "shape", param->shape);
  append_member(text, "domain", param->domain);
  if (param->dtype.bits != 0) append_member(text, "dtype", pega_dtype_name(param->dtype, name));
  if ((param->flags & PEGA_PARAM_OPTIONAL) != 0) pega_heap_text_printf(text, ",\"optional\":true");
  if ((param->flags & PEGA_PARAM_OUTPUT) != 0) pega_heap_text_printf(text, ",\"output\":true");
  if ((param->flags & PEGA_PARAM_CONTIGUOUS) != 0) {
    pega_heap_text_printf(text, ",\"contiguous\":true");
  }
  if ((param->flags & PEGA_PARAM_RANGE) != 0) {
    pega_heap_text_printf(text, ",\"min\":%" PRId64 ",\"max\":%" PRId64, param->min, param->max);
  }
  if (param->alignment != 0)
    pega_heap_text_printf(text, ",\"alignment\":%" PRIu32, param->alignment);
  pega_heap_text_append(text, "}", 1);
}

char *tvm_ffi_metadata(const pega_tvm_ffi *runtime, const pega_function *function) {
  pega_heap_text text = {NULL, 0, 0, 0};
  const pega_signature *signature = pega_function_signature(function);
  const char *doc = pega_function_doc(function);
  if (doc[0] == '\0') doc = NULL;
  if (signature == NULL) {
    pega_heap_text_printf(&text, "{\"type_schema\":\"{\\\"type\\\":\\\"ffi.Function\\\"}\"");
    append_member(&text, "pega_doc", doc);
    pega_heap_text_append(&text, "}", 1);
  } else {
    pega_heap_text schema = {NULL, 0, 0, 0};
    const char *line = pega_function_signature_text(function);
    append_schema(&schema, runtime, signature);
    pega_heap_text_printf(&text, "{\"type_schema\":");
    pega_heap_text_quote(&text, schema.data == NULL ? "" : schema.data, schema.size);
    append_member(&text, "pega_doc", doc);
    append_member(&text, "pega_signature", line);
    pega_heap_text_printf(&text, ",\"pega_params\":[");
    for (int32_t i = 0; i < signature->num_params; ++i) {
      if (i > 0) pega_heap_text_append(&text, ",", 1);
      append_param(&text, &signature->params[i]);
    }
    pega_heap_text_printf(&text, "]}");
    text.failed |= schema.failed;
    free(schema.data);
  }
  if (text.failed) {
    free(text.data);
    return NULL;
  }
  return text.data;
}
