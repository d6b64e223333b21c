/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file pega/pack.h
 * \brief Kernel packs: compiled GPU kernels of any origin with what is needed to launch them.
 *
 * A pack is a manifest (JSON, docs/pack.schema.json) and blobs named by their SHA-256, as a folder
 * or as one file; docs/packs.md describes both. Opening needs no GPU, no driver and no compiler: of a
 * file an index is read, of a folder the manifest. A function's description is read, hashed and
 * checked when it is first asked for. A blob is read, hashed and compared with the description before
 * a driver sees it, from the one buffer that the driver is then given.
 *
 *     pega_pack_options options = PEGA_PACK_OPTIONS_INIT;
 *     options.path = "kernels.pegapack";
 *     pega_pack_open(&options, &pack, &error);
 *     pega_pack_get(pack, "scale", &scale, &error);
 *     pega_function_prepare(scale, (DLDevice){kDLCUDA, 0}, &error);
 *     pega_function_call(scale, args, 3, NULL, &error);
 *
 * Words, errors and threads are those of pega.h. Everything here is since 0.1.0.
 */
#ifndef PEGA_PACK_H_
#define PEGA_PACK_H_

#include "pega.h"

#ifdef __cplusplus
extern "C" {
#endif

/** \brief The schema_version of manifests that this library reads. */
#define PEGA_PACK_SCHEMA_VERSION 1

/** \brief An open pack; counted, immutable to who uses it, in any thread. */
typedef struct pega_pack pega_pack;

/** \brief Kernels that are PTX may be compiled by the driver when they are prepared. */
#define PEGA_PACK_ALLOW_PTX 1u
/** \brief `data` stays as it is for the rest of the process: it is used in place, not copied. */
#define PEGA_PACK_STATIC 2u

/** \brief What to open: either `path` or `data` is set. */
typedef struct pega_pack_options {
  uint32_t struct_size; /**< sizeof(pega_pack_options) */
  uint32_t flags;       /**< PEGA_PACK_* */
  const char *path;     /**< a pack's folder or file; borrowed */
  const void *data;     /**< bytes of a pack file; copied unless PEGA_PACK_STATIC */
  size_t size;          /**< bytes of `data` */
} pega_pack_options;

#define PEGA_PACK_OPTIONS_INIT \
  { (uint32_t)sizeof(pega_pack_options), 0, NULL, NULL, 0 }

/**
 * \brief Opens a pack; nothing is loaded on a device.
 *
 * Of a file the header and the index are read and checked, and nothing else: what a pack of 10,000
 * functions takes is the reading and hashing of their names. The file stays open (close-on-exec) as long
 * as the pack lives. What is read from it later is compared with digests of the index, so that a file
 * that changed or shrank meanwhile is an error then, never a wrong function. Of a folder the manifest is
 * read and checked whole, and each blob is read when it is first needed. Nothing is followed out of the
 * folder: no links, no names with slashes.
 * \param out Returns owned; give back with pega_pack_release().
 * \return PEGA_ERROR_FORMAT for bytes that are no pack (where and why is in the text),
 *         PEGA_ERROR_VERSION for another schema_version or container version, PEGA_ERROR_NOT_FOUND or
 *         PEGA_ERROR_IO for a path that cannot be read, PEGA_ERROR_RANGE for one past the limits of
 *         docs/packs.md.
 */
PEGA_API pega_status pega_pack_open(const pega_pack_options *options, pega_pack **out,
                                    pega_error *error);
/**
 * \brief The pack that the library was built with (PEGA_AOT), to be opened with PEGA_PACK_STATIC.
 * \param size Receives its bytes, 0 for none; may be NULL.
 * \return Static; NULL if the library was built with none.
 */
PEGA_API const void *pega_pack_embedded(size_t *size);
/** \brief Adds a reference and returns the pack. Takes NULL. */
PEGA_API pega_pack *pega_pack_retain(pega_pack *pack);
/** \brief Gives back a reference; functions of the pack hold their own. Takes NULL. */
PEGA_API void pega_pack_release(pega_pack *pack);

/** \brief Name of the pack, "" for NULL. Lives as long as the pack. */
PEGA_API const char *pega_pack_name(const pega_pack *pack);
/**
 * \brief The manifest's bytes, NUL-terminated, all of it read and checked: each description, and that
 *        a file's index says the same.
 * \param out Borrowed; lives as long as the pack. Not set on failure.
 * \param size Receives the bytes before the NUL; may be NULL.
 * \return PEGA_ERROR_FORMAT for a manifest that is damaged or wrong, PEGA_ERROR_IO if a file cannot be
 *         read any more.
 */
PEGA_API pega_status pega_pack_manifest(pega_pack *pack, const char **out, size_t *size,
                                        pega_error *error);
/** \brief Names of its functions, sorted, as an owned array of strings. */
PEGA_API pega_status pega_pack_list(const pega_pack *pack, pega_value *out, pega_error *error);

/**
 * \brief A function of the pack. Returns owned. Calls of one name share what they prepared, and get the
 *        same object while somebody has it. What was read and prepared stays as long as the pack, or any
 *        of its functions, is held.
 *
 * The first time reads its description: PEGA_ERROR_FORMAT for one that is damaged or wrong.
 * Its signature is the manifest's. A call launches on the device of its tensors and that device's
 * current stream (pega_stream_get()), or, for a function on pointers, on the stream that it is
 * given and the context current to the thread (else the device that the first pointer belongs to).
 * The launch is asynchronous; see pega/cuda.h for preparing, capture and health.
 * PEGA_ERROR_NOT_FOUND names the nearest.
 */
PEGA_API pega_status pega_pack_get(pega_pack *pack, const char *name, pega_function **out,
                                   pega_error *error);

/**
 * \brief Puts every function of the pack into the registry; all of them or none.
 *
 * A function is made, and its description read, when pega_registry_get() first asks for it: what is
 * wrong with a description is an error of that call, and the function stays registered.
 *
 * Where the library has a built-in function of the name that lacks its kernel, the pack's function
 * becomes that kernel: the built-in keeps its own checks and its place in the registry. Its description
 * is read now.
 * \param flags 0 or PEGA_REGISTER_OVERRIDE, as for pega_registry_add().
 * \return PEGA_ERROR_ALREADY_EXISTS for a name, or a built-in's kernel, that is taken;
 *         PEGA_ERROR_FORMAT for a built-in's kernel with another signature.
 */
PEGA_API pega_status pega_pack_register(pega_pack *pack, uint32_t flags, pega_error *error);

/**
 * \brief Checks all of a pack: the manifest as pega_pack_manifest() does, and every blob: its SHA-256,
 *        its target, its parameter table, its shared memory and registers, each against the manifest.
 *        Needs no GPU.
 *
 * A difference is PEGA_ERROR_FORMAT with both sides in the text. What a cubin does not say cannot be
 * compared: types and values of parameters, dynamic shared memory, grid, cluster, launch attributes
 * (pega_pack_test() proves those on a device). Of PTX the target and the entry are compared.
 */
PEGA_API pega_status pega_pack_verify(pega_pack *pack, pega_error *error);

/**
 * \brief Which variant of a function a target takes, and why not the others.
 *
 * \param target "sm_90", "sm_90a", or a device, "cuda:0", whose driver is then asked.
 * \param out An owned array, a map for each variant in the manifest's order: "index" (int), "target"
 *        (string), "entry" (string), "taken" (bool), "reason" (string).
 * \return PEGA_ERROR_NOT_FOUND for no such function, PEGA_ERROR_INVALID_ARGUMENT for no such target,
 *         errors of pega_device_query() for a device. No blob is looked at.
 */
PEGA_API pega_status pega_pack_explain(pega_pack *pack, const char *name, const char *target,
                                       pega_value *out, pega_error *error);

/**
 * \brief A pack's checked descriptions and its blobs as plain data, which `pega export` links into a
 *        module: nothing in it is parsed again.
 *
 * Checks the pack as pega_pack_verify() does. The data is for this version of the library and this
 * architecture. Golden cases are not in it, nor is PTX without PEGA_PACK_ALLOW_PTX.
 * \param functions Names of those to take; NULL with a count of 0 for all.
 * \param target Variants of this target alone, "sm_90a"; NULL for all. PEGA_ERROR_NOT_FOUND where a
 *        function has none.
 * \param out Owned map: "functions", their names in the data's order; "descriptions", bytes;
 *        "addresses", uint32 offsets in them of what is an offset and is to become an address;
 *        "blobs", bytes.
 */
PEGA_API pega_status pega_pack_image(pega_pack *pack, const char *const *functions,
                                     int32_t num_functions, const char *target, pega_value *out,
                                     pega_error *error);

/** \brief How one golden case went. Text is borrowed for the call. */
typedef struct pega_pack_test_result {
  const char *function; /**< its name */
  const char *golden;   /**< name of the case */
  const char *argument; /**< the output that was compared */
  int64_t elements;     /**< of that output */
  int64_t mismatches;   /**< elements out of tolerance */
  double max_error;     /**< largest |got - expected| */
  double tolerance;     /**< the manifest's absolute tolerance... */
  double relative; /**< ...and relative: |got - expected| <= tolerance + relative * |expected| */
} pega_pack_test_result;

/**
 * \brief Runs the golden cases of the pack on a device and compares each output.
 * \param report Called after each compared output, on the calling thread; may be NULL.
 * \return PEGA_OK if there was a case and all agreed; PEGA_ERROR_CALLEE (kind
 *         "AssertionError") naming the first that did not; PEGA_ERROR_NOT_FOUND if the pack has no
 *         case.
 */
PEGA_API pega_status pega_pack_test(pega_pack *pack, DLDevice device,
                                    void (*report)(void *user, const pega_pack_test_result *result),
                                    void *user, pega_error *error);

#ifdef __cplusplus
} /* extern "C" */
#endif
#endif /* PEGA_PACK_H_ */
