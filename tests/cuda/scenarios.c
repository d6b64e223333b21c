/* SPDX-License-Identifier: Apache-2.0 */
#include "scenarios.h"

#include <stdlib.h>
#include <string.h>

#define POINTERS_AND_COUNT                                                                 \
  "{'name':'x','type':'pointer','nonnull':true,"                                           \
  "'pointee':{'dtype':'float32','shape':'n'}},"                                            \
  "{'name':'y','type':'pointer','output':true,'pointee':{'dtype':'float32','shape':'n'}}," \
  "{'name':'n','type':'int','min':0,'max':100000}"
#define RAW "[" POINTERS_AND_COUNT ",{'name':'s','type':'stream'}]"

static const kernel_param raw_params[] = {PARAM("pointer", "x"), PARAM("pointer", "y"),
                                          PARAM("i32", "n"), SCRATCH("global_scratch"),
                                          END_OF_PARAMS};
static const kernel_param tensor_params[] = {PARAM("pointer", "x"), PARAM("i64", "T"),
                                             END_OF_PARAMS};
static const kernel_param map_params[] = {
    {.type = "tensor_map",
     .value = "x",
     .role = "tensor_descriptor",
     .encoding = "{'block':[16,32],'swizzle':3,'elem_type':6,'elem_size':2,'padding':0}"},
    PARAM("i32", "T"),
    END_OF_PARAMS};

#define ON_TWO_TARGETS(symbol, list, ...)                                                     \
  static const kernel_variant symbol[] = {{"sm_90a", #symbol, .params = (list), __VA_ARGS__}, \
                                          {"sm_80", #symbol, .params = (list), __VA_ARGS__}}
ON_TWO_TARGETS(raw_variants, raw_params, .grid = {"cdiv(n, 64)"});
ON_TWO_TARGETS(tensor_variants, tensor_params, .grid = {"T"});
ON_TWO_TARGETS(scratch_variants, raw_params, .grid = {"cdiv(n, 64)", "2"}, .global_scratch = 512,
               .global_alignment = 128);
static const kernel_variant cluster_variants[] = {{"sm_90", "clusters", .params = raw_params,
                                                   .grid = {"16"}, .cluster = {16, 1, 1},
                                                   .pdl = true, .shared = 100000}};
static const kernel_variant cooperative_variants[] = {
    {"sm_90", "cooperates", .params = raw_params, .grid = {"4"}, .cooperative = true}};
static const kernel_variant map_variants[] = {
    {"sm_90a", "maps", .params = map_params, .grid = {"T"}}};
static const kernel_variant ptx_variants[] = {
    {"sm_80", "compiled", .registers = 1,
     .ptx =
         ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry compiled() { ret; }\n"}};
static const kernel_variant chosen_variants[] = {
    {"sm_90", "divisible", .when = "['n % 16 == 0']", .params = raw_params, .grid = {"1"}},
    {"sm_90", "any", .params = raw_params, .grid = {"2"}}};

static const kernel_function functions[] = {
    {"t.raw", RAW, raw_variants, 2,
     "[{'name':'four','args':{'x':{'dtype':'float32','shape':[4],'fill':{'generator':'constant',"
     "'value':2}},'y':{'dtype':'float32','shape':[4],'expect':{'blob':'@0','atol':0,'rtol':0}},"
     "'n':4}}]"},
    {"t.tensor", "[{'name':'x','type':'Tensor','dtype':'float32','shape':'T','contiguous':true}]",
     tensor_variants, 2, NULL},
    {"t.scratch", RAW, scratch_variants, 2, NULL},
    {"t.clusters", RAW, cluster_variants, 1, NULL},
    {"t.cooperates", RAW, cooperative_variants, 1, NULL},
    {"t.map", "[{'name':'x','type':'Tensor','dtype':'float16','shape':'T, 64'}]", map_variants, 1,
     NULL},
    {"t.ptx", "[{'name':'s','type':'stream'}]", ptx_variants, 1, NULL},
    {"t.chosen", RAW, chosen_variants, 2, NULL},
};

static bytes file;
static uint64_t memory[2];   /* of a context on each device that is no primary one */
static CUcontext holders[2]; /* these contexts */
static pega_pack *held;      /* by a setup, until its teardown */
static pega_function *held_function;
static pega_pack *shared;
static CUstream stream;
static machine_stack before;
static uint64_t allocator_memory;

static int fill_y(const pega_fake_driver_launch *launch, void *user) {
  (void)user;
  float *y;
  int32_t n;
  memcpy(&y, launch->params[1].bytes, sizeof y);
  memcpy(&n, launch->params[2].bytes, sizeof n);
  for (int32_t i = 0; i < n; ++i) y[i] = 3;
  return 0;
}

void scenarios_start(void) {
  static float expected[4] = {3, 3, 3, 3};
  const bytes data = {(unsigned char *)expected, sizeof expected};
  machine_start("devices=2");
  machine_set_capability(1, 8, 0);
  /* Once in a process: opening the driver, and asking what its devices are. */
  for (int i = 0; i < 2; ++i) assert_int_equal(machine_health(i).code, 0);
  file = pack_make("scenarios", functions, COUNT(functions), &data, 1);
  for (int i = 0; i < 2; ++i) {
    CUcontext popped;
    CUdeviceptr address;
    assert_int_equal(cu.cuCtxCreate_v2(&holders[i], 0, i), 0);
    assert_int_equal(cu.cuMemAlloc_v2(&address, 4096), 0);
    memory[i] = address;
    assert_int_equal(cu.cuCtxPopCurrent_v2(&popped), 0);
  }
}

void scenarios_end(void) {
  pega_pack_release(shared);
  for (int i = 0; i < 2; ++i) {
    assert_int_equal(cu.cuCtxPushCurrent_v2(holders[i]), 0);
    assert_int_equal(cu.cuMemFree_v2(memory[i]), 0);
    assert_int_equal(cu.cuCtxDestroy_v2(holders[i]), 0);
  }
  bytes_free(&file);
}

/* ---- Pieces ---- */

void scenarios_share_pack(void) {
  shared = pack_open(&file, PEGA_PACK_ALLOW_PTX | PEGA_PACK_STATIC);
}

static pega_status open_pack(pega_pack **out, pega_error *error) {
  if (shared == NULL) return build_open(&file, PEGA_PACK_ALLOW_PTX | PEGA_PACK_STATIC, out, error);
  *out = pega_pack_retain(shared);
  return PEGA_OK;
}

static pega_status get(const char *name, pega_pack **pack, pega_function **function,
                       pega_error *error) {
  *pack = NULL;
  *function = NULL;
  pega_status status = open_pack(pack, error);
  if (status == PEGA_OK) status = pega_pack_get(*pack, name, function, error);
  return status;
}

static void put_back(pega_pack *pack, pega_function *function) {
  pega_function_release(function);
  pega_pack_release(pack);
}

static pega_status call_raw(pega_function *function, int device, void *on, pega_error *error) {
  return pega_function_call(function,
                            ARGS(pega_value_pointer((void *)(uintptr_t)memory[device]),
                                 pega_value_pointer((void *)(uintptr_t)(memory[device] + 1024)),
                                 pega_value_int(100), pega_value_pointer(on)),
                            NULL, error);
}

static pega_status call_tensor(pega_function *function, int device, pega_error *error) {
  const DLTensor x = {
      (void *)(uintptr_t)memory[device], CUDA(device), 1, FLOAT32, SHAPE(64), NULL, 0};
  return pega_function_call(function, ARGS(pega_value_tensor(&x)), NULL, error);
}

/* Gets a function, prepares it where `prepare_on` is not below 0, calls it on `stream`. */
static pega_status use_raw(const char *name, int prepare_on, pega_error *error) {
  pega_pack *pack;
  pega_function *function;
  pega_status status = get(name, &pack, &function, error);
  if (status == PEGA_OK && prepare_on >= 0) {
    status = pega_function_prepare(function, CUDA(prepare_on), error);
  }
  if (status == PEGA_OK) status = call_raw(function, 0, stream, error);
  put_back(pack, function);
  return status;
}

static void hold(const char *name) {
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_OK(get(name, &held, &held_function, &error), &error);
}

static void hold_prepared(const char *name) {
  pega_error error = PEGA_ERROR_INIT;
  hold(name);
  EXPECT_OK(pega_function_prepare(held_function, CUDA(0), &error), &error);
}

static void drop(void) {
  put_back(held, held_function);
  held = NULL;
  held_function = NULL;
}

static void push_primary(void) {
  CUcontext context;
  before = machine_get_stack();
  assert_int_equal(cu.cuDevicePrimaryCtxRetain(&context, 0), 0);
  assert_int_equal(cu.cuCtxPushCurrent_v2(context), 0);
}

static void pop_primary(void) {
  machine_set_stack(&before);
  assert_int_equal(cu.cuDevicePrimaryCtxRelease_v2(0), 0);
}

static void make_stream(void) { stream = machine_stream(0, 1); }

static void drop_stream(void) {
  machine_destroy_stream(0, stream);
  stream = NULL;
}

/* ---- Scenarios ---- */

static pega_status prepare_and_launch(pega_error *error) { return use_raw("t.raw", 0, error); }
static pega_status launch_unprepared(pega_error *error) { return use_raw("t.raw", -1, error); }
static pega_status launch_scratch(pega_error *error) { return use_raw("t.scratch", 0, error); }
static pega_status launch_clusters(pega_error *error) { return use_raw("t.clusters", -1, error); }
static pega_status launch_cooperative(pega_error *error) {
  return use_raw("t.cooperates", 0, error);
}
static pega_status launch_chosen(pega_error *error) { return use_raw("t.chosen", -1, error); }

static pega_status prepare_alone(pega_error *error) {
  pega_pack *pack;
  pega_function *function;
  pega_status status = get("t.raw", &pack, &function, error);
  if (status == PEGA_OK) status = pega_function_prepare(function, CUDA(0), error);
  put_back(pack, function);
  return status;
}

static pega_status launch_ptx(pega_error *error) {
  pega_pack *pack;
  pega_function *function;
  pega_status status = get("t.ptx", &pack, &function, error);
  if (status == PEGA_OK) status = pega_function_prepare(function, CUDA(0), error);
  if (status == PEGA_OK) {
    status = pega_function_call(function, ARGS(pega_value_pointer(NULL)), NULL, error);
  }
  put_back(pack, function);
  return status;
}

static pega_status two_devices(pega_error *error) {
  pega_pack *pack;
  pega_function *function;
  pega_status status = get("t.tensor", &pack, &function, error);
  for (int i = 0; i < 2 && status == PEGA_OK; ++i) {
    status = pega_function_prepare(function, CUDA(i), error);
    if (status == PEGA_OK) status = call_tensor(function, i, error);
  }
  put_back(pack, function);
  return status;
}

static pega_status tensor_unprepared(pega_error *error) {
  pega_pack *pack;
  pega_function *function;
  pega_status status = get("t.tensor", &pack, &function, error);
  if (status == PEGA_OK) status = call_tensor(function, 1, error);
  if (status == PEGA_OK) status = call_tensor(function, 1, error);
  put_back(pack, function);
  return status;
}

static pega_status launch_map(pega_error *error) {
  pega_pack *pack;
  pega_function *function;
  const DLTensor x = {
      (void *)(uintptr_t)memory[0], CUDA(0), 2, DTYPE(kDLFloat, 16, 1), SHAPE(16, 64), NULL, 0};
  pega_status status = get("t.map", &pack, &function, error);
  if (status == PEGA_OK) status = pega_function_prepare(function, CUDA(0), error);
  if (status == PEGA_OK) {
    status = pega_function_call(function, ARGS(pega_value_tensor(&x)), NULL, error);
  }
  put_back(pack, function);
  return status;
}

/* A context that is not the primary one is current, of the device or of another. It takes with it
 * what is loaded there. */
static void make_foreign_on(int device) {
  CUcontext made;
  before = machine_get_stack();
  assert_int_equal(cu.cuCtxCreate_v2(&made, 0, device), 0);
}
static void make_foreign(void) { make_foreign_on(0); }
static void make_other(void) { make_foreign_on(1); }
static void destroy_foreign(void) {
  assert_int_equal(cu.cuCtxDestroy_v2(machine_current()), 0);
  machine_set_stack(&before);
}

/* Captures. The stream is of the primary context. */
static void begin_capture(int mode) {
  push_primary();
  assert_int_equal(cu.cuStreamBeginCapture_v2(stream, mode), 0);
}
static void capture_prepared(void) {
  hold_prepared("t.raw");
  make_stream();
  begin_capture(0);
}
static void capture_unprepared(void) {
  hold("t.raw");
  make_stream();
  begin_capture(0);
}
static void end_capture(void) {
  CUgraph graph = NULL;
  assert_int_equal(cu.cuStreamEndCapture(stream, &graph), 0);
  assert_int_equal(cu.cuGraphDestroy(graph), 0);
  pop_primary();
  drop_stream();
  drop();
}
static pega_status launch_held(pega_error *error) {
  return call_raw(held_function, 0, stream, error);
}

/* Another stream of the thread captures while a function is prepared. */
static pega_status prepare_beside_capture(pega_error *error) {
  return pega_function_prepare(held_function, CUDA(0), error);
}

static pega_status allocate(void *self, DLDevice device, size_t size, size_t alignment, void *on,
                            void **out, pega_error *error) {
  (void)self;
  (void)device;
  (void)on;
  (void)error;
  assert_int_equal(size, 512 * 2 * 2);
  assert_int_equal(alignment, 128);
  ++allocator_memory;
  *out = (void *)(uintptr_t)memory[0];
  return PEGA_OK;
}
static void release(void *self, DLDevice device, void *given, void *on) {
  (void)self;
  (void)device;
  (void)on;
  assert_ptr_equal(given, (void *)(uintptr_t)memory[0]);
  --allocator_memory;
}
static const pega_cuda_allocator own_allocator = {sizeof own_allocator, 0, allocate, release, NULL};
static void give_allocator(void) {
  assert_int_equal(pega_cuda_set_allocator(&own_allocator, NULL), PEGA_OK);
}
static void take_allocator(void) {
  assert_int_equal(pega_cuda_set_allocator(NULL, NULL), PEGA_OK);
  assert_int_equal(allocator_memory, 0);
}

static void set_golden_kernel(void) {
  assert_int_equal(pega_fake_driver_set_kernel("raw_variants", fill_y, NULL), 0);
}
static void take_golden_kernel(void) {
  assert_int_equal(pega_fake_driver_set_kernel("raw_variants", NULL, NULL), 0);
}
static pega_status test_pack(pega_error *error) {
  pega_pack *pack = NULL;
  pega_status status = open_pack(&pack, error);
  if (status == PEGA_OK) status = pega_pack_test(pack, CUDA(0), NULL, NULL, error);
  pega_pack_release(pack);
  return status;
}

static pega_status ask(pega_error *error) {
  int32_t count = 0;
  pega_device_info info = {.struct_size = sizeof info};
  pega_device_health_info health = {.struct_size = sizeof health};
  pega_status status = pega_device_count(&count, error);
  if (status == PEGA_OK) status = pega_device_query(CUDA(1), &info, error);
  if (status == PEGA_OK) status = pega_device_health(CUDA(1), &health, error);
  if (status == PEGA_OK && (count != 2 || info.compute_capability != 80 || health.code != 0)) {
    return PEGA_ERROR_INTERNAL;
  }
  return status;
}

static pega_status explain(pega_error *error) {
  pega_pack *pack = NULL;
  pega_value value = pega_value_none();
  pega_status status = build_open(&file, PEGA_PACK_STATIC, &pack, error);
  if (status == PEGA_OK) status = pega_pack_explain(pack, "t.raw", "cuda:1", &value, error);
  pega_value_release(&value);
  pega_pack_release(pack);
  return status;
}

static void prepare_two(void) {
  pega_error error = PEGA_ERROR_INIT;
  hold_prepared("t.raw");
  EXPECT_OK(pega_function_prepare(held_function, CUDA(1), &error), &error);
}
static pega_status close_all(pega_error *error) { return pega_cuda_close(error); }

const scenario scenarios[] = {
    {"prepare and launch", NULL, prepare_and_launch, NULL, PEGA_OK, false},
    {"launch unprepared, no context", NULL, launch_unprepared, NULL, PEGA_OK, false},
    {"launch unprepared in the primary context", push_primary, launch_unprepared, pop_primary,
     PEGA_OK, false},
    {"launch on a stream, no context", make_stream, launch_unprepared, drop_stream, PEGA_OK, false},
    {"prepare, another context current", make_other, prepare_alone, destroy_foreign, PEGA_OK,
     false},
    {"launch in a context of others", make_foreign, launch_unprepared, destroy_foreign, PEGA_OK,
     false},
    {"two devices", NULL, two_devices, NULL, PEGA_OK, false},
    {"two devices, another context current", make_other, two_devices, destroy_foreign, PEGA_OK,
     false},
    {"tensors, unprepared", NULL, tensor_unprepared, NULL, PEGA_OK, false},
    {"capture of a prepared kernel", capture_prepared, launch_held, end_capture, PEGA_OK, true},
    {"capture of an unprepared kernel", capture_unprepared, launch_held, end_capture,
     PEGA_ERROR_UNAVAILABLE, true},
    {"prepare beside a capture", capture_unprepared, prepare_beside_capture, end_capture, PEGA_OK,
     true},
    {"global scratch", NULL, launch_scratch, NULL, PEGA_OK, false},
    {"global scratch of an allocator", give_allocator, launch_scratch, take_allocator, PEGA_OK,
     false},
    {"clusters", NULL, launch_clusters, NULL, PEGA_OK, false},
    {"cooperative", NULL, launch_cooperative, NULL, PEGA_OK, false},
    {"variants", NULL, launch_chosen, NULL, PEGA_OK, false},
    {"tensor descriptor", NULL, launch_map, NULL, PEGA_OK, false},
    {"PTX", NULL, launch_ptx, NULL, PEGA_OK, false},
    {"golden cases", set_golden_kernel, test_pack, take_golden_kernel, PEGA_OK, false},
    {"queries", NULL, ask, NULL, PEGA_OK, false},
    {"explain", NULL, explain, NULL, PEGA_OK, false},
    {"close", prepare_two, close_all, drop, PEGA_OK, false},
};
const int num_scenarios = COUNT(scenarios);
