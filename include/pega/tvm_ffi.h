/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file pega/tvm_ffi.h
 * \brief libpega_tvm_ffi: the bridge between pega functions and Apache TVM FFI, both ways.
 *
 * The bridge opens libtvm_ffi.so at run time and uses its stable C API alone. It is a library of
 * its own: an engine that does not link it knows nothing of TVM FFI.
 *
 * Words (borrowed, takes, returns owned, counted), errors and threads are those of pega/pega.h.
 *
 * ## What becomes of a value
 * | pega | TVM FFI argument | TVM FFI result or callback argument becomes |
 * |---|---|---|
 * | none, bool, float, pointer, dtype, device | the same | the same |
 * | int | int64 | int |
 * | uint | int64; past it a big integer where the runtime has them, else RANGE | int; past it uint |
 * | string, bytes | small or counted string, bytes | counted string, bytes (copied) |
 * | uncounted tensor | DLTensor * | uncounted tensor (callback argument) |
 * | counted tensor | Tensor object, the same one if it came from TVM FFI | counted tensor |
 * | function | Function object, the same one if it came from TVM FFI | function |
 * | array | Array, copied item by item | array (of an Array, List or Shape) |
 * | map | Map, copied item by item | map (of a Map or Dict) |
 * | object | the same object | object (Module, Error, any other type) |
 *
 * A pega function that comes back is a new function around TVM FFI's, without its signature.
 *
 * ## Errors
 * A TVM FFI error arrives as PEGA_ERROR_CALLEE with its kind, message, traceback and cause. A pega
 * error leaves as a TVM FFI error of the same kind; if it came from TVM FFI unchanged it leaves as
 * the very same object, its traceback longer by the functions it passed unless somebody else holds
 * the object too.
 *
 * ## Threads
 * Calls take no lock. TVM FFI's table of global functions is not guarded by TVM FFI itself: the
 * functions below that read or change it exclude each other, but not foreign code that does so.
 */
#ifndef PEGA_TVM_FFI_H_
#define PEGA_TVM_FFI_H_

#include "pega.h"

#ifdef __cplusplus
extern "C" {
#endif

/** \brief A TVM FFI runtime library that is open in this process. */
typedef struct pega_tvm_ffi pega_tvm_ffi;

/** \brief Environment variable that names the runtime library; ignored with raised privileges. */
#define PEGA_TVM_FFI_LIBRARY_ENV "PEGA_TVM_FFI_LIBRARY"

/** \brief Where a runtime library was found. Numbers are pinned. */
typedef enum pega_tvm_ffi_source {
  PEGA_TVM_FFI_EXPLICIT = 1,    /**< pega_tvm_ffi_options.library_path */
  PEGA_TVM_FFI_ENVIRONMENT = 2, /**< PEGA_TVM_FFI_LIBRARY */
  PEGA_TVM_FFI_PROCESS = 3,     /**< a copy that was already in the process */
  PEGA_TVM_FFI_BUILD = 4,       /**< the copy that the bridge was built with */
  PEGA_TVM_FFI_SYSTEM = 5,      /**< the dynamic loader's search for libtvm_ffi.so */
  PEGA_TVM_FFI_FOLDER = 6       /**< a folder that was given with an artifact */
} pega_tvm_ffi_source;

/** \brief How to open a runtime. */
typedef struct pega_tvm_ffi_options {
  uint32_t struct_size;     /**< sizeof(pega_tvm_ffi_options) */
  uint32_t flags;           /**< 0 */
  const char *library_path; /**< the library to open and no other; NULL to search */
} pega_tvm_ffi_options;

#define PEGA_TVM_FFI_OPTIONS_INIT \
  { (uint32_t)sizeof(pega_tvm_ffi_options), 0, NULL }

/**
 * \brief Finds, opens and checks a TVM FFI runtime.
 *
 * Order: library_path, then $PEGA_TVM_FFI_LIBRARY, then a copy in the process, then the build's,
 * then the system's. The first two are choices: if one is set and fails, nothing else is tried. A
 * library is taken if it reports a version from 0.1.0 up to, not including, 0.2.0 and has every
 * symbol that the bridge needs. A second copy beside one that is in the process is refused: the
 * two would not see each other's functions. On failure the text lists each path that was tried and
 * why it failed.
 *
 * A library that installs a SIGSEGV handler when it is loaded (libtvm_ffi.so does) has it taken out
 * again: the host's own is in force afterwards. The library stays in the process for good.
 *
 * \param options NULL for the default.
 * \param out Returns owned; give back with pega_tvm_ffi_close(). Opening the same library again
 *        returns the same runtime.
 */
PEGA_API pega_status pega_tvm_ffi_open(const pega_tvm_ffi_options *options, pega_tvm_ffi **out,
                                       pega_error *error);
/**
 * \brief Gives back a runtime. Takes NULL.
 *
 * The library stays in the process, so in this version nothing is freed; what came from the runtime
 * stays valid.
 */
PEGA_API void pega_tvm_ffi_close(pega_tvm_ffi *runtime);

/** \brief What a runtime is. Text lives as long as the process. */
typedef struct pega_tvm_ffi_info {
  uint32_t struct_size; /**< in: sizeof(pega_tvm_ffi_info) */
  uint32_t source;      /**< a pega_tvm_ffi_source */
  uint32_t major;       /**< version that the library reports */
  uint32_t minor;
  uint32_t patch;
  uint32_t num_copies;       /**< TVM FFI libraries in the process now; 1 is healthy */
  const char *path;          /**< the file */
  const char *wheel_version; /**< version of the Python wheel that the file lies in, or "" */
  const char *other_copy;    /**< path of another copy in the process, or "" */
} pega_tvm_ffi_info;

/** \brief Describes a runtime. */
PEGA_API pega_status pega_tvm_ffi_describe(pega_tvm_ffi *runtime, pega_tvm_ffi_info *info,
                                           pega_error *error);

/**
 * \brief Does what pega_tvm_ffi_open() does and tells how it went: a line of text for each place
 *        that was looked at, with why it was refused or taken, in an owned string.
 *
 * Succeeds whether or not a runtime was found; one that was found is open afterwards.
 */
PEGA_API pega_status pega_tvm_ffi_search_report(const pega_tvm_ffi_options *options,
                                                pega_value *out, pega_error *error);

/**
 * \brief Adds the loader of TVM FFI modules to pega_artifact_open() (pega/artifact.h), for the rest of the
 *        process. Opens no runtime: the first module that is opened does, unless one is open already.
 *        pega_tvm_ffi_open() does this, too.
 *
 * That runtime is found as pega_tvm_ffi_open() finds it, but that after a copy in the process, and before
 * the build's, libtvm_ffi.so is looked for in the folders that were given with the artifact
 * (pega_artifact_options.search_paths). One that is there is a choice: if it fails, nothing else is tried.
 * \param options The runtime to open then; NULL for the default. Copied. Another library_path than an
 *        earlier call's is PEGA_ERROR_ALREADY_EXISTS.
 */
PEGA_API pega_status pega_tvm_ffi_add_loader(const pega_tvm_ffi_options *options,
                                             pega_error *error);

/* ------------------------------------------------------------------------ engine -> TVM FFI -- */

/** \brief A loaded TVM FFI module. Counted through open and close. */
typedef struct pega_tvm_ffi_module pega_tvm_ffi_module;

/**
 * \brief Opens an artifact: a shared library that exports `__tvm_ffi_<name>` symbols.
 *
 * Before any of its code runs the file is read: a file that is no ELF shared library, is for
 * another architecture, or holds a binary for which no loader is registered is refused with what it
 * needs. Functions got from the module keep it alive.
 */
PEGA_API pega_status pega_tvm_ffi_module_open(pega_tvm_ffi *runtime, const char *path,
                                              pega_tvm_ffi_module **out, pega_error *error);
/** \brief Gives back a module. Takes NULL. */
PEGA_API void pega_tvm_ffi_module_close(pega_tvm_ffi_module *module);
/** \brief Names of the functions that the module itself exports, sorted, as an owned array. */
PEGA_API pega_status pega_tvm_ffi_module_list(pega_tvm_ffi_module *module, pega_value *out,
                                              pega_error *error);
/** \brief A function of the module or its imports. Returns owned. NOT_FOUND lists what it has. */
PEGA_API pega_status pega_tvm_ffi_module_get(pega_tvm_ffi_module *module, const char *name,
                                             pega_function **out, pega_error *error);
/**
 * \brief Loads a library that artifacts need beside the runtime (say libtvm_runtime.so) so that its
 *        symbols and loaders are there when they are opened. It stays in the process.
 */
PEGA_API pega_status pega_tvm_ffi_load_library(pega_tvm_ffi *runtime, const char *path,
                                               pega_error *error);

/** \brief A TVM FFI global function. Returns owned. NOT_FOUND names the nearest. */
PEGA_API pega_status pega_tvm_ffi_get_global(pega_tvm_ffi *runtime, const char *name,
                                             pega_function **out, pega_error *error);
/** \brief Names of all TVM FFI global functions, sorted, as an owned array. */
PEGA_API pega_status pega_tvm_ffi_list_globals(pega_tvm_ffi *runtime, pega_value *out,
                                               pega_error *error);

/* ------------------------------------------------------------------------ TVM FFI -> engine -- */

/**
 * \brief Registers a pega function as a TVM FFI global, with its doc and signature as metadata.
 * \param name The global's name; NULL for the function's own.
 * \param flags PEGA_REGISTER_OVERRIDE to replace a global of that name, else it is
 *        PEGA_ERROR_ALREADY_EXISTS. Whoever holds the old one keeps it.
 */
PEGA_API pega_status pega_tvm_ffi_export(pega_tvm_ffi *runtime, const char *name,
                                         pega_function *function, uint32_t flags,
                                         pega_error *error);
/**
 * \brief Registers every function of the registry. Names that are taken are left alone without
 *        PEGA_REGISTER_OVERRIDE.
 * \param out Owned array of the names that were registered; may be NULL.
 */
PEGA_API pega_status pega_tvm_ffi_export_all(pega_tvm_ffi *runtime, uint32_t flags, pega_value *out,
                                             pega_error *error);
/** \brief Removes a TVM FFI global, whoever registered it. Holders keep the function. */
PEGA_API pega_status pega_tvm_ffi_remove_global(pega_tvm_ffi *runtime, const char *name,
                                                pega_error *error);

/* ---------------------------------------------------------------------------------- handles -- */

/** \brief A pega function around a TVMFFIObjectHandle of a Function, which it retains. */
PEGA_API pega_status pega_tvm_ffi_function_from_handle(pega_tvm_ffi *runtime, void *handle,
                                                       const char *name, pega_function **out,
                                                       pega_error *error);
/**
 * \brief A TVMFFIObjectHandle of a Function for a pega function. Returns owned
 *        (TVMFFIObjectDecRef).
 */
PEGA_API pega_status pega_tvm_ffi_function_to_handle(pega_tvm_ffi *runtime, pega_function *function,
                                                     void **handle, pega_error *error);
/** \brief Address of a symbol of the runtime library, for hosts that use its C API themselves. */
PEGA_API pega_status pega_tvm_ffi_symbol(pega_tvm_ffi *runtime, const char *name, void **out,
                                         pega_error *error);

#ifdef __cplusplus
} /* extern "C" */
#endif
#endif /* PEGA_TVM_FFI_H_ */
