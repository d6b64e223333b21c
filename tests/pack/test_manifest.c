/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests with one thing wrong each: the status, and a text that says where and what. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "build.h"

typedef struct bad_manifest {
  const char *from;
  const char *to;
  pega_status status;
  const char *text;
} bad_manifest;

#define FORMAT PEGA_ERROR_FORMAT
#define RANGE PEGA_ERROR_RANGE

static const bad_manifest kRoot[] = {
    {"'schema_version':1,", "", FORMAT, "manifest: the field 'schema_version' is missing"},
    {"'schema_version':1,", "'schema_version':2,'new':0,", PEGA_ERROR_VERSION,
     "schema_version 2: this library reads 1"},
    {"'schema_version':1,", "'schema_version':1.5,", FORMAT,
     "schema_version: expected an integer 1 to 9007199254740991, got 1.5, which is no integer"},
    {"'schema_version':1,", "'schema_version':0,", FORMAT, "got 0"},
    {"'schema_version':1,", "'schema_version':'1',", FORMAT, "got \"1\""},
    {"'schema_version':1,", "'schema_version':1,'schema_version':1,", FORMAT,
     "manifest: schema_version: no JSON that can be read: duplicate object key"},
    {"'schema_version':1,", "'schema_version':18446744073709551616,", FORMAT,
     "schema_version: expected an integer 1 to 9007199254740991, got about 1.84467e+19: past 2^53 - 1"},
    {"'schema_version':1,", "'schema_version':9007199254740992,", FORMAT,
     "got about 9.0072e+15: past 2^53 - 1 an integer is not kept exactly"},
    {"'doc':'a pack of tests',", "'dock':'a pack of tests',", FORMAT,
     "manifest: unknown field 'dock'; the nearest is 'doc'"},
    {"'doc':'a pack of tests',", "'doc':7,", FORMAT, "doc: expected a string, got 7"},
    {"'doc':'a pack of tests',", "'doc':'a\\u0000b',", FORMAT, "no JSON"},
    {"'name':'tests'", "'name':''", FORMAT, "name: expected a string of 1 to 255 bytes, got 0"},
    {"'name':'tests'", "'name':'te sts'", FORMAT, "name: expected text without blanks"},
    {"'name':'tests'", "'name':null", FORMAT, "name: expected a string, got null"},
    {"'blobs':[", "'blobs':[7,", FORMAT, "blobs[0]: expected an object, got 7"},
    {"'blobs':[", "'blobs':{},'blobs2':[", FORMAT, "unknown field 'blobs2'"},
    {"'functions':[", "'functions':[[],", FORMAT, "functions[0]: expected an object, got an array"},
    {"{'schema_version'", "[{'schema_version'", FORMAT, "no JSON"},
    {"'blobs':[", "'blobs':[[[[[[[[[[[[[[[[", RANGE, "nested deeper than 16"},
};

static const bad_manifest kBlobs[] = {
    {"'kind':'cubin'}", "'kind':'elf'}", FORMAT,
     "blobs[0].kind: expected \"cubin\", \"ptx\", \"fatbin\" or \"data\", got \"elf\""},
    {"'kind':'cubin'}", "'kind':1}", FORMAT, "blobs[0].kind: expected"},
    {"'kind':'cubin'}", "'kind':'cubin','sise':1}", FORMAT,
     "blobs[0]: unknown field 'sise'; the nearest is 'size'"},
    {",'kind':'cubin'}", "}", FORMAT, "blobs[0]: the field 'kind' is missing"},
    {"{'sha256':'", "{'sha256':'A", FORMAT, "blobs[0].sha256: expected 64 hexadecimal digits"},
    {"{'sha256':'", "{'sha256':'../", FORMAT, "blobs[0].sha256: expected 64 hexadecimal digits"},
    {"{'sha256':'", "{'sha256':'/", FORMAT, "blobs[0].sha256: expected 64 hexadecimal digits"},
    {",'size':24,", ",'size':-1,", FORMAT, "blobs[2].size: expected an integer 0 to"},
    {",'size':24,", ",'size':24.5,", FORMAT, "got 24.5, which is no integer"},
    {",'size':24,", ",'size':1073741825,", RANGE, "size is 1073741825, at most 1073741824"},
    {",'size':24,", ",'size':9007199254740991,", RANGE, "at most 1073741824 are allowed"},
    {",'size':24,", ",'size':24000,", FORMAT, "it has 24 bytes, the manifest says 24000"},
    {",'size':24,", ",'size':23,", FORMAT, "it has 24 bytes, the manifest says 23"},
    {",'kind':'data'}", ",'kind':'ptx'}", FORMAT, "is of kind code: expected data"},
    {",'kind':'ptx'}", ",'kind':'data'}", FORMAT, "is of kind data: expected cubin, ptx or fatbin"},
    {",'fill':{'blob':'", ",'fill':{'blob':'0", FORMAT,
     "functions[0].golden[0].args.y.fill.blob: expected 64 hexadecimal digits"},
};

static const bad_manifest kFunctions[] = {
    {"'name':'t.scale'", "'name':'t.map'", FORMAT, "functions[1]: the name 't.map' is used twice"},
    {"'name':'t.scale'", "'name':'t scale'", FORMAT,
     "functions[0]: function name 't scale': byte 1 is a blank"},
    {"'name':'t.scale',", "", FORMAT, "functions[0]: the field 'name' is missing"},
    {"'same_device':false", "'same_device':0", FORMAT,
     "functions[0].same_device: expected true or false, got 0"},
    {"'same_device':false", "'result':'int'", FORMAT, "functions[0]: unknown field 'result'"},
    {"'name':'b','type':'bool'", "'name':'f','type':'bool'", FORMAT, "the name is used twice"},
    {"'name':'b','type':'bool'", "'name':'b-1','type':'bool'", FORMAT, "is no identifier"},
    {"'name':'n','type':'int'", "'name':'n','type':'any'", FORMAT,
     "functions[0].params[2].type: expected \"bool\", \"int\", \"float\", \"pointer\", \"stream\" "
     "or \"Tensor\", got \"any\""},
    {"'name':'n','type':'int'", "'name':'n','type':'string'", FORMAT, "got \"string\""},
    {"'min':0,'max':1000", "'min':0", FORMAT, "functions[0].params[2]: 'min' is there without"},
    {"'min':0,'max':1000", "'max':0", FORMAT, "'max' is there without 'min'"},
    {"'min':0,'max':1000", "'min':2,'max':1", FORMAT, "min is greater than max"},
    {"'min':0,'max':1000", "'min':0,'max':1e300", FORMAT,
     "functions[0].params[2].max: expected an integer, got about 1e+300: past 2^53 - 1"},
    {"'min':0,'max':1000", "'nonnull':true", FORMAT,
     "functions[0].params[2].nonnull: a parameter of type int does not know this field"},
    {"'min':0,'max':1000", "'dtype':'int8'", FORMAT, "params[2].dtype: a parameter of type int"},
    {"'min':0,'max':1000", "'minimum':0", FORMAT, "params[2]: unknown field 'minimum'"},
    {"'alignment':16", "'alignment':24", FORMAT,
     "functions[0].params[0].alignment: expected a power of two, got 24"},
    {"'alignment':16", "'alignment':0", FORMAT, "expected an integer 1 to 1073741824, got 0"},
    {"'alignment':16", "'alignment':-16", FORMAT, "got -16"},
    {"'layout':'row-major'", "'layout':'column-major'", FORMAT,
     "params[0].pointee.layout: expected \"row-major\", got \"column-major\""},
    {"'layout':'row-major'", "'size':1", FORMAT, "params[0].pointee: unknown field 'size'"},
    {"'shape':'n, 2'", "'shape':'m, 2'", FORMAT,
     "params[0].pointee.shape: expected a list of sizes and names of int parameters"},
    {"'shape':'n, 2'", "'shape':'f, 2'", FORMAT, "names of int parameters"},
    {"'shape':'n, 2'", "'shape':'_, 2'", FORMAT, "names of int parameters"},
    {"'shape':'n, 2'", "'shape':'n, 2,'", FORMAT, "names of int parameters"},
    {"'shape':'n, 2'", "'shape':'n 2'", FORMAT, "names of int parameters"},
    {"'shape':'n, 2'", "'shape':'99999999999999999999'", FORMAT, "names of int parameters"},
    {"'shape':'n, 2'", "'shape':'1,1,1,1,1,1,1,1,1'", RANGE, "more than 8 dimensions"},
    {"'dtype':'float32','shape':'n, 2'", "'dtype':'float33x','shape':'n, 2'", FORMAT,
     "params[0].pointee.dtype: "},
    {"'dtype':'float32','shape':'n, 2',", "'shape':'n, 2',", FORMAT,
     "the field 'dtype' is missing"},
    {"{'name':'b','type':'bool'}", "{'name':'b','type':'stream'}", FORMAT,
     "functions[0].params[5]: parameter 4 'b' is a stream, too: expected one at most"},
    {"'shape':'M, 64'", "'shape':'M, -64'", FORMAT, "shape is no list of sizes and names"},
    {"'contiguous':true", "'contiguous':'yes'", FORMAT,
     "functions[1].params[0].contiguous: expected true or false, got \"yes\""},
};

static const bad_manifest kVariants[] = {
    {"'target':'sm_90a'", "'target':'sm_9'", FORMAT,
     "functions[0].variants[0].target: expected a target such as"},
    {"'target':'sm_90a'", "'target':'sm_90b'", FORMAT, "got \"sm_90b\""},
    {"'target':'sm_90a'", "'target':'compute_90'", FORMAT, "got \"compute_90\""},
    {"'entry':'k'", "'entry':''", FORMAT, "variants[0].entry: expected a string of 1 to 4095"},
    {"'entry':'k'", "'entry':'k k'", FORMAT, "entry: expected text without blanks"},
    {"'when':['n % 2 == 1'", "'when':['n % 2 = 1'", FORMAT,
     "variants[0].when[0]: expression 'n % 2 = 1', at byte 6: expected an operator or the end"},
    {"'when':['n % 2 == 1'", "'when':[1", FORMAT, "when[0]: expected an expression, got 1"},
    {"'grid':['cdiv(n, 64)','1','1']", "'grid':['cdiv(n, 64)','1']", FORMAT,
     "variants[0].grid: expected an array of 3 items, got 2"},
    {"'grid':['cdiv(n, 64)'", "'grid':['cdiv(f, 64)'", FORMAT,
     "grid[0]: expression 'cdiv(f, 64)', at byte 5: parameter 'f' is of type float"},
    {"'grid':['cdiv(n, 64)'", "'grid':[1", FORMAT, "grid[0]: expected an expression, got 1"},
    {"'block':[64,2,1]", "'block':[64,32,1]", FORMAT,
     "variants[0].block: 64 x 32 x 1 is 2048, at most 1024 are allowed"},
    {"'block':[64,2,1]", "'block':[0,2,1]", FORMAT,
     "block[0]: expected an integer 1 to 1024, got 0"},
    {"'block':[64,2,1]", "'block':[1,1,65]", FORMAT,
     "block[2]: expected an integer 1 to 64, got 65"},
    {"'block':[64,2,1]", "'block':[64,2,1,1]", FORMAT, "block: expected an array of 3 items"},
    {"'cluster':[2,1,1]", "'cluster':[8,4,1]", FORMAT,
     "cluster: 8 x 4 x 1 is 32, at most 16 are allowed"},
    {"'cluster':[2,1,1]", "'cluster':[0,1,1]", FORMAT, "cluster[0]: expected an integer 1 to 16"},
    {"'block':[1,1,1]", "'block':[1,1,1],'cluster':[2,1,1]", FORMAT,
     "variants[1].cluster: target sm_80 has no clusters"},
    {"'block':[1,1,1]", "'block':[1,1,1],'pdl':true", FORMAT,
     "variants[1].pdl: target sm_80 has no programmatic dependent launch"},
    {"'shared':1024", "'shared':262145", FORMAT, "variants[0].shared: expected an integer 0 to"},
    {"'shared':1024", "'shared':262144", FORMAT,
     "shared is 262144 and static_shared 400 bytes, at most 262144 together"},
    {"'shared':1024,", "", FORMAT, "the field 'shared' is missing"},
    {"'registers':24", "'registers':256", FORMAT, "registers: expected an integer 0 to 255"},
    {"'local_bytes':8", "'local_bytes':-8", FORMAT, "local_bytes: expected an integer 0 to"},
    {"'pdl':true", "'pdl':1", FORMAT, "variants[0].pdl: expected true or false, got 1"},
    {"'pdl':true", "'tmem':true", FORMAT, "variants[0]: unknown field 'tmem'"},
    {"'size':256,'alignment':128", "'size':256,'alignment':96", FORMAT,
     "global_scratch.alignment: expected a power of two, got 96"},
    {"'size':256,'alignment':128", "'size':256", FORMAT, "the field 'alignment' is missing"},
    {"'size':256,'alignment':128", "'size':-1,'alignment':128", FORMAT,
     "global_scratch.size: expected an integer 0 to"},
    {"{'size':256,'alignment':128}", "{'size':256,'alignment':128,'x':1}", FORMAT,
     "global_scratch: unknown field 'x'"},
    {"'role':'global_scratch'", "'role':'argument','value':'0'", FORMAT,
     "variants[0].global_scratch: no parameter of the kernel has the role global_scratch"},
    {"'tool':'hand'", "'tool':1", FORMAT, "made_by.tool: expected a string, got 1"},
    {"'tool':'hand'", "'by':'hand'", FORMAT, "made_by: unknown field 'by'"},
    {"'tool':'hand'", "'source_sha256':'12'", FORMAT,
     "made_by.source_sha256: expected 64 hexadecimal digits"},
    {"'num_warps':1", "'num_warps':{}", FORMAT, "made_by.flags.num_warps: expected a string"},
    {"'list':[1,'a']", "'list':[[]]", FORMAT, "made_by.flags.list[0]: expected a string"},
    {"'flags':{", "'flags':[],'source':{", FORMAT, "made_by.source: expected a string"},
};

static const bad_manifest kKernelParams[] = {
    {"'offset':0,'size':8", "'offset':-1,'size':8", FORMAT,
     "functions[0].variants[0].params[0].offset: expected an integer 0 to 4095, got -1"},
    {"'offset':16,'size':4", "'offset':18,'size':4", FORMAT,
     "params[2].offset: 18 is no multiple of 4, to which type i32 is aligned"},
    {"'offset':16,'size':4", "'offset':12,'size':4", FORMAT,
     "params[2].offset: 12 is before byte 16, where the parameter before ends"},
    {"'offset':16,'size':4", "'offset':16,'size':8", FORMAT,
     "params[2].size: expected 4, the size of type i32, got 8"},
    {"'offset':16,'size':4", "'offset':16,'size':4.5", FORMAT, "got 4.5, which is no integer"},
    {"'offset':40,'size':8", "'offset':4096,'size':8", FORMAT,
     "params[6].offset: expected an integer 0 to 4095, got 4096"},
    {"'name':'d','type':'tensor_map','offset':0", "'name':'d','type':'tensor_map','offset':4032",
     RANGE, "the parameter ends at byte 4160, at most 4096 are allowed"},
    {"'type':'i32'", "'type':'int32'", FORMAT, "params[2].type: expected a type of kernel param"},
    {"'type':'i32'", "'type':4", FORMAT, "params[2].type: expected a type of kernel parameters"},
    {"'name':'py'", "'name':'px'", FORMAT, "params[1]: the name 'px' is used twice"},
    {"'name':'py'", "'name':'p y'", FORMAT, "params[1].name: expected text without blanks"},
    {"'role':'argument'", "'role':'constant'", FORMAT,
     "params[0].role: expected \"argument\", \"tensor_descriptor\""},
    {"'value':'f'", "'value':'f + 1'", FORMAT,
     "params[3].value: expected the name of a float or int parameter, got \"f + 1\""},
    {"'value':'f'", "'value':'f','offset':20", FORMAT,
     "manifest: functions[0].variants[0].params[3].offset: no JSON that can be read: duplicate"},
    {"'value':'f'", "'value':'\xff'", FORMAT, "line 1, column "},
    {"'value':'f'", "\n  'value':'\xff'", FORMAT,
     "line 2, column 12: no JSON that can be read: it is not UTF-8"},
    {"'value':'f'", "'value':'x'", FORMAT, "expected the name of a float or int parameter"},
    {",'value':'b'", "", FORMAT, "params[4]: the field 'value' is missing"},
    {"'value':'b'", "'value':'s'", FORMAT, "parameter 's' is of type stream"},
    {"'value':'b'", "'value':'b','encoding':{}", FORMAT,
     "params[4].encoding: only a tensor_descriptor has an encoding"},
    {"'role':'global_scratch'", "'role':'global_scratch','value':'x'", FORMAT,
     "params[5].value: a global_scratch has no value"},
    {"'role':'profile_scratch'", "'role':'global_scratch'", FORMAT,
     "params[6].role: parameter 5 has it already"},
    {"'type':'pointer','offset':32", "'type':'u64','offset':32", FORMAT,
     "params[5].type: expected \"pointer\" for a scratch parameter, got \"u64\""},
    {"'role':'tensor_descriptor'", "'role':'argument'", FORMAT, "only a tensor_descriptor has"},
    {"'type':'tensor_map','offset':0,'size':128", "'type':'pointer','offset':0,'size':8", FORMAT,
     "params[0].type: expected \"tensor_map\" for a tensor_descriptor, got \"pointer\""},
    {"'value':'t'", "'value':'t + 0'", FORMAT, "value: expected the name of a Tensor parameter"},
    {"'encoding':{'block':[64,64]", "'encoding':{'block':[64]", FORMAT,
     "encoding: block has 1 sizes, Tensor 't' has 2 dimensions"},
    {"'encoding':{'block':[64,64]", "'encoding':{'block':[64,257]", FORMAT,
     "encoding.block[1]: expected an integer 1 to 256, got 257"},
    {"'encoding':{'block':[64,64]", "'encoding':{'block':[]", FORMAT,
     "encoding.block: expected an array of 1 to 5 items, got 0"},
    {"'swizzle':3", "'swizzle':7", FORMAT, "encoding.swizzle: expected an integer 0 to 6, got 7"},
    {"'swizzle':3,", "", FORMAT, "encoding: the field 'swizzle' is missing"},
    {"'l2_promotion':2", "'l3_promotion':2", FORMAT, "encoding: unknown field 'l3_promotion'"},
    {"'value':'M * shape(t, 1)'", "'value':'M * shape(t, 2)'", FORMAT,
     "value: expression 'M * shape(t, 2)', at byte 13: 't' has 2 dimensions at most"},
};

static const bad_manifest kGolden[] = {
    {"'name':'three'", "'nam':'three'", FORMAT, "functions[0].golden[0]: unknown field 'nam'"},
    {"'n':3,'f':2", "'f':2", FORMAT, "golden[0].args: the field 'n' is missing"},
    {"'n':3,'f':2", "'n':3,'s':0,'f':2", FORMAT, "golden[0].args: unknown field 's'"},
    {"'n':3,'f':2", "'n':3.5,'f':2", FORMAT, "args.n: expected an integer, got 3.5"},
    {"'n':3,'f':2", "'n':1001,'f':2", FORMAT,
     "args: t.scale: argument 2 'n': expected a value from 0 to 1000, got int 1001"},
    {"'n':3,'f':2", "'n':4,'f':2", FORMAT,
     "args.x: shape[0]: expected 4, as the parameter's pointee, got 3"},
    {"'n':3,'f':2", "'n':3,'f':'2'", FORMAT, "args.f: expected a number, got \"2\""},
    {"'n':3,'f':2", "'n':3,'f':1e999", FORMAT,
     "manifest: functions[0].golden[0].args.f: no JSON that can be read: a number past what a double can hold"},
    {"'b':true", "'b':1", FORMAT, "args.b: expected true or false, got 1"},
    {"'x':{'dtype':'float32','shape':[3,2]", "'x':{'dtype':'float16','shape':[3,2]", FORMAT,
     "args.x: dtype: expected float32, as the parameter's pointee, got float16"},
    {"'x':{'dtype':'float32','shape':[3,2]", "'x':{'dtype':'float32','shape':[6]", FORMAT,
     "args.x: shape: expected 2 sizes, as the parameter's pointee, got 1"},
    {"'x':{'dtype':'float32','shape':[3,2]", "'x':{'dtype':'float32','shape':[3,-2]", FORMAT,
     "args.x.shape[1]: expected an integer 0 to"},
    {"'x':{'dtype':'float32','shape':[3,2]",
     "'x':{'dtype':'float32','shape':[9007199254740991,9007199254740991]", FORMAT, "args.x: "},
    {"'pointee':{'dtype':'float32','shape':'n, 2','layout':'row-major'}", "'doc':'2'", FORMAT,
     "manifest: functions[0].params[0].doc: no JSON that can be read: duplicate object key"},
    {"'generator':'uniform'", "'generator':'normal'", FORMAT,
     "args.x.fill.generator: expected \"uniform\" or \"constant\", got \"normal\""},
    {"'generator':'uniform'", "'generator':'constant'", FORMAT, "fill: unknown field 'seed'"},
    {"'seed':7,", "", FORMAT, "fill: the field 'seed' is missing"},
    {"'seed':7", "'seed':-7", FORMAT, "fill.seed: expected an integer 0 to"},
    {"'low':-1,", "'low':2,", FORMAT, "fill: low is 2, greater than high, 1.5"},
    {"'low':-1,", "'low':'a',", FORMAT, "fill.low: expected a number"},
    {"'atol':0.001", "'atol':-0.001", FORMAT, "expect.atol: expected a number >= 0"},
    {"'atol':0.001,", "", FORMAT, "expect: the field 'atol' is missing"},
    {"'rtol':0}", "'rtol':0,'x':1}", FORMAT, "expect: unknown field 'x'"},
    {",'seed':7,'low':-1,'high':1.5}", ",'seed':7,'low':-1,'high':1.5,'blob':'0'}", FORMAT,
     "fill: unknown field"},
};

static const char *root;

static int make_root(void **state) {
  (void)state;
  root = build_temporary();
  return 0;
}

static int remove_root(void **state) {
  (void)state;
  build_remove(root);
  return 0;
}

/* A folder is refused when it is opened. Takes it. */
static void refuse_folder(const parts *made, pega_status status, const char *text,
                          const char *what) {
  pega_error error = PEGA_ERROR_INIT;
  pega_pack *pack = NULL;
  char path[200];
  snprintf(path, sizeof path, "%s/pack", root);
  build_folder(made, path);
  const pega_status got = build_open_path(path, &pack, &error);
  if (got != status || strstr(pega_error_message(&error), text) == NULL) {
    fail_msg("%s: expected %s with '%s', got %s: %s", what, pega_status_name(status), text,
             pega_status_name(got), pega_error_message(&error));
  }
  assert_null(pack);
  assert_true(strncmp(pega_error_message(&error), path, strlen(path)) == 0);
  pega_error_clear(&error);
  build_remove(path);
}

/* A file, whose index knows nothing of it, when it is opened or the manifest is asked for. Where it is a
 * description that is wrong, the text is the same but for where. */
static void refuse_file(const parts *made, pega_status status, const char *text, const char *what) {
  pega_error error = PEGA_ERROR_INIT;
  pega_pack *pack = NULL;
  const char *manifest;
  bytes file = build_file(made);
  const char *dot = strncmp(text, "functions[", 10) == 0 ? strstr(text, "].") : NULL;
  const char *own = dot == NULL ? "" : dot + 2;
  pega_status got = build_open(&file, 0, &pack, &error);
  if (got == PEGA_OK) got = pega_pack_manifest(pack, &manifest, NULL, &error);
  if (got == PEGA_OK || (dot != NULL && got != status) ||
      strstr(pega_error_message(&error), own) == NULL) {
    fail_msg("%s, in a file: expected %s with '%s', got %s: %s", what, pega_status_name(status),
             own, pega_status_name(got), pega_error_message(&error));
  }
  assert_int_equal(error.status, got);
  EXPECT_TEXT(pega_error_message(&error), "pack in memory: ");
  pega_pack_release(pack);
  pega_error_clear(&error);
  bytes_free(&file);
}

static void check_all(const bad_manifest *table, int32_t count) {
  for (int32_t i = 0; i < count; ++i) {
    parts made = build_parts();
    build_replace(&made, table[i].from, table[i].to);
    refuse_folder(&made, table[i].status, table[i].text, table[i].to);
    refuse_file(&made, table[i].status, table[i].text, table[i].to);
    build_free(&made);
  }
}

#define TABLE_TEST(name, table)     \
  static void name(void **state) {  \
    (void)state;                    \
    check_all(table, COUNT(table)); \
  }
TABLE_TEST(test_root, kRoot)
TABLE_TEST(test_blobs, kBlobs)
TABLE_TEST(test_functions, kFunctions)
TABLE_TEST(test_variants, kVariants)
TABLE_TEST(test_kernel_params, kKernelParams)
TABLE_TEST(test_golden, kGolden)

/* ---- What one replacement does not make ---- */

static void expect_bad(parts *made, pega_status status, const char *text) {
  refuse_folder(made, status, text, text);
  refuse_file(made, status, text, text);
  build_free(made);
}

static void test_blob_references(void **state) {
  (void)state;
  char from[200], to[200];
  parts made = build_parts();
  /* A variant of a blob that is not there; then the blob that it had is not used. */
  snprintf(from, sizeof from, "'target':'sm_90a','blob':'%.8s", made.names[0]);
  snprintf(to, sizeof to, "'target':'sm_90a','blob':'%s", "00000000");
  build_replace(&made, from, to);
  expect_bad(&made, FORMAT, "variants[0].blob: blob 00000000");
  made = build_parts();
  snprintf(from, sizeof from, "'target':'sm_90a','blob':'%s", made.names[0]);
  snprintf(to, sizeof to, "'target':'sm_90a','blob':'%s", made.names[3]);
  build_replace(&made, from, to);
  expect_bad(&made, FORMAT, "blobs[0]: nothing refers to blob ");
  made = build_parts();
  snprintf(from, sizeof from, "{'sha256':'%s'", made.names[3]);
  snprintf(to, sizeof to, "{'sha256':'%s'", made.names[0]);
  build_replace(&made, from, to);
  expect_bad(&made, FORMAT, "blobs[3]: blob ");
  made = build_parts();
  build_replace(&made, ",'expect':{'blob':'", ",'expected':{'blob':'");
  expect_bad(&made, FORMAT, "args.y: unknown field 'expected'; the nearest is 'expect'");
  made = build_parts();
  snprintf(from, sizeof from, ",'expect':{'blob':'%s','atol':0.001,'rtol':0}", made.names[2]);
  build_replace(&made, from, "");
  expect_bad(&made, FORMAT, "no argument has 'expect': nothing would be compared");
  made = build_parts();
  build_replace(&made,
                "'x':{'dtype':'float32','shape':[3,2],'fill':{'generator':'uniform','seed':7,"
                "'low':-1,'high':1.5}}",
                "'x':{'dtype':'float32','shape':[2,2]}");
  build_replace(&made, "'y':{'dtype':'float32','shape':[3,2]",
                "'y':{'dtype':'float32','shape':[2,2]");
  build_replace(&made, "'n':3,", "'n':2,");
  expect_bad(&made, FORMAT, "has 24 bytes, the tensor has 16");
}

/* A manifest that is `open` so many times, then `middle`, then `close`. */
static void test_huge_counts(void **state) {
  (void)state;
  static const struct {
    const char *from, *item;
    int count;
    const char *text;
  } cases[] = {
      {"'when':[", "'1',", 65, "when: expected an array of 0 to 64 items"},
      {"'params':[{'name':'px'", "0,", 300, "params: expected an array of 0 to 256 items"},
      {"'params':[{'name':'x'", "0,", 65, "params: expected an array of 0 to 64 items"},
      {"'variants':[", "0,", 1025, "variants: expected an array of 1 to 1024 items"},
      {"'golden':[", "0,", 65, "golden: expected an array of 0 to 64 items"},
      {"'functions':[", "0,", 16385, "functions: expected an array of 0 to 16384 items"},
      {"'blobs':[", "0,", 65537, "blobs: expected an array of 0 to 65536 items"},
      {"'blobs':[", "0,", 1 << 22, "more than 2097152 values"},
  };
  for (int32_t i = 0; i < COUNT(cases); ++i) {
    parts made = build_parts();
    bytes text = {NULL, 0};
    const size_t head = strcspn(cases[i].from, "[") + 1;
    bytes_append(&text, cases[i].from, head);
    for (int j = 0; j < cases[i].count; ++j) {
      bytes_append(&text, cases[i].item, strlen(cases[i].item));
    }
    bytes_append(&text, cases[i].from + head, strlen(cases[i].from + head));
    build_replace(&made, cases[i].from, (const char *)text.data);
    bytes_free(&text);
    expect_bad(&made, RANGE, cases[i].text);
  }
}

static void test_long_texts(void **state) {
  (void)state;
  static char text[70000];
  parts made = build_parts();
  memset(text, 'x', 65536 + 7);
  memcpy(text, "'doc':'", 7);
  strcpy(text + 65536 + 7, "'");
  build_replace(&made, "'doc':'a pack of tests'", text);
  expect_bad(&made, RANGE, "doc: expected a string of 0 to 65535 bytes, got 65536");
  made = build_parts();
  memset(text, '1', 600);
  memcpy(text, "'grid':['", 9);
  strcpy(text + 600, "'");
  build_replace(&made, "'grid':['cdiv(n, 64)'", text);
  expect_bad(&made, RANGE, "grid[0]: expected a string of 1 to 512 bytes, got 591");
  /* A name that is hostile to whoever prints it. */
  made = build_parts();
  build_replace(&made, "'doc':'a pack of tests'", "'\\u001b[2J\\u202e':1");
  expect_bad(&made, FORMAT, "unknown field '?[2J");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_root),
      cmocka_unit_test(test_blobs),
      cmocka_unit_test(test_functions),
      cmocka_unit_test(test_variants),
      cmocka_unit_test(test_kernel_params),
      cmocka_unit_test(test_golden),
      cmocka_unit_test(test_blob_references),
      cmocka_unit_test(test_huge_counts),
      cmocka_unit_test(test_long_texts),
  };
  return cmocka_run_group_tests(tests, make_root, remove_root);
}
