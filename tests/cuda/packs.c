/* SPDX-License-Identifier: Apache-2.0 */
#include "packs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kMostBlobs = 64 };

typedef struct blob {
  bytes content;
  char name[65];
  const char *kind;
} blob;

typedef struct maker {
  blob blobs[kMostBlobs];
  int num_blobs;
  bytes text;
} maker;

/* Writes text with " for '. */
static void put(maker *to, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(maker *to, const char *format, ...) {
  char text[2000];
  va_list list;
  va_start(list, format);
  const int size = vsnprintf(text, sizeof text, format, list);
  va_end(list);
  assert_in_range(size, 0, sizeof text - 1);
  for (int i = 0; i < size; ++i) bytes_append(&to->text, text[i] == '\'' ? "\"" : &text[i], 1);
}

static const blob *add_blob(maker *to, bytes content, const char *kind) {
  blob made = {content, "", kind};
  build_digest(content.data, content.size, made.name);
  for (int i = 0; i < to->num_blobs; ++i) {
    if (strcmp(to->blobs[i].name, made.name) != 0) continue;
    bytes_free(&made.content);
    return &to->blobs[i];
  }
  assert_true(to->num_blobs < kMostBlobs);
  to->blobs[to->num_blobs] = made;
  return &to->blobs[to->num_blobs++];
}

static uint32_t size_of_type(const char *type) {
  if (strcmp(type, "bool") == 0) return 1;
  if (strcmp(type, "pointer") == 0) return 8;
  if (strcmp(type, "tensor_map") == 0) return 128;
  const char *digits = strpbrk(type, "123468");
  assert_non_null(digits);
  return (uint32_t)atoi(digits) / 8;
}

static uint32_t place_of(const kernel_param *param, uint32_t end) {
  const uint32_t size = size_of_type(param->type);
  const uint32_t alignment = size == 128 ? 64 : size;
  if (param->offset != 0) return param->offset;
  return (end + alignment - 1) / alignment * alignment;
}

static uint32_t or_one(uint32_t number) { return number == 0 ? 1 : number; }

/* What all variants of a maker's pack need of a blob. */
static const blob *code_of(maker *to, const kernel_variant *variant) {
  if (variant->ptx != NULL) {
    bytes text = {NULL, 0};
    bytes_append(&text, variant->ptx, strlen(variant->ptx));
    return add_blob(to, text, "ptx");
  }
  const char *target = variant->wrong_target != NULL ? variant->wrong_target : variant->target;
  cubin_spec spec = {.entry = variant->entry, .stack = -1, .registers = 16};
  char *end;
  spec.sm = (int)strtol(target + 3, &end, 10);
  spec.accelerated = *end == 'a';
  spec.new_abi = spec.sm >= 100;
  if (variant->registers != 0) spec.registers = variant->registers;
  spec.reserved = spec.sm >= 90;
  spec.shared = variant->static_shared + (spec.reserved ? 1024u : 0);
  uint32_t bank = 0;
  for (const kernel_param *at = variant->params; at != NULL && at->type != NULL; ++at) {
    const uint32_t place = place_of(at, bank);
    assert_in_range(spec.num_params, 0, COUNT(spec.params) - 1);
    spec.params[spec.num_params].offset = (uint16_t)place;
    spec.params[spec.num_params++].size = (uint16_t)size_of_type(at->type);
    bank = place + size_of_type(at->type);
  }
  spec.bank = (int)bank;
  return add_blob(to, build_cubin(&spec), "cubin");
}

static void put_params(maker *to, const kernel_param *params) {
  uint32_t end = 0;
  for (const kernel_param *at = params; at != NULL && at->type != NULL; ++at) {
    const uint32_t place = place_of(at, end);
    end = place + size_of_type(at->type);
    put(to, "%s{'name':'p%d','type':'%s','offset':%u,'size':%u,'role':'%s'",
        at == params ? "" : ",", (int)(at - params), at->type, place, size_of_type(at->type),
        at->role == NULL ? "argument" : at->role);
    if (at->value != NULL) put(to, ",'value':'%s'", at->value);
    if (at->encoding != NULL) put(to, ",'encoding':%s", at->encoding);
    put(to, "}");
  }
}

static void put_variant(maker *to, const kernel_variant *variant) {
  const blob *code = code_of(to, variant);
  put(to, "{'target':'%s','blob':'%s','entry':'%s','when':%s,'params':[", variant->target,
      code->name, variant->entry, variant->when == NULL ? "[]" : variant->when);
  put_params(to, variant->params);
  put(to, "],'grid':[");
  for (int i = 0; i < 3; ++i) {
    put(to, "%s'%s'", i == 0 ? "" : ",", variant->grid[i] == NULL ? "1" : variant->grid[i]);
  }
  const uint32_t *block = variant->block;
  put(to, "],'block':[%u,%u,%u],'cluster':[%u,%u,%u],'shared':%u,'static_shared':%u",
      block[0] == 0 ? 32 : block[0], or_one(block[1]), or_one(block[2]),
      or_one(variant->cluster[0]), or_one(variant->cluster[1]), or_one(variant->cluster[2]),
      variant->shared, variant->static_shared);
  put(to, ",'registers':%u,'local_bytes':0,'pdl':%s,'cooperative':%s",
      variant->registers == 0 ? 16 : variant->registers, variant->pdl ? "true" : "false",
      variant->cooperative ? "true" : "false");
  put(to,
      ",'global_scratch':{'size':%u,'alignment':%u},'profile_scratch':{'size':%u,'alignment':%u}}",
      variant->global_scratch, or_one(variant->global_alignment), variant->profile_scratch,
      or_one(variant->profile_alignment));
}

static void put_golden(maker *to, const char *golden, const blob *const *data) {
  for (; *golden != '\0'; ++golden) {
    if (*golden == '@') {
      put(to, "%s", data[*++golden - '0']->name);
    } else {
      put(to, "%c", *golden);
    }
  }
}

bytes pack_make(const char *name, const kernel_function *functions, int num_functions,
                const bytes *data, int num_data) {
  static maker made;
  made = (maker){.num_blobs = 0};
  const blob *added[8] = {NULL};
  assert_in_range(num_data, 0, COUNT(added));
  for (int i = 0; i < num_data; ++i) {
    bytes copy = {NULL, 0};
    bytes_append(&copy, data[i].data, data[i].size);
    added[i] = add_blob(&made, copy, "data");
  }
  for (int i = 0; i < num_functions; ++i) {
    const kernel_function *at = &functions[i];
    put(&made, "%s{'name':'%s','params':%s,'variants':[", i == 0 ? "" : ",", at->name, at->params);
    for (int j = 0; j < at->num_variants; ++j) {
      if (j > 0) put(&made, ",");
      put_variant(&made, &at->variants[j]);
    }
    put(&made, "],'golden':");
    put_golden(&made, at->golden == NULL ? "[]" : at->golden, added);
    put(&made, "}");
  }
  const bytes described = made.text;
  made.text = (bytes){NULL, 0};
  put(&made, "{'schema_version':1,'name':'%s','blobs':[", name);
  for (int i = 0; i < made.num_blobs; ++i) {
    put(&made, "%s{'sha256':'%s','size':%zu,'kind':'%s'}", i == 0 ? "" : ",", made.blobs[i].name,
        made.blobs[i].content.size, made.blobs[i].kind);
  }
  put(&made, "],'functions':[");
  bytes_append(&made.text, described.data, described.size);
  put(&made, "]}");
  free(described.data);

  static const char *const kinds[] = {"cubin", "ptx", "data", "fatbin"};
  file_blob blobs[kMostBlobs];
  for (int i = 0; i < made.num_blobs; ++i) {
    blobs[i] = (file_blob){made.blobs[i].content.data, made.blobs[i].content.size, 0};
    while (strcmp(kinds[blobs[i].kind], made.blobs[i].kind) != 0) ++blobs[i].kind;
  }
  bytes file = {NULL, 0};
  size_t size;
  unsigned char *content =
      file_make((const char *)made.text.data, made.text.size, blobs, made.num_blobs, &size, NULL);
  bytes_append(&file, content, size);
  free(content);
  for (int i = 0; i < made.num_blobs; ++i) bytes_free(&made.blobs[i].content);
  bytes_free(&made.text);
  return file;
}

pega_pack *pack_open(const bytes *file, uint32_t flags) {
  pega_error error = PEGA_ERROR_INIT;
  pega_pack *pack = NULL;
  EXPECT_OK(build_open(file, flags, &pack, &error), &error);
  return pack;
}

pega_pack *pack_of(const kernel_function *described, pega_function **function) {
  pega_error error = PEGA_ERROR_INIT;
  bytes file = pack_make("one", described, 1, NULL, 0);
  pega_pack *pack = pack_open(&file, PEGA_PACK_ALLOW_PTX);
  bytes_free(&file);
  EXPECT_OK(pega_pack_get(pack, described->name, function, &error), &error);
  return pack;
}
