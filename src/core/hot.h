/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PEGA_CORE_HOT_H_
#define PEGA_CORE_HOT_H_

/* Functions on the way of a launch stand side by side in the library: between two launches the driver has
 * had the instruction cache for itself, and what is on one page is fetched together. */
#define PEGA_HOT __attribute__((hot))

#endif /* PEGA_CORE_HOT_H_ */
