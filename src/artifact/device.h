/* SPDX-License-Identifier: Apache-2.0 */
/* Makes a CUDA device's context current for a call of foreign code, which runs in whatever context is. */
#ifndef PEGA_ARTIFACT_DEVICE_H_
#define PEGA_ARTIFACT_DEVICE_H_

#include <stdint.h>

/* Looks the driver up. Without one the two below do nothing; it is looked for again, in the process alone, when
 * a device is to be entered. */
void pega_device_prepare(void);

/* What is current for a call, and what was before; NULL for none. */
typedef struct pega_device_entered {
  void *context;
  void *before;
} pega_device_entered;

/* If the current context is not one of device `ordinal`, makes the device's primary context current:
 * `entered->context` is it then, else NULL. The primary context is retained once and for good. Returns a
 * CUresult. */
int pega_device_enter(int32_t ordinal, pega_device_entered *entered);
/* Makes current what was before, whatever the foreign code has done. */
void pega_device_leave(const pega_device_entered *entered);

#endif /* PEGA_ARTIFACT_DEVICE_H_ */
