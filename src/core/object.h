/* SPDX-License-Identifier: Apache-2.0 */
/* Counted objects: the payloads of counted values. */
#ifndef PEGA_CORE_OBJECT_H_
#define PEGA_CORE_OBJECT_H_

#include <stdatomic.h>

#include "pega/pega.h"

/* First member of every counted object. `destroy` frees the object and what it owns. */
struct pega_object {
  _Atomic uint32_t refs;
  uint32_t kind; /* a pega_kind */
  void (*destroy)(pega_object *object);
};

/* A payload that somebody else made: `tag` says whose it is. */
typedef struct pega_payload {
  const void *tag;
  void *data;
  void (*release)(void *data);
} pega_payload;

static inline void pega_object_init(pega_object *object, pega_kind kind,
                                    void (*destroy)(pega_object *)) {
  atomic_init(&object->refs, 1);
  object->kind = (uint32_t)kind;
  object->destroy = destroy;
}

static inline void pega_object_retain(pega_object *object) {
  atomic_fetch_add_explicit(&object->refs, 1, memory_order_relaxed);
}

/* For who knows of an object without a reference of its own: false where it has none left. The object's
 * end has to wait for this call to return. */
static inline bool pega_object_try_retain(pega_object *object) {
  uint32_t refs = atomic_load_explicit(&object->refs, memory_order_relaxed);
  while (refs != 0 &&
         !atomic_compare_exchange_weak_explicit(&object->refs, &refs, refs + 1,
                                                memory_order_acquire, memory_order_relaxed)) {
  }
  return refs != 0;
}

static inline bool pega_object_is_gone(const pega_object *object) {
  return atomic_load_explicit(&object->refs, memory_order_relaxed) == 0;
}

static inline void pega_object_release(pega_object *object) {
  if (atomic_fetch_sub_explicit(&object->refs, 1, memory_order_acq_rel) == 1) {
    object->destroy(object);
  }
}

/* A value that owns the one reference of a new object. */
static inline pega_value pega_object_value(pega_object *object) {
  pega_value value = pega_value_make_((uint16_t)object->kind);
  value.flags = PEGA_VALUE_COUNTED;
  value.as.object = object;
  return value;
}

/* Tensor object; lives in tensor.c. */
typedef struct pega_tensor_object {
  pega_object object;
  DLTensor view;
  uint64_t flags;
  pega_payload payload;
} pega_tensor_object;

/* pega_value_as_tensor() without a call, for what is no object. */
static inline const DLTensor *pega_tensor_of(const pega_value *value) {
  if (value->kind != PEGA_TENSOR) return NULL;
  return __builtin_expect(value->flags == 0, 1) ? value->as.tensor : pega_value_as_tensor(value);
}
static inline void *pega_tensor_address(const DLTensor *tensor) {
  return (void *)((uintptr_t)tensor->data + tensor->byte_offset);
}

/* Whether DLPack defines such an element type. */
bool pega_dtype_is_known(DLDataType dtype);
/* Bytes that an element's address is a multiple of. */
size_t pega_dtype_alignment(DLDataType dtype);

#endif /* PEGA_CORE_OBJECT_H_ */
