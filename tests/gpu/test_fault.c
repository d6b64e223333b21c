/* SPDX-License-Identifier: Apache-2.0 */
/*
 * After a fault and after a fork. A fault takes a whole process's context with it, so each part runs in
 * a process of its own: this program again, with the part's name.
 *
 * `test_gpu_fault bad-launch` alone launches on an unmapped address and ends with 0 if the driver then
 * reports it: something for a memory checker to find.
 */
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fixture.h"

extern char **environ;

/* No allocation lies here. */
static const CUdeviceptr kUnmapped = 0x10000;

static device_solve good;

/* Launches on unmapped memory: accepted, and a fault by the time that the stream is waited for. */
static CUresult fault(void) {
  device_solve bad = good;
  bad.a_tril = kUnmapped;
  pega_error error = PEGA_ERROR_INIT;
  pega_status status = device_solve_call(&bad, FORM_RAW, NULL, &error);
  if (status != PEGA_OK && !gpu.fake) printf("the bad launch: %s\n", pega_error_message(&error));
  pega_error_clear(&error);
  return gpu.synchronize();
}

static void begin_part(void) {
  good = device_solve_create(65, 4, -0.1, 91, false);
  device_solve_launch(&good, FORM_RAW, NULL);
  GPU_OK(gpu.synchronize());
  device_solve_expect_right(&good, "before the fault");
}

static void part_sticky(void **state) {
  (void)state;
  begin_part();
  assert_int_equal(fault(), GPU_ILLEGAL_ADDRESS);

  /* The first call after it meets the error, whichever form. */
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_ERROR(device_solve_call(&good, FORM_RAW, NULL, &error), &error, PEGA_ERROR_DRIVER,
               PEGA_QWEN35_CHUNK_SOLVE_RAW, "CUDA_ERROR_ILLEGAL_ADDRESS");
  assert_int_equal(error.code, GPU_ILLEGAL_ADDRESS);
  /* From then on each fails at once, with the first code. */
  for (int form = 0; form < NUM_FORMS; ++form) {
    EXPECT_ERROR(device_solve_call(&good, (solve_form)form, NULL, &error), &error,
                 PEGA_ERROR_DRIVER, "cannot be used since", "CUDA_ERROR_ILLEGAL_ADDRESS",
                 "the last launch that went well was", "pega_cuda_close()");
    assert_int_equal(error.code, GPU_ILLEGAL_ADDRESS);
  }
  assert_int_equal(
      gated_delta_rule_prefill_chunk_solve_cuda((const float *)(uintptr_t)good.a_tril,
                                                (uint16_t *)(uintptr_t)good.a_inv, 65, 4, NULL),
      GPU_ILLEGAL_ADDRESS);
  pega_device_health_info health = {.struct_size = sizeof health};
  EXPECT_OK(pega_device_health(CUDA0, &health, &error), &error);
  assert_int_equal(health.code, GPU_ILLEGAL_ADDRESS);
  assert_string_equal(health.code_name, "CUDA_ERROR_ILLEGAL_ADDRESS");
  assert_string_equal(health.failed, PEGA_QWEN35_CHUNK_SOLVE_RAW);
  assert_string_equal(health.last_good, PEGA_QWEN35_CHUNK_SOLVE_RAW);
  printf("health: %d %s, met by %s; last good launch %s\n", health.code, health.code_name,
         health.failed, health.last_good);
  pega_error_clear(&error);
}

/* A driver may let a process start over once every use of the context is given back, or may go on
 * refusing it with the same code. Either is told truly. */
static void part_start_over(void **state) {
  (void)state;
  begin_part();
  assert_int_equal(fault(), GPU_ILLEGAL_ADDRESS);
  pega_error error = PEGA_ERROR_INIT;
  EXPECT_ERROR(device_solve_call(&good, FORM_RAW, NULL, &error), &error, PEGA_ERROR_DRIVER,
               "CUDA_ERROR_ILLEGAL_ADDRESS");
  /* The program gives back its own use of the context, then the library's goes. */
  gpu.context_set(NULL);
  gpu.primary_release(0);
  /* A driver may still complain of what it gives back; what counts is that it is given back. */
  pega_error_clear(&error);
  pega_status closed = pega_cuda_close(&error);
  printf("pega_cuda_close: %s %s\n", pega_status_name(closed), pega_error_message(&error));
  pega_device_health_info health = {.struct_size = sizeof health};
  EXPECT_OK(pega_device_health(CUDA0, &health, &error), &error);
  assert_int_equal(health.code, 0);
  CUcontext context;
  CUresult retained = gpu.primary_retain(&context, 0);
  printf("a new context in the same process: %s\n", gpu_result_name(retained));
  if (retained != 0) {
    assert_int_equal(retained, GPU_ILLEGAL_ADDRESS);
    EXPECT_ERROR(
        pega_function_prepare(fixture_function(PEGA_QWEN35_CHUNK_SOLVE_RAW), CUDA0, &error), &error,
        PEGA_ERROR_DRIVER, "cuDevicePrimaryCtxRetain", "CUDA_ERROR_ILLEGAL_ADDRESS");
    assert_int_equal(error.code, GPU_ILLEGAL_ADDRESS);
    EXPECT_OK(pega_device_health(CUDA0, &health, &error), &error);
    assert_int_equal(health.code, GPU_ILLEGAL_ADDRESS);
    pega_error_clear(&error);
    return;
  }
  GPU_OK(gpu.context_set(context));
  device_solve again = device_solve_create(65, 4, -0.1, 92, false);
  device_solve_launch(&again, FORM_RAW, NULL);
  GPU_OK(gpu.synchronize());
  device_solve_expect_right(&again, "after starting over");
  device_solve_free(&again);
}

static void part_fork(void **state) {
  (void)state;
  begin_part();
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    /* No test framework in the child: its status says which check failed. */
    pega_error error = PEGA_ERROR_INIT;
    for (int form = 0; form < NUM_FORMS; ++form) {
      pega_status status = device_solve_call(&good, (solve_form)form, NULL, &error);
      if (status != PEGA_ERROR_UNAVAILABLE) _exit(1 + form);
      if (strstr(pega_error_message(&error), "fork") == NULL) _exit(11 + form);
    }
    if (pega_function_prepare(fixture_function(PEGA_QWEN35_CHUNK_SOLVE_RAW), CUDA0, &error) !=
        PEGA_ERROR_UNAVAILABLE) {
      _exit(21);
    }
    _exit(0);
  }
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
  /* The parent goes on. */
  device_solve_poison(&good);
  device_solve_launch(&good, FORM_RAW, NULL);
  GPU_OK(gpu.synchronize());
  device_solve_expect_right(&good, "the parent of a fork");
}

static int bad_launch(void) {
  begin_part();
  CUresult result = fault();
  printf("a launch on an unmapped address: %s\n", gpu_result_name(result));
  return result == 0 ? 1 : 0;
}

static int run_part(const char *name) {
  const struct CMUnitTest parts[] = {
      cmocka_unit_test(part_sticky),
      cmocka_unit_test(part_start_over),
      cmocka_unit_test(part_fork),
  };
  for (int i = 0; i < COUNT(parts); ++i) {
    if (strcmp(parts[i].name, name) != 0) continue;
    const struct CMUnitTest tests[] = {parts[i]};
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
  }
  return 2;
}

static void spawn_part(const char *name) {
  char *arguments[] = {(char *)(uintptr_t) "/proc/self/exe", (char *)(uintptr_t)name, NULL};
  pid_t child;
  fflush(stdout);
  assert_int_equal(posix_spawn(&child, "/proc/self/exe", NULL, NULL, arguments, environ), 0);
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    print_error("%s: wait status 0x%x\n", name, (unsigned)status);
    fail();
  }
}

static void test_sticky_error(void **state) {
  (void)state;
  spawn_part("part_sticky");
}

static void test_start_over(void **state) {
  (void)state;
  spawn_part("part_start_over");
}

static void test_fork(void **state) {
  (void)state;
  spawn_part("part_fork");
}

int main(int argc, char **argv) {
  const int status = fixture_begin_solve();
  if (status != 0) return status;
  if (argc > 1) return strcmp(argv[1], "bad-launch") == 0 ? bad_launch() : run_part(argv[1]);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_sticky_error),
      cmocka_unit_test(test_start_over),
      cmocka_unit_test(test_fork),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
