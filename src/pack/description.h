/* SPDX-License-Identifier: Apache-2.0 */
/* What a pack says of its functions, as checked data: made by manifest.c, read by src/cuda. All of
 * it is immutable and lives as long as its pack. */
#ifndef PEGA_PACK_DESCRIPTION_H_
#define PEGA_PACK_DESCRIPTION_H_

#include "expression.h"
#include "pega/pack.h"

enum {
  kMaxKernelParams = 256,      /* of one kernel */
  kMaxKernelParamBytes = 4096, /* of all parameters together; 32764 on sm_70+ since CUDA 12.1 */
  kSha256Bytes = 32
};

/* Type of a kernel's parameter: what its bytes are. */
typedef enum pega_param_type {
  kParamPointer, /* 8 bytes, an address */
  kParamBool,    /* 1 byte, 0 or 1 */
  kParamI8,
  kParamI16,
  kParamI32,
  kParamI64,
  kParamU8,
  kParamU16,
  kParamU32,
  kParamU64,
  kParamF16,
  kParamBf16,
  kParamF32,
  kParamF64,
  /* CUtensorMap: 128 bytes, aligned to 64 in the constant bank. Its offset need not be a multiple of 64,
     as the first parameter is not at one (0x210 on 9.0): encode it into a place of its own. */
  kParamTensorMap
} pega_param_type;

/* Where the bytes come from. */
typedef enum pega_param_role {
  kRoleArgument,         /* `value`, from the call's arguments */
  kRoleTensorDescriptor, /* a CUtensorMap encoded from the tensor `argument` */
  kRoleGlobalScratch,    /* address of the launch's global scratch, NULL where its size is 0 */
  kRoleProfileScratch    /* the same for profiling */
} pega_param_role;

/* How a CUtensorMap is encoded from a tensor (the driver's cuTensorMapEncodeTiled). Dimensions are in
 * the tensor's order, outermost first. */
typedef struct pega_tensor_encoding {
  int32_t rank;         /* 1 to 5 */
  uint32_t block[5];    /* box, elements */
  int32_t swizzle;      /* CUtensorMapSwizzle: 0 none, 1 32B, 2 64B, 3 128B */
  int32_t elem_type;    /* CUtensorMapDataType */
  int32_t elem_size;    /* bytes */
  int32_t padding;      /* CUtensorMapFloatOOBfill: 0 zeros, 1 NaN */
  int32_t fp4_padded;   /* 0 or 1: 4-bit elements, unpacked to 8 bits in shared memory */
  int32_t interleave;   /* CUtensorMapInterleave, 0 */
  int32_t l2_promotion; /* CUtensorMapL2promotion */
} pega_tensor_encoding;

typedef struct pega_kernel_param {
  const char *name;
  uint8_t type;  /* a pega_param_type */
  uint8_t role;  /* a pega_param_role */
  uint16_t size; /* bytes */
  uint32_t offset;
  /* kRoleArgument: an integer expression (pointer, bool and integer types) or, for floating types,
     one number argument, `argument`. */
  pega_expression value;
  int32_t argument; /* index of the function's parameter, -1 where `value` says it all */
  const pega_tensor_encoding *encoding; /* kRoleTensorDescriptor, else NULL */
} pega_kernel_param;

typedef enum pega_blob_kind { kBlobCubin, kBlobPtx, kBlobData, kBlobFatbin } pega_blob_kind;

typedef struct pega_blob {
  unsigned char sha256[kSha256Bytes];
  char name[2 * kSha256Bytes + 1]; /* the digest in hexadecimal */
  uint64_t size;
  uint32_t kind; /* a pega_blob_kind */
} pega_blob;

/* Memory that a launch needs for each CTA of its grid. */
typedef struct pega_scratch {
  uint64_t size; /* bytes a CTA */
  uint32_t alignment;
} pega_scratch;

/* Which GPUs a target means. */
typedef struct pega_target {
  int32_t compute_capability; /* 90 */
  char suffix;                /* 0: also later minors; 'a': exactly it; 'f': its family */
  char name[15];              /* "sm_90a" */
} pega_target;

typedef struct pega_kernel_variant {
  pega_target target;
  int32_t blob; /* index in the pack */
  bool ptx;     /* the code is PTX: the blob, or what is taken out of a fatbin */
  const char *entry;
  const pega_expression *conditions; /* all must hold: not 0 */
  int32_t num_conditions;
  const pega_kernel_param *params;
  int32_t num_params;
  uint32_t param_bytes; /* end of the last parameter */
  pega_expression grid[3];
  uint32_t block[3];
  uint32_t cluster[3];    /* 1, 1, 1 for none */
  uint32_t shared;        /* dynamic, bytes */
  uint32_t static_shared; /* bytes */
  uint32_t registers;     /* a thread */
  uint32_t local_bytes;   /* a thread: spills and stack */
  bool pdl;               /* programmatic dependent launch */
  bool cooperative;
  pega_scratch global_scratch;
  pega_scratch profile_scratch;
} pega_kernel_variant;

/* How a golden tensor's memory begins, or what it must be in the end. */
typedef enum pega_golden_fill {
  kFillNone,
  kFillBlob,
  kFillUniform,
  kFillConstant
} pega_golden_fill;

typedef struct pega_golden_arg {
  uint32_t kind; /* PEGA_TENSOR (also memory behind a pointer), PEGA_INT, PEGA_FLOAT, PEGA_BOOL */
  union {
    int64_t i64;
    double f64;
  } as;
  DLDataType dtype;
  int32_t rank;
  int64_t shape[8];
  uint32_t fill; /* a pega_golden_fill */
  uint64_t seed; /* kFillUniform, with low and high; kFillConstant: low */
  double low, high;
  int32_t fill_blob;   /* index in the pack, -1 for none */
  int32_t expect_blob; /* index in the pack, -1 for none */
  double atol, rtol;   /* |got - expected| <= atol + rtol * |expected| */
} pega_golden_arg;

typedef struct pega_golden {
  const char *name;
  const pega_golden_arg *args; /* one for each parameter but streams, in order */
  int32_t num_args;
} pega_golden;

/* A dimension of what a pointer points at: a size, or the parameter that says it. */
typedef struct pega_pointee_dim {
  int64_t size;
  int32_t param; /* -1: `size` */
} pega_pointee_dim;

/* What a pointer points at; rank -1 where nothing is said. */
typedef struct pega_pointee {
  DLDataType dtype;
  int32_t rank;
  pega_pointee_dim dims[8];
} pega_pointee;

typedef struct pega_pack_function {
  const char *name;
  const char *doc;
  pega_signature signature;     /* as pega_function_create() takes it */
  const pega_pointee *pointees; /* one for each parameter */
  const pega_kernel_variant *variants;
  int32_t num_variants;
  const pega_golden *golden;
  int32_t num_golden;
} pega_pack_function;

/* --- what src/cuda asks of an open pack --- */

int32_t pega_pack_num_functions(const pega_pack *pack);
/* Functions are in the manifest's order. `pack` is a pega_pack. */
const char *pega_pack_function_name(const void *pack, size_t index);
/* A function, whose description is read and checked when it is first asked for; any thread. */
pega_status pega_pack_describe(pega_pack *pack, int32_t index, const pega_pack_function **out,
                               pega_error *error);
/* Its index, -1 for none; or PEGA_ERROR_NOT_FOUND, naming the nearest. */
int32_t pega_pack_index(const pega_pack *pack, const char *name);
pega_status pega_pack_find(pega_pack *pack, const char *name, int32_t *out, pega_error *error);

/* What was made of a function, with a reference more, or NULL; any thread. */
pega_function *pega_pack_made(pega_pack *pack, int32_t index);
/* Tells of it, borrowed; with NULL, that one has lost its last reference and goes once this returns.
 * What everybody gets: `made`, or, with a reference more, what another thread told of before. */
pega_function *pega_pack_set_made(pega_pack *pack, int32_t index, pega_function *made);

/* Where src/cuda keeps, under a lock of its own, what is to live as long as the pack: NULL at first. What
 * is there goes to `release` before the pack's memory goes. */
void **pega_pack_keep(pega_pack *pack, void (*release)(void *kept));

uint32_t pega_pack_flags(const pega_pack *pack);
const pega_blob *pega_pack_blob(const pega_pack *pack, int32_t index);

/* Bytes of a blob, hashed and compared with its name: the pack keeps them, read once, for as long as
 * it lives; any thread. */
pega_status pega_pack_blob_bytes(pega_pack *pack, int32_t index, const void **bytes, size_t *size,
                                 pega_error *error);

/* A variant's code after every check that needs no device: digest, and against the manifest for a cubin
 * its ELF, target, entry, parameter table, registers and shared memory, for PTX its target and entry. Of a
 * fatbin it is the one cubin or PTX for the variant's target. */
pega_status pega_pack_variant_bytes(pega_pack *pack, const pega_pack_function *function,
                                    const pega_kernel_variant *variant, const void **bytes,
                                    size_t *size, pega_error *error);

/* "sm_90", "sm_90a", "sm_100f"; false for anything else. */
bool pega_target_parse(const char *name, pega_target *out);

/* How well a variant's target fits a device of this compute capability: 0 does not run there, else
 * greater is better (exact with suffix, exact, family, same major and lower minor). `reason`, of
 * `capacity` bytes, receives why, for people. */
int pega_target_rank(const pega_target *target, int32_t compute_capability, char *reason,
                     size_t capacity);

/* The same for a whole variant: also refuses PTX that the pack's flags do not allow (PTX ranks
 * behind every cubin). */
int pega_variant_rank(const pega_pack *pack, const pega_kernel_variant *variant,
                      int32_t compute_capability, char *reason, size_t capacity);

#endif /* PEGA_PACK_DESCRIPTION_H_ */
