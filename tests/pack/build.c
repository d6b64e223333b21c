/* SPDX-License-Identifier: Apache-2.0 */
#include "build.h"

#include <ftw.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char kTemplate[] =
    "{'schema_version':1,'name':'tests','doc':'a pack of tests','blobs':["
    "{'sha256':'@0','size':#0,'kind':'cubin'},{'sha256':'@1','size':#1,'kind':'ptx'},"
    "{'sha256':'@2','size':#2,'kind':'data'},{'sha256':'@3','size':#3,'kind':'cubin'}],"
    "'functions':[{'name':'t.scale','doc':'Scales.','same_device':false,'params':["
    "{'name':'x','type':'pointer','doc':'in','nonnull':true,'alignment':16,"
    "'pointee':{'dtype':'float32','shape':'n, 2','layout':'row-major'}},"
    "{'name':'y','type':'pointer','output':true,'pointee':{'dtype':'float32','shape':'n,2'}},"
    "{'name':'n','type':'int','min':0,'max':1000},"
    "{'name':'f','type':'float','domain':'> 0'},{'name':'b','type':'bool'},"
    "{'name':'s','type':'stream'}],'variants':["
    "{'target':'sm_90a','blob':'@0','entry':'k','when':['n % 2 == 1','n > 0'],'params':["
    "{'name':'px','type':'pointer','offset':0,'size':8,'role':'argument','value':'x'},"
    "{'name':'py','type':'pointer','offset':8,'size':8,'role':'argument','value':'y'},"
    "{'name':'kn','type':'i32','offset':16,'size':4,'role':'argument','value':'n + 1'},"
    "{'name':'kf','type':'f32','offset':20,'size':4,'role':'argument','value':'f'},"
    "{'name':'kb','type':'bool','offset':24,'size':1,'role':'argument','value':'b'},"
    "{'name':'gs','type':'pointer','offset':32,'size':8,'role':'global_scratch'},"
    "{'name':'ps','type':'pointer','offset':40,'size':8,'role':'profile_scratch'}],"
    "'grid':['cdiv(n, 64)','1','1'],'block':[64,2,1],'cluster':[2,1,1],'shared':1024,"
    "'static_shared':400,'registers':24,'local_bytes':8,'pdl':true,'cooperative':false,"
    "'global_scratch':{'size':256,'alignment':128},'profile_scratch':{'size':0,'alignment':1},"
    "'made_by':{'tool':'hand','version':'1','flags':{'num_warps':1,'fast':true,'list':[1,'a']}}},"
    "{'target':'sm_80','blob':'@1','entry':'k','params':[],'grid':['1','1','1'],"
    "'block':[1,1,1],'shared':0,'static_shared':0,'registers':0,'local_bytes':0}],"
    "'golden':[{'name':'three','args':{"
    "'x':{'dtype':'float32','shape':[3,2],'fill':{'generator':'uniform','seed':7,'low':-1,'high':1.5}},"
    "'y':{'dtype':'float32','shape':[3,2],'fill':{'blob':'@2'},"
    "'expect':{'blob':'@2','atol':0.001,'rtol':0}},'n':3,'f':2,'b':true}}]},"
    "{'name':'t.map','same_device':true,'params':["
    "{'name':'t','type':'Tensor','dtype':'float16','shape':'M, 64','contiguous':true,'alignment':128},"
    "{'name':'o','type':'Tensor','output':true,'optional':true}],'variants':["
    "{'target':'sm_90','blob':'@3','entry':'m','params':["
    "{'name':'d','type':'tensor_map','offset':0,'size':128,'role':'tensor_descriptor','value':'t',"
    "'encoding':{'block':[64,64],'swizzle':3,'elem_type':6,'elem_size':2,'padding':0,"
    "'fp4_padded':0,'interleave':0,'l2_promotion':2}},"
    "{'name':'M','type':'i64','offset':128,'size':8,'role':'argument','value':'M * shape(t, 1)'},"
    "{'name':'o','type':'pointer','offset':136,'size':8,'role':'argument','value':'o'}],"
    "'grid':['M','1','1'],'block':[32,1,1],'shared':0,'static_shared':0,'registers':16,"
    "'local_bytes':0}]}]}";

/* ---- Bytes ---- */

/* Room for that many bytes and a NUL: a power of two, so that it grows seldom. */
static size_t room_for(size_t size) {
  size_t room = 64;
  while (room <= size) room *= 2;
  return room;
}

void bytes_append(bytes *to, const void *data, size_t size) {
  if (to->data == NULL || room_for(to->size + size) != room_for(to->size)) {
    to->data = realloc(to->data, room_for(to->size + size));
    assert_non_null(to->data);
  }
  if (size > 0) memcpy(to->data + to->size, data, size);
  to->size += size;
  to->data[to->size] = '\0';
}

void bytes_pad(bytes *to, size_t multiple) {
  static const char zeros[64];
  bytes_append(to, zeros, (multiple - to->size % multiple) % multiple);
}

void bytes_free(bytes *which) {
  free(which->data);
  *which = (bytes){NULL, 0};
}

static void append_number(bytes *to, uint64_t number, int size) {
  for (int i = 0; i < size; ++i) {
    const unsigned char byte = (unsigned char)(i < 8 ? number >> 8 * i & 0xff : 0);
    bytes_append(to, &byte, 1);
  }
}

/* ---- Cubins ---- */

enum { kNobits = 8, kStrtab = 3, kSymtab = 2, kProgbits = 1, kCudaInfo = 0x70000000 };

typedef struct elf_section {
  char name[64];
  uint32_t type;
  bytes content;
  uint64_t nobits;
  uint32_t link;
  uint64_t entry_size;
} elf_section;

static void append_attribute(bytes *to, unsigned format, unsigned name, uint32_t value) {
  append_number(to, format, 1);
  append_number(to, name, 1);
  append_number(to, value, 2);
}

static void append_dims(bytes *to, unsigned name, const uint32_t dims[3]) {
  if (dims[0] == 0) return;
  append_attribute(to, 4, name, 12);
  for (int i = 0; i < 3; ++i) append_number(to, dims[i], 4);
}

static void append_pair(bytes *to, unsigned name, uint32_t symbol, uint32_t number) {
  append_attribute(to, 4, name, 8);
  append_number(to, symbol, 4);
  append_number(to, number, 4);
}

static bytes entry_info(const cubin_spec *spec) {
  bytes info = {NULL, 0};
  append_attribute(&info, 4, 0x37, 4);
  append_number(&info, 0x82, 4);
  for (int i = spec->num_params - 1; i >= 0; --i) {
    append_attribute(&info, 4, spec->params_v2 ? 0x45 : 0x17, 12);
    append_number(&info, 0, 4);
    append_number(&info, (uint64_t)(i + spec->first_ordinal), 2);
    append_number(&info, spec->params[i].offset, 2);
    const uint32_t size = spec->params[i].size;
    append_number(&info, spec->params_v2 ? size : size << 18 | 0x1f000, 4);
  }
  append_attribute(&info, 3, 0x1b, 0xff);
  append_dims(&info, 0x05, spec->max_threads);
  append_dims(&info, 0x10, spec->block);
  append_dims(&info, 0x3d, spec->cluster);
  if (spec->bank > 0) append_attribute(&info, 3, 0x19, (uint32_t)spec->bank);
  return info;
}

static void append_symbol(bytes *to, uint32_t name, unsigned info, unsigned section) {
  append_number(to, name, 4);
  append_number(to, info, 1);
  append_number(to, 0x10, 1);
  append_number(to, section, 2);
  append_number(to, 0, 8);
  append_number(to, 64, 8);
}

bytes build_cubin(const cubin_spec *spec) {
  enum { kNames = 1, kStrings, kSymbols, kInfo, kEntryInfo, kText, kShared, kReserved, kCompat };
  elf_section sections[10];
  memset(sections, 0, sizeof sections);
  int count = kCompat + 1;
  const char *entry = spec->entry;
  snprintf(sections[kNames].name, 64, ".shstrtab");
  snprintf(sections[kStrings].name, 64, ".strtab");
  snprintf(sections[kSymbols].name, 64, ".symtab");
  snprintf(sections[kInfo].name, 64, ".nv.info");
  snprintf(sections[kEntryInfo].name, 64, ".nv.info.%s", entry);
  snprintf(sections[kText].name, 64, ".text.%s", entry);
  snprintf(sections[kShared].name, 64, ".nv.shared.%s", entry);
  snprintf(sections[kReserved].name, 64, "%s", spec->reserved ? ".nv.shared.reserved.0" : ".other");
  snprintf(sections[kCompat].name, 64, ".nv.compat");
  sections[kNames].type = sections[kStrings].type = kStrtab;
  bytes_append(&sections[kStrings].content, "", 1);
  bytes_append(&sections[kStrings].content, entry, strlen(entry) + 1);
  sections[kSymbols].type = kSymtab;
  sections[kSymbols].link = kStrings;
  sections[kSymbols].entry_size = 24;
  append_symbol(&sections[kSymbols].content, 0, 0, 0);
  append_symbol(&sections[kSymbols].content, 0, 3, kText);
  append_symbol(&sections[kSymbols].content, 1, 0x12, kText);
  sections[kInfo].type = sections[kEntryInfo].type = kCudaInfo;
  append_pair(&sections[kInfo].content, 0x2f, 2, spec->registers);
  append_pair(&sections[kInfo].content, 0x11, 2, spec->frame);
  if (spec->stack >= 0) append_pair(&sections[kInfo].content, 0x12, 2, (uint32_t)spec->stack);
  append_pair(&sections[kInfo].content, 0x2f, 1, 99);
  sections[kEntryInfo].content = entry_info(spec);
  sections[kText].type = kProgbits;
  bytes_append(&sections[kText].content, "kernel's instructions", 21);
  sections[kShared].type = sections[kReserved].type = kNobits;
  sections[kShared].nobits = spec->shared;
  sections[kCompat].type = kCudaInfo + 0x86;
  append_attribute(&sections[kCompat].content, 2, 9, spec->compat_accelerated);

  uint32_t names[10] = {0};
  bytes_append(&sections[kNames].content, "", 1);
  for (int i = 1; i < count; ++i) {
    names[i] = (uint32_t)sections[kNames].content.size;
    bytes_append(&sections[kNames].content, sections[i].name, strlen(sections[i].name) + 1);
  }
  bytes file = {NULL, 0};
  bytes headers = {NULL, 0};
  char header[64] = {0};
  bytes_append(&file, header, sizeof header);
  for (int i = 0; i < count; ++i) {
    bytes_pad(&file, 8);
    append_number(&headers, names[i], 4);
    append_number(&headers, sections[i].type, 4);
    append_number(&headers, 0, 8);
    append_number(&headers, 0, 8);
    append_number(&headers, i == 0 ? 0 : file.size, 8);
    append_number(&headers,
                  sections[i].type == kNobits ? sections[i].nobits : sections[i].content.size, 8);
    append_number(&headers, sections[i].link, 4);
    append_number(&headers, 0, 4);
    append_number(&headers, 1, 8);
    append_number(&headers, sections[i].entry_size, 8);
    bytes_append(&file, sections[i].content.data, sections[i].content.size);
    bytes_free(&sections[i].content);
  }
  bytes_pad(&file, 8);
  bytes start = {NULL, 0};
  bytes_append(&start, "\177ELF\2\1\1", 7);
  append_number(&start, spec->new_abi ? 0x41 : 0x33, 1);
  append_number(&start, spec->new_abi ? 8 : 7, 1);
  append_number(&start, 0, 7);
  append_number(&start, 2, 2);
  append_number(&start, 190, 2);
  append_number(&start, 1, 4);
  append_number(&start, 0, 16);
  append_number(&start, file.size, 8);
  const uint32_t sm = (uint32_t)spec->sm;
  append_number(&start,
                spec->new_abi ? 0x6000002 | sm << 8 | (spec->accelerated ? 8u : 0)
                              : 0x500 | sm << 16 | sm | (spec->accelerated ? 0x800u : 0),
                4);
  append_number(&start, 64, 2);
  append_number(&start, 0, 4);
  append_number(&start, 64, 2);
  append_number(&start, (uint64_t)count, 2);
  append_number(&start, kNames, 2);
  assert_int_equal(start.size, 64);
  memcpy(file.data, start.data, start.size);
  bytes_append(&file, headers.data, headers.size);
  bytes_free(&start);
  bytes_free(&headers);
  return file;
}

cubin_spec build_spec_k(void) {
  return (cubin_spec){.sm = 90,
                      .accelerated = true,
                      .entry = "k",
                      .num_params = 7,
                      .params = {{0, 8}, {8, 8}, {16, 4}, {20, 4}, {24, 1}, {32, 8}, {40, 8}},
                      .bank = 48,
                      .registers = 24,
                      .frame = 0,
                      .stack = 8,
                      .shared = 1424,
                      .reserved = true,
                      .max_threads = {128, 1, 1},
                      .cluster = {2, 1, 1}};
}

cubin_spec build_spec_m(void) {
  return (cubin_spec){.new_abi = true,
                      .sm = 90,
                      .entry = "m",
                      .num_params = 3,
                      .params = {{0, 128}, {128, 8}, {136, 8}},
                      .bank = 144,
                      .registers = 16,
                      .stack = -1,
                      .block = {32, 1, 1}};
}

/* ---- Packs ---- */

void build_digest(const void *data, size_t size, char name[65]) {
  struct sha256_ctx context;
  uint8_t digest[32];
  sha256_init(&context);
  sha256_update(&context, size, data);
  sha256_digest(&context, sizeof digest, digest);
  for (int i = 0; i < 32; ++i) snprintf(name + 2 * i, 3, "%02x", digest[i]);
}

parts build_parts_with(bytes cubin) {
  static const float data[6] = {0.5f, 1, 1.5f, -2, 3, 4};
  const cubin_spec m = build_spec_m();
  parts made = {0};
  made.blobs[0] = cubin;
  static const char ptx[] = ".version 8.0\n.target sm_80\n.visible .entry k() { ret; }\n";
  bytes_append(&made.blobs[1], ptx, sizeof ptx - 1);
  bytes_append(&made.blobs[2], data, sizeof data);
  made.blobs[3] = build_cubin(&m);
  for (int i = 0; i < 4; ++i) build_digest(made.blobs[i].data, made.blobs[i].size, made.names[i]);
  bytes text = {NULL, 0};
  for (const char *at = kTemplate; *at != '\0'; ++at) {
    char number[32];
    if (*at == '@' || *at == '#') {
      const int index = at[1] - '0';
      snprintf(number, sizeof number, "%zu", made.blobs[index].size);
      const char *word = *at == '@' ? made.names[index] : number;
      bytes_append(&text, word, strlen(word));
      ++at;
    } else {
      bytes_append(&text, *at == '\'' ? "\"" : at, 1);
    }
  }
  made.manifest = (char *)text.data;
  return made;
}

parts build_parts(void) {
  const cubin_spec k = build_spec_k();
  return build_parts_with(build_cubin(&k));
}

void build_free(parts *which) {
  for (int i = 0; i < 4; ++i) bytes_free(&which->blobs[i]);
  free(which->manifest);
  which->manifest = NULL;
}

static char *quoted(const char *text) {
  char *copy = strdup(text);
  assert_non_null(copy);
  for (char *at = copy; *at != '\0'; ++at) {
    if (*at == '\'') *at = '"';
  }
  return copy;
}

void build_replace(parts *which, const char *from, const char *to) {
  char *old = quoted(from), *new = quoted(to);
  char *found = strstr(which->manifest, old);
  if (found == NULL) fail_msg("the manifest has no %s", from);
  bytes text = {NULL, 0};
  bytes_append(&text, which->manifest, (size_t)(found - which->manifest));
  bytes_append(&text, new, strlen(new));
  bytes_append(&text, found + strlen(old), strlen(found + strlen(old)));
  free(which->manifest);
  free(old);
  free(new);
  which->manifest = (char *)text.data;
}

/* As the manifest has it, if it can be found there. */
static unsigned kind_of(const parts *which, int index) {
  static const unsigned kinds[4] = {FILE_CUBIN, FILE_PTX, FILE_DATA, FILE_CUBIN};
  static const char key[] = "\"kind\":\"", letters[] = "cpdf";
  const char *at = strstr(which->manifest, which->names[index]);
  if (at != NULL) at = strstr(at, key);
  const char *letter = at == NULL ? NULL : strchr(letters, at[sizeof key - 1]);
  return letter == NULL || *letter == '\0' ? kinds[index] : (unsigned)(letter - letters);
}

bytes build_file_at(const parts *which, file_places *places) {
  file_blob blobs[4];
  bytes file = {NULL, 0};
  size_t size;
  for (int i = 0; i < 4; ++i) {
    blobs[i] = (file_blob){which->blobs[i].data, which->blobs[i].size, kind_of(which, i)};
  }
  unsigned char *made =
      file_make(which->manifest, strlen(which->manifest), blobs, 4, &size, places);
  bytes_append(&file, made, size);
  free(made);
  return file;
}

bytes build_file(const parts *which) { return build_file_at(which, NULL); }

void build_write(const char *path, const void *data, size_t size) {
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(data, 1, size, file), size);
  assert_int_equal(fclose(file), 0);
}

void build_folder(const parts *which, const char *folder) {
  char path[512];
  assert_int_equal(mkdir(folder, 0777), 0);
  snprintf(path, sizeof path, "%s/manifest.json", folder);
  build_write(path, which->manifest, strlen(which->manifest));
  snprintf(path, sizeof path, "%s/blobs", folder);
  assert_int_equal(mkdir(path, 0777), 0);
  for (int i = 0; i < 4; ++i) {
    snprintf(path, sizeof path, "%s/blobs/%s", folder, which->names[i]);
    build_write(path, which->blobs[i].data, which->blobs[i].size);
  }
}

const char *build_temporary(void) {
  static char folder[64];
  snprintf(folder, sizeof folder, "/tmp/pega_pack_XXXXXX");
  assert_non_null(mkdtemp(folder));
  return folder;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *where) {
  (void)status;
  (void)type;
  (void)where;
  return remove(path);
}

void build_remove(const char *folder) {
  assert_int_equal(nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

pega_status build_open(const bytes *file, uint32_t flags, pega_pack **out, pega_error *error) {
  pega_pack_options options = PEGA_PACK_OPTIONS_INIT;
  options.data = file->data;
  options.size = file->size;
  options.flags = flags;
  return pega_pack_open(&options, out, error);
}

pega_status build_open_path(const char *path, pega_pack **out, pega_error *error) {
  pega_pack_options options = PEGA_PACK_OPTIONS_INIT;
  options.path = path;
  return pega_pack_open(&options, out, error);
}
