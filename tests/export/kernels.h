/* SPDX-License-Identifier: Apache-2.0 */
/* The pack that the tests export, and the names of what is in it. */
#ifndef PEGA_TESTS_EXPORT_KERNELS_H_
#define PEGA_TESTS_EXPORT_KERNELS_H_

#include "../cuda/packs.h"

#define KERNELS_SCALE "t.scale"      /* on pointers, with a stream */
#define KERNELS_ADD "t.add"          /* on tensors, the last one optional, on the current stream */
#define KERNELS_SCRATCH "t.scratch"  /* on pointers, with global scratch */
#define KERNELS_MAP "t.map"          /* on a tensor that becomes a tensor map */
#define KERNELS_ODD "t.odd-name/1:x" /* no identifier in any language */

bytes kernels_make(void);

#endif /* PEGA_TESTS_EXPORT_KERNELS_H_ */
