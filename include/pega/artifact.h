/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file pega/artifact.h
 * \brief libpega_artifact: opens what a DSL's compiler made, whatever it is, and tells beforehand what
 *        that needs.
 *
 * An artifact is a kernel pack, a shared library with a C interface and a signature file beside it
 * (docs/artifacts.md), or a module of a format whose loader was added (pega/tvm_ffi.h adds one).
 *
 *     pega_artifact_options options = PEGA_ARTIFACT_OPTIONS_INIT;
 *     options.path = "kernels.so";
 *     pega_artifact_open(&options, &artifact, &error);
 *     pega_artifact_get(artifact, "rms_norm", &rms_norm, &error);
 *     pega_function_call(rms_norm, args, 5, NULL, &error);
 *
 * A file is read before any code of it runs. What it needs (libraries, symbols, versions of symbols,
 * runtime loaders) is looked for in the process, in the folders that are given, and where the dynamic
 * loader looks; if a piece is missing nothing at all is loaded and the text names it.
 *
 * A shared library stays in the process once it is loaded: what it returned may be released at any time.
 *
 * ## Calls into foreign code
 * A call of an artifact's function comes back whatever the foreign code does, short of ending the process:
 * a C++ exception (or any other that unwinds the stack) is PEGA_ERROR_CALLEE with its type in the text. If
 * the artifact uses CUDA, or the driver is in the process when it is opened, the context that is current on
 * the thread is the same after the call as before it: what the code left current is taken off again, and the call is PEGA_ERROR_CALLEE with kind
 * "ContextError" (or succeeds, with PEGA_ARTIFACT_RESTORE_CONTEXT). A context that becomes current where
 * none was (CUDA's runtime library does so) is taken off and is no error. Each text names the artifact.
 *
 * Words (borrowed, takes, returns owned, counted), errors and threads are those of pega/pega.h. Every
 * function may be called from any thread. Everything here is since 0.1.0.
 */
#ifndef PEGA_ARTIFACT_H_
#define PEGA_ARTIFACT_H_

#include "pega.h"

#ifdef __cplusplus
extern "C" {
#endif

/** \brief An open artifact; counted. */
typedef struct pega_artifact pega_artifact;

/** \brief A call that leaves another CUDA context current is no error: the caller's is restored. */
#define PEGA_ARTIFACT_RESTORE_CONTEXT 1u
/** \brief Kernels of a pack that are PTX may be compiled by the driver. */
#define PEGA_ARTIFACT_ALLOW_PTX 2u

/** \brief What to open, and where what it needs may be. All pointers are borrowed for the call. */
typedef struct pega_artifact_options {
  uint32_t struct_size;            /**< sizeof(pega_artifact_options) */
  uint32_t flags;                  /**< PEGA_ARTIFACT_* */
  const char *path;                /**< file, or folder of a pack */
  const char *signature_path;      /**< signature file of a C library; NULL: `path` + ".json" */
  const char *const *search_paths; /**< folders, looked in first and in this order */
  int32_t num_search_paths;        /**< of `search_paths` */
} pega_artifact_options;

#define PEGA_ARTIFACT_OPTIONS_INIT \
  { (uint32_t)sizeof(pega_artifact_options), 0, NULL, NULL, NULL, 0 }

/**
 * \brief Reads a file and tells what it is and what it needs. Runs none of its code, opens no driver.
 *
 * \param options As for pega_artifact_open().
 * \param out An owned map. Keys (absent where they make no sense for the file):
 *  - "path" (string), "format" (string: "pack", "C library", "cubin", "fatbin", "PTX",
 *    "object file", "shared library", "program", or a loader's name), "size" (int, bytes), "architecture" (string);
 *  - "functions": array of strings, what pega_artifact_get() would find;
 *  - "exports": array of strings, all defined dynamic symbols;
 *  - "libraries": array of maps "name" (string), "found" (string: path, or "" if it is nowhere),
 *    "where" (string: "process", "given folder", "file", "system", "" if it is nowhere, "not looked for" of a file that no process here could load), "wanted_by" (string:
 *    path of the file that needs it, or who else does), "direct" (bool: the file itself names it);
 *  - "symbols": array of maps "name", "version" (strings; version may be ""), "library" (string: who
 *    provides it, "" if nobody), "weak" (bool): undefined dynamic symbols;
 *  - "loaders": array of maps "name" (string), "found" (bool): runtime loaders that an embedded binary names, and
 *    whether they are registered already; what is to register them is among "libraries";
 *  - "kernels": array of maps "kind" ("cubin", "ptx"; "fatbin" for what else a fatbin holds), "target"
 *    (string, as "sm_90a"), "offset" (int, not of a pack), "size" (int), "fatbin" (bool: it is part of one),
 *    "compressed" (bool), "entries" (array of strings: kernels; empty where they cannot be read, as in
 *    compressed code): embedded GPU code;
 *  - "looked_for": bool, whether libraries and symbols were: not for a file that no process here could load;
 *  - "requires": array of strings, what the file asks for besides, as "CUDA driver 13.0" or later: not looked
 *    for here, but by pega_artifact_open(), which refuses the file without it;
 *  - "kernels_cut_off": true (bool) if the file is made so that the search for embedded GPU code was given up:
 *    there may be more than "kernels" has;
 *  - "missing": array of strings, each a sentence naming what pega_artifact_open() would refuse the file
 *    for, what was wanted and what was found. Empty: nothing is missing that files and the process tell of.
 * \return PEGA_ERROR_FORMAT for a file that is none of these (cut off, damaged), PEGA_ERROR_NOT_FOUND or
 *         PEGA_ERROR_IO for one that cannot be read. What is missing is no error here.
 */
PEGA_API pega_status pega_artifact_inspect(const pega_artifact_options *options, pega_value *out,
                                           pega_error *error);

/**
 * \brief Opens an artifact.
 *
 * \param out Returns owned; give back with pega_artifact_release().
 * \return Errors of pega_artifact_inspect(); PEGA_ERROR_VERSION, PEGA_ERROR_SYMBOL, PEGA_ERROR_NOT_FOUND or
 *         PEGA_ERROR_FORMAT for a file that cannot work here, with what is missing; nothing was loaded then.
 *         PEGA_ERROR_CALLEE for one whose constructors throw, or leave another CUDA context current (as for
 *         calls; that stays loaded).
 */
PEGA_API pega_status pega_artifact_open(const pega_artifact_options *options, pega_artifact **out,
                                        pega_error *error);
/** \brief Adds a reference and returns the artifact. Takes NULL. */
PEGA_API pega_artifact *pega_artifact_retain(pega_artifact *artifact);
/** \brief Gives back a reference; functions hold their own. Takes NULL. */
PEGA_API void pega_artifact_release(pega_artifact *artifact);
/** \brief The file as it was opened, a full path. Lives as long as the artifact. */
PEGA_API const char *pega_artifact_path(const pega_artifact *artifact);
/** \brief "pack", "C library" or the loader's name. Lives as long as the artifact. */
PEGA_API const char *pega_artifact_format(const pega_artifact *artifact);
/** \brief Names of its functions, sorted, as an owned array of strings. */
PEGA_API pega_status pega_artifact_list(pega_artifact *artifact, pega_value *out,
                                        pega_error *error);
/** \brief A function of the artifact. Returns owned. PEGA_ERROR_NOT_FOUND names the nearest. */
PEGA_API pega_status pega_artifact_get(pega_artifact *artifact, const char *name,
                                       pega_function **out, pega_error *error);
/**
 * \brief Puts every function into the registry as `prefix` + its name; all of them or none.
 * \param prefix NULL for none.
 * \param flags 0 or PEGA_REGISTER_OVERRIDE, as for pega_registry_add().
 * \return PEGA_ERROR_ALREADY_EXISTS names the function and this artifact.
 */
PEGA_API pega_status pega_artifact_register(pega_artifact *artifact, const char *prefix,
                                            uint32_t flags, pega_error *error);

/* -------------------------------------------------------------------------------- loaders -- */

/** \brief What a loader is shown of a file. Borrowed for the call. */
typedef struct pega_artifact_file {
  uint32_t struct_size;         /**< sizeof(pega_artifact_file), of the library */
  int32_t num_exports;          /**< of `exports` */
  const char *path;             /**< full path */
  const char *const *exports;   /**< defined dynamic symbols */
  const char *const *undefined; /**< undefined dynamic symbols */
  int32_t num_undefined;        /**< of `undefined` */
  uint32_t flags;               /**< 0 */
  /**
   * \brief Bytes of the file that hold symbol `name`, from its address to the end of its segment's bytes
   *        in the file; NULL if it is not defined. Live as long as the call.
   */
  const void *(*symbol_bytes)(const struct pega_artifact_file *file, const char *name,
                              size_t *size);
  const void *self;                /**< the library's own */
  const char *const *search_paths; /**< folders that were given to look in */
  int32_t num_search_paths;        /**< of `search_paths` */
  uint32_t reserved;               /**< 0 */
} pega_artifact_file;

/** \brief A loader of one format of shared libraries. */
typedef struct pega_artifact_loader {
  uint32_t struct_size; /**< sizeof(pega_artifact_loader) */
  uint32_t flags;       /**< 0 */
  const char *name;     /**< the format's name; lives as long as the process */
  void *self;           /**< first argument of what follows */
  /** \brief Whether the file is of this format, from what is in it. Runs no code of it. */
  bool (*recognises)(void *self, const pega_artifact_file *file);
  /**
   * \brief Adds what only this loader knows to a description; may be NULL. Returns an owned map with
   *        "functions", "loaders" and "missing" as in pega_artifact_inspect(), "libraries" (array of
   *        strings: names or full paths of what is to be loaded before the file, beyond the file's own
   *        list), "wanted_by" (string: why, as "the format 'X'"), "advice" (string: how other ones than
   *        these are chosen; ends the text where one of them does not fit) and "uses_cuda" (bool); each may
   *        be absent. What it returns an error for can be neither inspected nor opened.
   */
  pega_status (*inspect)(void *self, const pega_artifact_file *file, pega_value *out,
                         pega_error *error);
  /**
   * \brief Loads a file that was found to lack nothing; `libraries` are full paths of what the loader is
   *        to load before it, in this order (what is in the process already, or what the dynamic loader
   *        finds on its own, is not among them).
   * \param out Receives what `list`, `get` and `close` are called with; not NULL.
   */
  pega_status (*open)(void *self, const pega_artifact_file *file, const char *const *libraries,
                      int32_t num_libraries, void **out, pega_error *error);
  void (*close)(void *artifact);
  pega_status (*list)(void *artifact, pega_value *out, pega_error *error);
  /** \brief Returns owned; the function outlives `close`. */
  pega_status (*get)(void *artifact, const char *name, pega_function **out, pega_error *error);
} pega_artifact_loader;

/**
 * \brief Adds a loader for the rest of the process. The struct is copied. Adding one of a name that is there
 *        with the same functions does nothing; with others it is PEGA_ERROR_ALREADY_EXISTS.
 */
PEGA_API pega_status pega_artifact_add_loader(const pega_artifact_loader *loader,
                                              pega_error *error);

#ifdef __cplusplus
} /* extern "C" */
#endif
#endif /* PEGA_ARTIFACT_H_ */
