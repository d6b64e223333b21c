/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdlib.h>

#include "object.h"

_Static_assert(sizeof(pega_value) == 16, "pega_value is part of the ABI");

/* String or bytes object; the text follows in the same block and ends in NUL. */
typedef struct bytes_object {
  pega_object object;
  size_t size;
  char data[];
} bytes_object;

/* Array (pairs == 0) or map (keys at even, values at odd places). */
typedef struct sequence_object {
  pega_object object;
  struct sequence_object *holder; /* while it is destroyed: what it was in */
  int64_t size;                   /* items of an array, pairs of a map */
  int64_t num_values;
  pega_value values[];
} sequence_object;

typedef struct opaque_object {
  pega_object object;
  pega_payload payload;
  char type_key[];
} opaque_object;

const char *pega_kind_name(uint32_t kind) {
  static const char *const names[] = {"none",    "bool",     "int",    "uint",   "float",
                                      "pointer", "dtype",    "device", "string", "bytes",
                                      "tensor",  "function", "array",  "map",    "object"};
  return kind < sizeof names / sizeof *names ? names[kind] : "unknown";
}

/* Whether there is an object to count; a flag on a kind that has none means nothing. */
static bool counted(const pega_value *value) {
  return (value->flags & PEGA_VALUE_COUNTED) != 0 && value->as.object != NULL &&
         value->kind >= PEGA_STRING && value->kind <= PEGA_OBJECT;
}

static const char *text_of(const pega_value *value, uint16_t kind, size_t *size) {
  if (value == NULL || value->kind != kind) return NULL;
  if (counted(value)) {
    const bytes_object *bytes = (const bytes_object *)value->as.object;
    if (size != NULL) *size = bytes->size;
    return bytes->data;
  }
  if (size != NULL) *size = value->size;
  return value->as.bytes;
}

const char *pega_value_as_string(const pega_value *value, size_t *size) {
  return text_of(value, PEGA_STRING, size);
}

const void *pega_value_as_bytes(const pega_value *value, size_t *size) {
  return text_of(value, PEGA_BYTES, size);
}

DLTensor *pega_value_as_tensor(const pega_value *value) {
  if (value == NULL || value->kind != PEGA_TENSOR) return NULL;
  if (counted(value)) return &((pega_tensor_object *)value->as.object)->view;
  return value->as.tensor;
}

pega_function *pega_value_as_function(const pega_value *value) {
  if (value == NULL || value->kind != PEGA_FUNCTION || !counted(value)) return NULL;
  return (pega_function *)value->as.object;
}

static const sequence_object *sequence_of(const pega_value *value, uint16_t kind) {
  if (value == NULL || value->kind != kind || !counted(value)) return NULL;
  return (const sequence_object *)value->as.object;
}

int64_t pega_value_size(const pega_value *value) {
  const sequence_object *sequence = sequence_of(value, PEGA_ARRAY);
  if (sequence == NULL) sequence = sequence_of(value, PEGA_MAP);
  return sequence == NULL ? -1 : sequence->size;
}

const pega_value *pega_array_get(const pega_value *array, int64_t index) {
  const sequence_object *sequence = sequence_of(array, PEGA_ARRAY);
  if (sequence == NULL || index < 0 || index >= sequence->size) return NULL;
  return &sequence->values[index];
}

const pega_value *pega_map_key(const pega_value *map, int64_t index) {
  const sequence_object *sequence = sequence_of(map, PEGA_MAP);
  if (sequence == NULL || index < 0 || index >= sequence->size) return NULL;
  return &sequence->values[2 * index];
}

const pega_value *pega_map_value(const pega_value *map, int64_t index) {
  const pega_value *key = pega_map_key(map, index);
  return key == NULL ? NULL : key + 1;
}

const pega_value *pega_map_get(const pega_value *map, const char *key) {
  int64_t size = pega_value_size(map);
  size_t key_size = key == NULL ? 0 : strlen(key);
  for (int64_t i = 0; key != NULL && i < size; ++i) {
    size_t found_size;
    const char *found = pega_value_as_string(pega_map_key(map, i), &found_size);
    if (found != NULL && found_size == key_size && memcmp(found, key, key_size) == 0) {
      return pega_map_value(map, i);
    }
  }
  return NULL;
}

static pega_status out_of_memory(pega_error *error, const char *what, size_t size) {
  return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory for %s of %zu bytes",
                        what, size);
}

static void destroy_plain(pega_object *object) { free(object); }

static pega_status text_create(pega_kind kind, const void *data, size_t size, pega_value *out,
                               pega_error *error) {
  if (out == NULL || (data == NULL && size > 0)) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL, "pega_%s_create: %s is NULL",
                          pega_kind_name(kind), out == NULL ? "out" : "the text");
  }
  bytes_object *bytes = size > SIZE_MAX / 2 ? NULL : malloc(sizeof *bytes + size + 1);
  if (bytes == NULL) return out_of_memory(error, pega_kind_name(kind), size);
  pega_object_init(&bytes->object, kind, destroy_plain);
  bytes->size = size;
  if (size > 0) memcpy(bytes->data, data, size);
  bytes->data[size] = '\0';
  *out = pega_object_value(&bytes->object);
  return PEGA_OK;
}

pega_status pega_string_create(const char *text, size_t size, pega_value *out, pega_error *error) {
  return text_create(PEGA_STRING, text, size, out, error);
}

pega_status pega_bytes_create(const void *bytes, size_t size, pega_value *out, pega_error *error) {
  return text_create(PEGA_BYTES, bytes, size, out, error);
}

static pega_status malformed(const pega_value *value, pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                        "malformed value (kind %u, flags %u, payload 0x%" PRIx64 ")", value->kind,
                        value->flags, value->as.u64);
}

pega_status pega_value_retain(const pega_value *value, pega_value *out, pega_error *error) {
  if (value == NULL || out == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL, "pega_value_retain: %s is NULL",
                          value == NULL ? "value" : "out");
  }
  if (counted(value)) {
    pega_object_retain(value->as.object);
    *out = *value;
    return PEGA_OK;
  }
  switch (value->kind) {
    case PEGA_STRING:
    case PEGA_BYTES:
      return text_create((pega_kind)value->kind, value->as.bytes, value->size, out, error);
    case PEGA_TENSOR:
      return pega_error_set(error, PEGA_ERROR_UNSUPPORTED, NULL,
                            "a borrowed DLTensor cannot be kept: nothing keeps its memory alive; "
                            "make it counted with pega_tensor_from_dlpack()");
    case PEGA_FUNCTION:
    case PEGA_ARRAY:
    case PEGA_MAP:
    case PEGA_OBJECT:
      return malformed(value, error);
    default:
      if (value->kind > PEGA_OBJECT || value->flags != 0) return malformed(value, error);
      *out = *value;
      return PEGA_OK;
  }
}

void pega_value_release(pega_value *value) {
  if (value == NULL) return;
  pega_value old = *value;
  *value = pega_value_none();
  if (counted(&old)) pega_object_release(old.as.object);
}

/* A loop, not a recursion: arrays in arrays may be nested deeper than the stack is. */
static void destroy_sequence(pega_object *object) {
  sequence_object *current = (sequence_object *)object;
  current->holder = NULL;
  while (current != NULL) {
    if (current->num_values == 0) {
      sequence_object *holder = current->holder;
      free(current);
      current = holder;
      continue;
    }
    pega_value *value = &current->values[--current->num_values];
    if (!counted(value)) continue;
    pega_object *item = value->as.object;
    if (item->destroy != destroy_sequence) {
      pega_object_release(item);
    } else if (atomic_fetch_sub_explicit(&item->refs, 1, memory_order_acq_rel) == 1) {
      ((sequence_object *)item)->holder = current;
      current = (sequence_object *)item;
    }
  }
}

/* Retains the items, for a map keys and values by turns, into one block. */
static pega_status sequence_create(pega_kind kind, const pega_value *first,
                                   const pega_value *second, int64_t size, pega_value *out,
                                   pega_error *error) {
  const char *name = pega_kind_name(kind);
  int64_t per_item = kind == PEGA_MAP ? 2 : 1;
  if (out == NULL || size < 0 ||
      (size > 0 && (first == NULL || (per_item == 2 && second == NULL)))) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_%s_create: expected out, items and a count >= 0, got %s", name,
                          out == NULL ? "out NULL"
                          : size < 0  ? "a negative count"
                                      : "items NULL");
  }
  const int64_t most = (int64_t)(PTRDIFF_MAX / 64);
  sequence_object *sequence =
      size > most ? NULL
                  : malloc(sizeof *sequence + (size_t)(size * per_item) * sizeof(pega_value));
  if (sequence == NULL) return out_of_memory(error, name, (size_t)size * sizeof(pega_value));
  pega_object_init(&sequence->object, kind, destroy_sequence);
  sequence->size = size;
  sequence->num_values = 0;
  for (int64_t i = 0; i < size * per_item; ++i) {
    const pega_value *source = per_item == 1 ? &first[i]
                               : i % 2 == 0  ? &first[i / 2]
                                             : &second[i / 2];
    pega_status status = pega_value_retain(source, &sequence->values[i], error);
    if (status != PEGA_OK) {
      pega_object_release(&sequence->object);
      return status;
    }
    sequence->num_values = i + 1;
  }
  *out = pega_object_value(&sequence->object);
  return PEGA_OK;
}

pega_status pega_array_create(const pega_value *items, int64_t count, pega_value *out,
                              pega_error *error) {
  return sequence_create(PEGA_ARRAY, items, NULL, count, out, error);
}

pega_status pega_map_create(const pega_value *keys, const pega_value *values, int64_t count,
                            pega_value *out, pega_error *error) {
  return sequence_create(PEGA_MAP, keys, values, count, out, error);
}

static void destroy_opaque(pega_object *object) {
  opaque_object *opaque = (opaque_object *)object;
  if (opaque->payload.release != NULL) opaque->payload.release(opaque->payload.data);
  free(opaque);
}

pega_status pega_object_create(const char *type_key, const void *tag, void *payload,
                               void (*release)(void *payload), pega_value *out, pega_error *error) {
  if (type_key == NULL || out == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_object_create: %s is NULL", out == NULL ? "out" : "type_key");
  }
  size_t size = strlen(type_key) + 1;
  opaque_object *opaque = malloc(sizeof *opaque + size);
  if (opaque == NULL) return out_of_memory(error, "an object", sizeof *opaque + size);
  pega_object_init(&opaque->object, PEGA_OBJECT, destroy_opaque);
  opaque->payload = (pega_payload){tag, payload, release};
  memcpy(opaque->type_key, type_key, size);
  *out = pega_object_value(&opaque->object);
  return PEGA_OK;
}

const char *pega_value_type_key(const pega_value *value) {
  if (value == NULL) return "none";
  if (value->kind == PEGA_OBJECT && counted(value)) {
    return ((const opaque_object *)value->as.object)->type_key;
  }
  return pega_kind_name(value->kind);
}

void *pega_value_payload(const pega_value *value, const void *tag) {
  if (value == NULL || tag == NULL || !counted(value)) return NULL;
  const pega_payload *payload = NULL;
  if (value->kind == PEGA_OBJECT) {
    payload = &((const opaque_object *)value->as.object)->payload;
  } else if (value->kind == PEGA_TENSOR) {
    payload = &((const pega_tensor_object *)value->as.object)->payload;
  }
  return payload != NULL && payload->tag == tag ? payload->data : NULL;
}
