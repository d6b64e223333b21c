/* SPDX-License-Identifier: Apache-2.0 */
/* What `pega export` puts around a pack's kernels: one module, in a shared library of its own. All of it
 * is hidden there, but for the module's own __tvm_ffi_* symbols. */
#ifndef PEGA_MODULE_MODULE_H_
#define PEGA_MODULE_MODULE_H_

#include <stdatomic.h>

#include "pack/image.h"
#include "runtime.h"

/* src/cli/cmd_export.c writes one, by the name of pega_this_module, and says the same of it. */
typedef struct pega_module_parts {
  unsigned char *image;      /* descriptions; offsets become addresses when it is first used */
  const uint32_t *addresses; /* offsets in the image of what is an offset */
  uint64_t num_addresses;
  unsigned char *blobs;
  _Atomic(void *) *functions; /* one for each, NULL until it is first called */
  uint32_t flags;             /* PEGA_PACK_ALLOW_PTX or 0 */
} pega_module_parts;

extern const pega_module_parts pega_this_module;

/* The module's pack, made of its data when it is first asked for. */
pega_status pega_module_pack(pega_pack **out, pega_error *error);

/* TVM FFI's functions, bound by the dynamic loader. */
extern pega_tvm_ffi pega_module_runtime;

/* What the module's symbols call: function `index`, its metadata, its doc. */
int pega_module_call(int32_t index, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result);
int pega_module_metadata(int32_t index, TVMFFIAny *result);
int pega_module_doc(int32_t index, TVMFFIAny *result);

#endif /* PEGA_MODULE_MODULE_H_ */
