/* SPDX-License-Identifier: Apache-2.0 */
#include "image.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>

#include "pack.h"

enum { kAlignment = 16, kNumShared = 4096 };

/* An image that grows. */
typedef struct writer {
  pega_pack *pack;
  const pega_target *target; /* NULL: of all */
  unsigned char *data;
  size_t size;
  size_t capacity;
  uint32_t *addresses; /* offsets of what is an address */
  size_t num_addresses;
  size_t max_addresses;
  struct {
    const unsigned char *bytes; /* the pack's */
    pega_blob blob;
  } * codes; /* of the image's variants, each once: what the driver is to be given */
  int32_t num_codes;
  bool failed; /* no memory, or too large */
  struct {
    uint32_t at, size;
  } shared[kNumShared]; /* what was put last, by hash */
} writer;

/* Room for `size` zeroed bytes; its offset. */
static size_t reserve(writer *to, size_t size) {
  const size_t at = (to->size + 7) & ~(size_t)7;
  if (to->failed || size > UINT32_MAX - at) {
    to->failed = true;
    return 0;
  }
  if (at + size > to->capacity) {
    const size_t capacity = (at + size) * 2;
    unsigned char *data = realloc(to->data, capacity);
    if (data == NULL) {
      to->failed = true;
      return 0;
    }
    memset(data + to->capacity, 0, capacity - to->capacity);
    to->data = data;
    to->capacity = capacity;
  }
  to->size = at + size;
  return at;
}

static size_t put(writer *to, const void *from, size_t size) {
  const size_t at = reserve(to, size);
  if (!to->failed && size > 0) memcpy(to->data + at, from, size);
  return at;
}

/* The same for bytes without addresses: variants say many things alike, which are put once. */
static size_t put_shared(writer *to, const void *from, size_t size) {
  uint32_t hash = 2166136261u;
  for (size_t i = 0; i < size; ++i) hash = (hash ^ ((const unsigned char *)from)[i]) * 16777619u;
  hash = (hash ^ hash >> 16) % kNumShared;
  if (to->failed) return 0;
  if (to->shared[hash].size != size || size == 0 ||
      memcmp(to->data + to->shared[hash].at, from, size) != 0) {
    const size_t at = put(to, from, size);
    to->shared[hash].at = (uint32_t)at;
    to->shared[hash].size = (uint32_t)size;
  }
  return to->shared[hash].at;
}

/* Makes the pointer at `field` one to `target`. */
static void point(writer *to, size_t field, size_t target) {
  if (!to->failed && to->num_addresses == to->max_addresses) {
    const size_t most = to->max_addresses * 2 + 256;
    uint32_t *addresses = realloc(to->addresses, most * sizeof *addresses);
    to->failed = addresses == NULL;
    if (addresses != NULL) {
      to->addresses = addresses;
      to->max_addresses = most;
    }
  }
  if (to->failed) return;
  const uint64_t address = target;
  memcpy(to->data + field, &address, sizeof address);
  to->addresses[to->num_addresses++] = (uint32_t)field;
}

static void put_text(writer *to, size_t field, const char *text) {
  if (text != NULL) point(to, field, put_shared(to, text, strlen(text) + 1));
}

/* What is between the members of a struct is left 0: the same pack gives the same bytes. */
static void put_expression(writer *to, size_t at, const pega_expression *from) {
  if (to->failed) return;
  pega_expression own;
  memset(&own, 0, sizeof own);
  own.size = from->size;
  memcpy(to->data + at, &own, sizeof own);
  pega_instruction code[kMaxExpressionSize];
  memset(code, 0, sizeof code);
  for (int32_t i = 0; i < from->size; ++i) {
    code[i].op = from->code[i].op;
    code[i].dim = from->code[i].dim;
    code[i].arg = from->code[i].arg;
    code[i].number = from->code[i].number;
  }
  point(to, at + offsetof(pega_expression, code),
        put_shared(to, code, (size_t)from->size * sizeof *code));
  put_text(to, at + offsetof(pega_expression, text), from->text);
}

static void put_kernel_params(writer *to, size_t field, const pega_kernel_variant *from) {
  const size_t at = put(to, from->params, (size_t)from->num_params * sizeof *from->params);
  point(to, field, at);
  for (int32_t i = 0; i < from->num_params; ++i) {
    const pega_kernel_param *param = &from->params[i];
    const size_t own = at + (size_t)i * sizeof *param;
    put_text(to, own + offsetof(pega_kernel_param, name), param->name);
    put_expression(to, own + offsetof(pega_kernel_param, value), &param->value);
    if (param->encoding != NULL) {
      point(to, own + offsetof(pega_kernel_param, encoding),
            put_shared(to, param->encoding, sizeof *param->encoding));
    }
  }
}

/* A variant's code among the image's. Of a fatbin it is the one entry that was checked. */
static int32_t put_code(writer *to, const pega_kernel_variant *from, const void *bytes,
                        size_t size) {
  int32_t i = 0;
  while (i < to->num_codes && (to->codes[i].bytes != bytes || to->codes[i].blob.size != size)) ++i;
  if (i == to->num_codes) {
    to->codes[i].bytes = bytes;
    to->codes[i].blob = to->pack->blobs[from->blob];
    to->codes[i].blob.size = size;
    to->codes[i].blob.kind = from->ptx ? kBlobPtx : kBlobCubin;
    ++to->num_codes;
  }
  return i;
}

static pega_status put_variant(writer *to, size_t at, const pega_pack_function *function,
                               const pega_kernel_variant *from, pega_error *error) {
  const void *bytes;
  size_t size;
  pega_status status = pega_pack_variant_bytes(to->pack, function, from, &bytes, &size, error);
  if (status != PEGA_OK || to->failed) return status;
  pega_kernel_variant *own = (pega_kernel_variant *)(void *)(to->data + at);
  *own = *from;
  own->blob = put_code(to, from, bytes, size);
  put_text(to, at + offsetof(pega_kernel_variant, entry), from->entry);
  const size_t conditions =
      put(to, from->conditions, (size_t)from->num_conditions * sizeof *from->conditions);
  point(to, at + offsetof(pega_kernel_variant, conditions), conditions);
  for (int32_t i = 0; i < from->num_conditions; ++i) {
    put_expression(to, conditions + (size_t)i * sizeof *from->conditions, &from->conditions[i]);
  }
  put_kernel_params(to, at + offsetof(pega_kernel_variant, params), from);
  for (size_t axis = 0; axis < 3; ++axis) {
    put_expression(to, at + offsetof(pega_kernel_variant, grid) + axis * sizeof(pega_expression),
                   &from->grid[axis]);
  }
  return PEGA_OK;
}

static void put_params(writer *to, size_t field, const pega_signature *from) {
  const size_t at = put(to, from->params, (size_t)from->num_params * sizeof *from->params);
  point(to, field, at);
  for (int32_t i = 0; i < from->num_params; ++i) {
    const pega_param *param = &from->params[i];
    const size_t own = at + (size_t)i * sizeof *param;
    put_text(to, own + offsetof(pega_param, name), param->name);
    put_text(to, own + offsetof(pega_param, doc), param->doc);
    put_text(to, own + offsetof(pega_param, shape), param->shape);
    put_text(to, own + offsetof(pega_param, domain), param->domain);
  }
}

/* PTX is left out where the pack was not opened to let the driver compile it. */
static bool wanted(const writer *to, const pega_kernel_variant *variant) {
  if (variant->ptx && (to->pack->flags & PEGA_PACK_ALLOW_PTX) == 0) return false;
  return to->target == NULL || strcmp(variant->target.name, to->target->name) == 0;
}

/* Golden cases stay behind. */
static pega_status put_function(writer *to, size_t at, const pega_pack_function *from,
                                pega_error *error) {
  int32_t count = 0;
  for (int32_t i = 0; i < from->num_variants; ++i) count += wanted(to, &from->variants[i]);
  if (count == 0) {
    return pega_error_set(
        error, PEGA_ERROR_NOT_FOUND, NULL, "function '%s' of pack '%s' has no variant%s%s%s",
        from->name, to->pack->name, to->target == NULL ? "" : " for ",
        to->target == NULL ? "" : to->target->name,
        (to->pack->flags & PEGA_PACK_ALLOW_PTX) != 0 ? ""
                                                     : " (PTX is left out unless it is allowed)");
  }
  const size_t variants = reserve(to, (size_t)count * sizeof *from->variants);
  if (to->failed) return PEGA_OK;
  pega_pack_function *own = (pega_pack_function *)(void *)(to->data + at);
  own->signature = from->signature;
  own->num_variants = count;
  put_text(to, at + offsetof(pega_pack_function, name), from->name);
  put_text(to, at + offsetof(pega_pack_function, doc), from->doc);
  put_params(to, at + offsetof(pega_pack_function, signature) + offsetof(pega_signature, params),
             &from->signature);
  point(
      to, at + offsetof(pega_pack_function, pointees),
      put_shared(to, from->pointees, (size_t)from->signature.num_params * sizeof *from->pointees));
  point(to, at + offsetof(pega_pack_function, variants), variants);
  count = 0;
  pega_status status = PEGA_OK;
  for (int32_t i = 0; i < from->num_variants && status == PEGA_OK; ++i) {
    if (!wanted(to, &from->variants[i])) continue;
    status = put_variant(to, variants + (size_t)count++ * sizeof *from->variants, from,
                         &from->variants[i], error);
  }
  return status;
}

/* The codes of the variants as one value, each at a multiple of kAlignment with a NUL behind it. */
static pega_status put_codes(writer *to, size_t root, pega_value *out, pega_error *error) {
  const size_t count = (size_t)to->num_codes;
  const size_t blobs = reserve(to, count * sizeof(pega_blob));
  const size_t table = reserve(to, count * sizeof(uint64_t));
  point(to, root + offsetof(pega_image, blobs), blobs);
  point(to, root + offsetof(pega_image, bytes), table);
  size_t size = 0;
  for (size_t i = 0; i < count && !to->failed; ++i) {
    const uint64_t at = size;
    memcpy(to->data + table + i * sizeof at, &at, sizeof at);
    memcpy(to->data + blobs + i * sizeof(pega_blob), &to->codes[i].blob, sizeof(pega_blob));
    size = (size + (size_t)to->codes[i].blob.size + kAlignment) & ~(size_t)(kAlignment - 1);
  }
  unsigned char *all = to->failed ? NULL : calloc(1, size + 1);
  if (all == NULL) {
    to->failed = true;
    return PEGA_OK;
  }
  size_t at = 0;
  for (size_t i = 0; i < count; ++i) {
    memcpy(all + at, to->codes[i].bytes, (size_t)to->codes[i].blob.size);
    at = (at + (size_t)to->codes[i].blob.size + kAlignment) & ~(size_t)(kAlignment - 1);
  }
  const pega_status status = pega_bytes_create(all, size, out, error);
  free(all);
  return status;
}

/* Of a pack that was verified: everything was read. */
static const pega_pack_function *described(const pega_pack *pack, int32_t index) {
  return atomic_load_explicit(&pack->functions[index].description, memory_order_acquire);
}

/* Which functions are meant: indices in the pack's order. */
static pega_status choose(pega_pack *pack, const char *const *names, int32_t num_names,
                          bool *chosen, pega_error *error) {
  for (int32_t i = 0; i < pack->num_functions && num_names == 0; ++i) chosen[i] = true;
  for (int32_t i = 0; i < num_names; ++i) {
    int32_t index;
    pega_status status = pega_pack_find(pack, names[i], &index, error);
    if (status != PEGA_OK) return status;
    chosen[index] = true;
  }
  return PEGA_OK;
}

static pega_status put_all(writer *to, const bool *chosen, pega_value *blobs, pega_value *names,
                           pega_error *error) {
  const pega_pack *pack = to->pack;
  int32_t count = 0;
  for (int32_t i = 0; i < pack->num_functions; ++i) count += chosen[i];
  pega_value *list = calloc((size_t)count + 1, sizeof *list);
  if (list == NULL) {
    to->failed = true;
    return PEGA_OK;
  }
  const size_t root = reserve(to, sizeof(pega_image));
  const size_t functions = reserve(to, (size_t)count * sizeof(pega_pack_function));
  put_text(to, root + offsetof(pega_image, pack), pack->name);
  point(to, root + offsetof(pega_image, functions), functions);
  pega_status status = PEGA_OK;
  count = 0;
  for (int32_t i = 0; i < pack->num_functions && status == PEGA_OK; ++i) {
    if (!chosen[i]) continue;
    list[count] = pega_value_string(pack->functions[i].name);
    status = put_function(to, functions + (size_t)count++ * sizeof(pega_pack_function),
                          described(pack, i), error);
  }
  if (status == PEGA_OK) status = put_codes(to, root, blobs, error);
  if (status == PEGA_OK && !to->failed) {
    pega_image *image = (pega_image *)(void *)(to->data + root);
    image->layout = PEGA_IMAGE_LAYOUT;
    image->num_functions = count;
    image->num_blobs = to->num_codes;
    status = pega_array_create(list, count, names, error);
  }
  free(list);
  return status;
}

static pega_status finish(const writer *to, pega_value *values, pega_value *out,
                          pega_error *error) {
  static const char *const names[] = {"functions", "blobs", "descriptions", "addresses"};
  pega_value keys[4];
  for (int i = 0; i < 4; ++i) keys[i] = pega_value_string(names[i]);
  pega_status status = pega_bytes_create(to->data, to->size, &values[2], error);
  if (status == PEGA_OK) {
    status = pega_bytes_create(to->addresses, to->num_addresses * sizeof *to->addresses, &values[3],
                               error);
  }
  return status == PEGA_OK ? pega_map_create(keys, values, 4, out, error) : status;
}

static pega_status out_of_memory(pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory for a pack's image");
}

pega_status pega_pack_image(pega_pack *pack, const char *const *functions, int32_t num_functions,
                            const char *target, pega_value *out, pega_error *error) {
  static const char where[] = "pega_pack_image";
  if (pack == NULL || out == NULL || num_functions < 0 ||
      (functions == NULL && num_functions != 0)) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL, "%s: %s", where,
                          pack == NULL  ? "pack is NULL"
                          : out == NULL ? "out is NULL"
                                        : "expected a count >= 0 of functions and their address");
  }
  pega_target parsed;
  if (target != NULL && !pega_target_parse(target, &parsed)) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "%s: target '%.64s': expected one such as \"sm_90\" or \"sm_90a\"", where,
                          target);
  }
  pega_status status = pega_pack_verify(pack, error);
  if (status != PEGA_OK) return status;
  writer *to = calloc(1, sizeof *to);
  if (to == NULL) return out_of_memory(error);
  to->pack = pack;
  to->target = target == NULL ? NULL : &parsed;
  pega_value values[4] = {pega_value_none(), pega_value_none(), pega_value_none(),
                          pega_value_none()};
  bool *chosen = calloc((size_t)pack->num_functions + 1, sizeof *chosen);
  size_t num_variants = 0;
  for (int32_t i = 0; i < pack->num_functions; ++i) {
    num_variants += (size_t)described(pack, i)->num_variants;
  }
  to->codes = calloc(num_variants + 1, sizeof *to->codes);
  to->failed = chosen == NULL || to->codes == NULL;
  if (!to->failed) {
    status = choose(pack, functions, num_functions, chosen, error);
    if (status == PEGA_OK) status = put_all(to, chosen, &values[1], &values[0], error);
  }
  if (status == PEGA_OK && to->failed) status = out_of_memory(error);
  if (status == PEGA_OK) status = finish(to, values, out, error);
  for (int i = 0; i < 4; ++i) pega_value_release(&values[i]);
  free(chosen);
  free(to->codes);
  free(to->data);
  free(to->addresses);
  free(to);
  return status;
}
