/* SPDX-License-Identifier: Apache-2.0 */
/* The driver's types as its ABI has them. Source of sizes and layouts: cuda.h of CUDA 13.0. */
#ifndef PEGA_FAKE_DRIVER_ABI_H_
#define PEGA_FAKE_DRIVER_ABI_H_

#include <stddef.h>
#include <stdint.h>

typedef int CUresult;
typedef int CUdevice;
typedef unsigned long long CUdeviceptr;
typedef struct fake_slot *CUcontext;
typedef struct fake_slot *CUmodule;
typedef struct fake_slot *CUfunction;
typedef struct fake_slot *CUstream;
typedef struct fake_slot *CUevent;
typedef struct fake_slot *CUgraph;
typedef struct fake_slot *CUgraphExec;
typedef struct fake_slot *CUgraphNode;

typedef struct CUuuid {
  unsigned char bytes[16];
} CUuuid;

/* The value is a union of 64 bytes; these are the members that the model reads. */
typedef union CUlaunchAttributeValue {
  char pad[64];
  int cooperative;
  struct {
    unsigned x, y, z;
  } clusterDim;
  int programmaticStreamSerializationAllowed;
  struct {
    CUevent event;
    int flags;
    int triggerAtBlockStart;
  } programmaticEvent;
} CUlaunchAttributeValue;

typedef struct CUlaunchAttribute {
  int id;
  char pad[4];
  CUlaunchAttributeValue value;
} CUlaunchAttribute;

typedef struct CUlaunchConfig {
  unsigned gridDimX, gridDimY, gridDimZ;
  unsigned blockDimX, blockDimY, blockDimZ;
  unsigned sharedMemBytes;
  CUstream hStream;
  CUlaunchAttribute *attrs;
  unsigned numAttrs;
} CUlaunchConfig;

/* Default streams by handle; NULL is the legacy one too. */
#define FAKE_STREAM_LEGACY ((CUstream)(uintptr_t)1)
#define FAKE_STREAM_PER_THREAD ((CUstream)(uintptr_t)2)

#endif /* PEGA_FAKE_DRIVER_ABI_H_ */
