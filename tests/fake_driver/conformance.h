/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions to whatever libcuda.so.1 is found. A real driver gave the answers: CUDA 13.0 on a
 * GPU of compute capability 9.0. An answer that is not the expected one is printed.
 */
#ifndef PEGA_TESTS_FAKE_DRIVER_CONFORMANCE_H_
#define PEGA_TESTS_FAKE_DRIVER_CONFORMANCE_H_

#include "driver.h"

#define CHECK(expected, ...) check(__LINE__, #__VA_ARGS__, (long)(expected), (long)(__VA_ARGS__))
#define ERROR(name) FAKE_CUDA_ERROR_##name

extern int failures;
extern const char kPtx[];
extern CUcontext context; /* the primary one of device 0, current */
extern CUmodule module;   /* of kPtx */
extern CUfunction empty;
extern CUstream blocking;
extern CUstream free_running; /* does not block */

void check(int line, const char *what, long expected, long got);
CUfunction function(const char *name);
CUresult launch(CUfunction it, unsigned grid, unsigned block, unsigned shared, CUstream stream);

void check_modules(void);
void check_attributes(void);
void check_launches(void);
void check_other_context(void);
void check_memory(void);
void check_streams_and_events(void);
void check_capture(void);
void check_tensor_maps(void);

#endif /* PEGA_TESTS_FAKE_DRIVER_CONFORMANCE_H_ */
