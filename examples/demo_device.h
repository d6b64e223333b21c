/* SPDX-License-Identifier: Apache-2.0 */
/* Memory where the demo's tensors live: this machine's, or a GPU's by way of the CUDA driver. */
#ifndef PEGA_EXAMPLES_DEMO_DEVICE_H_
#define PEGA_EXAMPLES_DEMO_DEVICE_H_

#include <pega/pega.h>

struct demo_device {
  DLDevice device;
  void *driver;                                               /* libcuda.so.1, NULL on the CPU */
  int (*allocate)(uint64_t *out, size_t bytes);               /* cuMemAlloc */
  int (*release)(uint64_t memory);                            /* cuMemFree */
  int (*copy_in)(uint64_t to, const void *from, size_t size); /* cuMemcpyHtoD */
  int (*copy_out)(void *to, uint64_t from, size_t size);      /* cuMemcpyDtoH */
  int (*synchronize)(void);                                   /* cuCtxSynchronize */
};

/** The CPU. */
struct demo_device demo_cpu(void);
/** The first GPU, its primary context current; false where there is none. */
bool demo_gpu(struct demo_device *out);

/** Memory of `size` bytes that begins as `from`, or as it comes where that is NULL; NULL: none left. */
void *demo_device_copy(const struct demo_device *where, const void *from, size_t size);
void demo_device_free(const struct demo_device *where, void *memory);
/** Waits for the device and copies from it. */
bool demo_device_read(const struct demo_device *where, void *to, const void *memory, size_t size);
void demo_device_wait(const struct demo_device *where);

#endif /* PEGA_EXAMPLES_DEMO_DEVICE_H_ */
