/* SPDX-License-Identifier: Apache-2.0 */
/* Memory, pointers, streams and events. */
#include "conformance.h"

void check_memory(void) {
  CUdeviceptr it = 0;
  unsigned char host[64];
  size_t available = 0;
  size_t total = 0;
  int number = 0;
  CUdeviceptr start = 0;
  CHECK(ERROR(INVALID_VALUE), cu.cuMemAlloc_v2(&it, 0));
  CHECK(ERROR(INVALID_VALUE), cu.cuMemAlloc_v2(NULL, 4));
  CHECK(ERROR(OUT_OF_MEMORY), cu.cuMemAlloc_v2(&it, (size_t)1 << 50));
  CHECK(0, cu.cuMemFree_v2(0));
  CHECK(ERROR(INVALID_VALUE), cu.cuMemFree_v2(12345));
  CHECK(0, cu.cuMemAlloc_v2(&it, 64));
  CHECK(0, it % 256);
  CHECK(0, cu.cuMemsetD8_v2(it, 0x5a, 64));
  CHECK(0, cu.cuMemcpyDtoH_v2(host, it, 64));
  CHECK(0x5a, host[63]);
  host[0] = 1;
  CHECK(0, cu.cuMemcpyHtoD_v2(it, host, 64));
  CHECK(0, cu.cuMemcpyHtoD_v2(it, host, 0));
  CHECK(0, cu.cuPointerGetAttribute(&number, FAKE_CU_POINTER_ATTRIBUTE_MEMORY_TYPE, it + 8));
  CHECK(FAKE_CU_MEMORYTYPE_DEVICE, number);
  CHECK(0, cu.cuPointerGetAttribute(&number, FAKE_CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, it));
  CHECK(0, number);
  CHECK(0, cu.cuPointerGetAttribute(&start, FAKE_CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, it + 8));
  CHECK(1, start == it);
  CHECK(ERROR(INVALID_VALUE),
        cu.cuPointerGetAttribute(&number, FAKE_CU_POINTER_ATTRIBUTE_MEMORY_TYPE, (uintptr_t)host));
  CHECK(ERROR(INVALID_VALUE), cu.cuPointerGetAttribute(&number, 12345, it));
  int asked[] = {FAKE_CU_POINTER_ATTRIBUTE_MEMORY_TYPE, FAKE_CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL};
  int type = 99;
  int ordinal = 99;
  void *out[] = {&type, &ordinal};
  CHECK(0, cu.cuPointerGetAttributes(2, asked, out, it));
  CHECK(2, type);
  CHECK(0, ordinal);
  CHECK(0, cu.cuPointerGetAttributes(2, asked, out, (uintptr_t)host));
  CHECK(0, type);
  CHECK(-2, ordinal);
  CHECK(0, cu.cuMemGetInfo_v2(&available, &total));
  CHECK(1, available < total);
  CHECK(0, cu.cuMemFree_v2(it));
  CHECK(ERROR(INVALID_VALUE), cu.cuMemFree_v2(it));
  CHECK(0, cu.cuMemAllocAsync(&it, 64, free_running));
  CHECK(0, cu.cuMemFreeAsync(it, free_running));
}

void check_streams_and_events(void) {
  CUstream stream = NULL;
  CUevent first = NULL;
  CUevent second = NULL;
  float milliseconds = -1;
  int device = -1;
  int status = -1;
  CHECK(ERROR(INVALID_VALUE), cu.cuStreamCreate(&stream, 2));
  CHECK(ERROR(INVALID_VALUE), cu.cuStreamCreate(NULL, 0));
  CHECK(0, cu.cuStreamCreate(&stream, 1));
  CHECK(0, cu.cuStreamIsCapturing(stream, &status));
  CHECK(0, status);
  if (cu.cuStreamGetDevice != NULL) CHECK(0, cu.cuStreamGetDevice(stream, &device));
  CHECK(0, cu.cuStreamSynchronize(stream));
  CHECK(0, cu.cuStreamQuery(stream));
  CHECK(0, cu.cuStreamDestroy_v2(stream));
  CHECK(ERROR(INVALID_HANDLE), cu.cuStreamDestroy_v2(NULL));
  CHECK(ERROR(INVALID_VALUE), cu.cuEventCreate(&first, 64));
  CHECK(0, cu.cuEventCreate(&first, 0));
  CHECK(0, cu.cuEventCreate(&second, 0));
  CHECK(0, cu.cuEventSynchronize(first));
  CHECK(ERROR(INVALID_HANDLE), cu.cuEventElapsedTime(&milliseconds, first, second));
  CHECK(0, cu.cuEventRecord(first, blocking));
  CHECK(0, cu.cuEventRecord(second, blocking));
  CHECK(0, cu.cuEventSynchronize(second));
  CHECK(0, cu.cuEventElapsedTime(&milliseconds, first, second));
  CHECK(1, milliseconds >= 0);
  CHECK(0, cu.cuEventDestroy_v2(first));
  CHECK(0, cu.cuEventDestroy_v2(second));
}
