/* SPDX-License-Identifier: Apache-2.0 */
/* A launch that is asked for, on its way through the rules. */
#ifndef PEGA_FAKE_DRIVER_LAUNCH_H_
#define PEGA_FAKE_DRIVER_LAUNCH_H_

#include "fake.h"

typedef struct fake_request {
  uint32_t grid[3];
  uint32_t block[3];
  uint32_t cluster[3]; /* 0 for none */
  uint32_t shared_bytes;
  bool cooperative;
  bool programmatic;
  uint32_t num_attributes;
  const CUlaunchAttribute *attributes;
} fake_request;

/* Reads launch attributes into a request. */
CUresult fake_request_attributes(fake_request *request, const CUlaunchAttribute *attributes,
                                 uint32_t count);
/* The rules of shape, shared memory, registers, clusters and cooperation. */
CUresult fake_request_check(fake_request *request, fake_slot *function);
CUresult fake_request_launch(fake_request *request, fake_slot *function, CUstream stream,
                             void **params, void **extra, uint64_t sequence);
/* occupancy.c: blocks of a function that fit on one multiprocessor. */
uint64_t fake_occupancy(const fake_slot *function, uint32_t threads, uint32_t dynamic_shared);

#endif /* PEGA_FAKE_DRIVER_LAUNCH_H_ */
