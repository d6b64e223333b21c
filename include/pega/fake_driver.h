/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file pega/fake_driver.h
 * \brief The fake driver: a libcuda.so.1 for machines with no GPU, and how a test steers it.
 *
 * A program that opens "libcuda.so.1" finds the fake driver when its folder stands first in
 * LD_LIBRARY_PATH, or when the program is linked with the CMake target pega::fake_driver. It then
 * answers the driver's own entry points (cuInit, cuLaunchKernel, ...) from a model: devices,
 * contexts, modules, streams, stream capture, graphs, memory. A test steers and reads it with the
 * functions of this header, which it links or takes by dlsym() from the same library.
 *
 * Device memory is host memory, and an address of it is the host's: a test may read it directly.
 * Kernels do nothing unless pega_fake_driver_set_kernel() gives them a host function. Work is done
 * when it is submitted, on the calling thread, but counts as in flight until something waits for
 * it.
 *
 * ## A whole process
 * The environment variable PEGA_FAKE_DRIVER has the text of pega_fake_driver_configure(). It is
 * read before the first call and at a reset. Text that is wrong makes cuInit() fail with 999.
 *
 * ## Numbers
 * A result is the driver's CUresult as an int: 0 is CUDA_SUCCESS. Functions of this header that can
 * fail return 0, 1 (CUDA_ERROR_INVALID_VALUE) for a bad argument, or 500 (CUDA_ERROR_NOT_FOUND)
 * where an index or a name is not there. Nothing is written then.
 *
 * ## Threads
 * Every function may be called from any thread, also while others are in the driver, except
 * pega_fake_driver_reset() and pega_fake_driver_configure(): no other thread may be in a call then.
 * Threads keep context stacks and capture modes of their own, which a reset empties.
 *
 * ## Ownership
 * What a caller passes is borrowed and copied. What a record points at belongs to the fake driver
 * and lives until pega_fake_driver_clear_records() or a reset.
 *
 * Everything here is since 0.1.0.
 */
#ifndef PEGA_FAKE_DRIVER_H_
#define PEGA_FAKE_DRIVER_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PEGA_FAKE_DRIVER_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------------- the modelled machine -- */

/**
 * \brief Begins anew: no context, module, record, fault or failure rule is left, cuInit() is to be
 *        called again, and the machine is as PEGA_FAKE_DRIVER says (else one device of compute
 *        capability 9.0, driver version 13000). Handles from before are invalid.
 */
PEGA_FAKE_DRIVER_API void pega_fake_driver_reset(void);

/**
 * \brief Resets, then models another machine.
 * \param text "key=value" joined by commas; NULL or "" for the defaults. Keys:
 *        devices (0 to 16, default 1); driver (1000 * major + 10 * minor, default 13000);
 *        cc (compute capability "major.minor", default 9.0; sets the limits that go with it);
 *        sms (multiprocessors); shared (bytes a block has by default, 49152); optin (bytes a block
 *        can opt in to); memory (bytes of a device's memory); loading ("lazy", the default, or
 *        "eager"); strict (1, the default, or 0: pega_fake_driver_set_strict_loading()); quiet (0,
 *        the default, or 1: pega_fake_driver_set_quiet()); absent (what cuGetProcAddress() does
 *        for a function that is not there: "null", the default, for result 0 and a NULL address as
 *        driver 13.0 does, or "error" for result 500 as well). They hold for each device; later
 *        ones win.
 * \return 1 for text that is not so; the machine is then the default one.
 */
PEGA_FAKE_DRIVER_API int pega_fake_driver_configure(const char *text);

/** \brief One device. A field that is 0 or NULL stays as it is. */
typedef struct pega_fake_driver_device {
  uint32_t struct_size;              /**< sizeof(pega_fake_driver_device) */
  int32_t major;                     /**< compute capability; sets the limits that go with it... */
  int32_t minor;                     /**< ...and minor is taken whenever major is not 0 */
  int32_t multiprocessors;           /**< attribute 16 */
  int32_t shared_per_block;          /**< bytes, attribute 8 */
  int32_t shared_per_block_optin;    /**< bytes, attribute 97 */
  int32_t shared_per_multiprocessor; /**< bytes, attribute 81 */
  const char *name;                  /**< at most 63 bytes count */
  uint64_t total_memory;             /**< bytes */
} pega_fake_driver_device;

/**
 * \brief Changes one device. Functions that are loaded keep the limits that they were loaded with.
 * \return 1 where there is no such device, or for a non-zero tail that this version does not know.
 */
PEGA_FAKE_DRIVER_API int pega_fake_driver_set_device(int device,
                                                     const pega_fake_driver_device *values);

/**
 * \brief Sets what cuDeviceGetAttribute() says, by CU_DEVICE_ATTRIBUTE number (1 to 199).
 * \return 1 where there is no such device or number.
 */
PEGA_FAKE_DRIVER_API int pega_fake_driver_set_attribute(int device, int attribute, int value);

/**
 * \brief Whether loading is among the calls that stream capture forbids: on by default.
 *
 * On, the least that a driver may do: a function is loaded by its first launch, cuFuncLoad(),
 * cuFuncGetAttribute(), cuFuncSetAttribute() or an occupancy query; that, and cuModuleLoadData(),
 * give 900 and invalidate a capture that forbids unsafe calls. Off, as driver 13.0 does with small
 * images: cuModuleGetFunction() gives a loaded function and a capture forbids none of it.
 */
PEGA_FAKE_DRIVER_API void pega_fake_driver_set_strict_loading(bool strict);

/* ----------------------------------------------------------------------------------- records -- */

/**
 * \brief Quiet: calls are only counted. cuCtxGetCurrent() and the launches then take no lock and
 *        allocate nothing, unless a kernel has a host function, a failure rule is set, a context is
 *        poisoned or a capture is under way. Which launches are in flight is not followed.
 */
PEGA_FAKE_DRIVER_API void pega_fake_driver_set_quiet(bool quiet);

/** \brief One call of an entry point. */
typedef struct pega_fake_driver_call {
  uint64_t
      sequence; /**< 1 for the first call after a reset; launches that passed quietly have none */
  uint64_t thread;  /**< number of the calling thread, 1 for the first that called; no system id */
  const char *name; /**< the entry point's own symbol, "cuMemAlloc_v2"; static */
  int32_t result;   /**< what it returned; -1 while it runs */
} pega_fake_driver_call;

/** \brief Number of recorded calls. */
PEGA_FAKE_DRIVER_API uint64_t pega_fake_driver_num_calls(void);
/** \brief Recorded call `index`, from 0, in the order in which they began; 500 past the end. */
PEGA_FAKE_DRIVER_API int pega_fake_driver_get_call(uint64_t index, pega_fake_driver_call *out);
/**
 * \brief How often an entry point was called since the last reset or clearing, quiet calls and
 *        failed ones included.
 * \param name The symbol ("cuMemAlloc_v2"), or NULL for all entry points together.
 * \return 0 also for a name that the fake driver has not.
 */
PEGA_FAKE_DRIVER_API uint64_t pega_fake_driver_count(const char *name);

/** \brief One parameter of a launch as the GPU sees it. */
typedef struct pega_fake_driver_param {
  uint32_t offset;   /**< bytes from the start of the parameters */
  uint32_t size;     /**< bytes, from the kernel's own description */
  const void *bytes; /**< `size` bytes: a copy made at the launch (when captured: at the capture) */
} pega_fake_driver_param;

/** \brief Launch attribute: its CUlaunchAttributeID and the first 16 bytes of its value. */
typedef struct pega_fake_driver_launch_attribute {
  uint32_t id;
  uint8_t value[16];
} pega_fake_driver_launch_attribute;

/** \brief One launch of a kernel, or what a host function gets of it. */
typedef struct pega_fake_driver_launch {
  uint64_t sequence;     /**< of the call that launched it: a launch, or cuGraphLaunch */
  const char *name;      /**< the kernel's */
  const void *function;  /**< its CUfunction */
  const void *context;   /**< CUcontext that it ran in */
  const void *stream;    /**< CUstream that it was launched on, as it was given */
  int32_t device;        /**< ordinal */
  bool captured;         /**< recorded into a graph: it did not run */
  bool replayed;         /**< run by cuGraphLaunch */
  bool cooperative;      /**< launched so that the grid can synchronise */
  bool programmatic;     /**< programmatic stream serialization was asked for */
  uint32_t grid[3];      /**< blocks */
  uint32_t block[3];     /**< threads */
  uint32_t cluster[3];   /**< blocks; 0 where the launch has no clusters */
  uint32_t shared_bytes; /**< dynamic shared memory of a block */
  uint32_t num_attributes;
  uint32_t num_params;
  uint32_t params_size;                                /**< bytes of all, gaps included */
  const pega_fake_driver_launch_attribute *attributes; /**< all that cuLaunchKernelEx was given */
  const pega_fake_driver_param *params;
  const void *params_bytes; /**< all parameters as one piece, gaps are 0 */
} pega_fake_driver_launch;

/** \brief Number of recorded launches that succeeded (captured and replayed ones are two). */
PEGA_FAKE_DRIVER_API uint64_t pega_fake_driver_num_launches(void);
/** \brief Recorded launch `index`, from 0; 500 past the end. */
PEGA_FAKE_DRIVER_API int pega_fake_driver_get_launch(uint64_t index, pega_fake_driver_launch *out);
/** \brief Forgets recorded calls and launches and sets counts to 0; the model stays. */
PEGA_FAKE_DRIVER_API void pega_fake_driver_clear_records(void);

/* ------------------------------------------------------------------------ kernels and errors -- */

/**
 * \brief A kernel's work done by the host. Runs once a launch (or replay), on the launching thread,
 *        with no lock held: it may call the driver. `launch` is borrowed until it returns.
 * \return 0, or a code that becomes the context's sticky error, as a kernel that faults.
 */
typedef int (*pega_fake_driver_kernel)(const pega_fake_driver_launch *launch, void *user);

/**
 * \brief Gives every kernel of this name, loaded or yet to be, a host function; NULL removes it.
 * \param user Passed on; must live until the function is taken away or a reset.
 * \return 1 for a NULL or empty name; 2 (CUDA_ERROR_OUT_OF_MEMORY).
 */
PEGA_FAKE_DRIVER_API int pega_fake_driver_set_kernel(const char *name,
                                                     pega_fake_driver_kernel kernel, void *user);

/**
 * \brief Makes the n-th call from now fail. A call that is made to fail has no other effect and
 *        writes nothing. Rules add up; the oldest that fits wins.
 * \param name The symbol ("cuModuleLoadDataEx"), or NULL for calls of any entry point.
 * \param nth From 1. Calls that are not initialised or not allowed count too.
 * \param result What they return; not 0.
 * \param from_then_on Later calls fail too; else that one alone.
 * \return 1 for nth or result 0; 500 for a name that the fake driver has not; 2.
 */
PEGA_FAKE_DRIVER_API int pega_fake_driver_fail(const char *name, uint64_t nth, int result,
                                               bool from_then_on);
/** \brief Removes all rules of pega_fake_driver_fail(). */
PEGA_FAKE_DRIVER_API void pega_fake_driver_clear_failures(void);

/**
 * \brief Makes an error sticky in a context (700, 719, ...): until it is destroyed every call that
 *        needs a context returns it. 0 heals it.
 * \param context A CUcontext; NULL for the calling thread's current one.
 * \return 1 where there is no such context.
 */
PEGA_FAKE_DRIVER_API int pega_fake_driver_poison(const void *context, int result);

/* -------------------------------------------------------------------------- leaks and faults -- */

/** \brief What is alive. */
typedef struct pega_fake_driver_live_counts {
  uint64_t contexts;         /**< made by cuCtxCreate */
  uint64_t retained;         /**< retains of primary contexts not yet given back, of all devices */
  uint64_t retained_by[16];  /**< the same by device ordinal */
  uint64_t modules;          /**< loaded */
  uint64_t functions_loaded; /**< functions whose code is loaded (not lazily put off) */
  uint64_t streams;          /**< created; default streams do not count */
  uint64_t events;           /**< created */
  uint64_t allocations;      /**< of device memory */
  uint64_t allocated_bytes;  /**< asked for by them */
  uint64_t graphs;           /**< CUgraph */
  uint64_t graph_execs;      /**< CUgraphExec */
  uint64_t captures;         /**< under way, or invalid and not yet ended */
  uint64_t launches_in_flight; /**< streams with launches that nothing has waited for */
} pega_fake_driver_live_counts;

/** \brief Writes what is alive now. */
PEGA_FAKE_DRIVER_API void pega_fake_driver_live(pega_fake_driver_live_counts *out);

/** \brief Misuse that was seen since the last reset. A real driver may say nothing, or crash. */
typedef struct pega_fake_driver_fault_counts {
  uint64_t dead_handles;      /**< calls with a handle that was destroyed */
  uint64_t unknown_handles;   /**< calls with a handle that never was one */
  uint64_t wrong_context;     /**< launches whose function, stream and context do not go together */
  uint64_t double_frees;      /**< memory freed again */
  uint64_t unknown_frees;     /**< an address freed that no allocation begins at */
  uint64_t out_of_bounds;     /**< copies and sets beyond an allocation, or outside of any */
  uint64_t unloaded_in_graph; /**< modules unloaded while a live graph holds their functions */
  uint64_t unloaded_in_flight; /**< modules unloaded before their launches were waited for */
  uint64_t freed_in_flight;    /**< streams destroyed before their launches were waited for */
  uint64_t lost_with_context;  /**< modules, streams, events, allocations of a context */
  uint64_t captures_invalidated;
} pega_fake_driver_fault_counts;

/** \brief Writes the faults seen so far. */
PEGA_FAKE_DRIVER_API void pega_fake_driver_faults(pega_fake_driver_fault_counts *out);

/* ------------------------------------------------------------------------------- tensor maps -- */

/** \brief What cuTensorMapEncodeTiled() was given, as the fake driver's tensor map holds it. */
typedef struct pega_fake_driver_tensor_map {
  uint64_t global_address;
  uint64_t global_dim[5];     /**< elements, innermost first */
  uint64_t global_strides[4]; /**< bytes, of all dimensions but the innermost */
  uint32_t box_dim[5];        /**< elements */
  uint32_t element_strides[5];
  uint32_t rank;
  uint32_t data_type;    /**< CUtensorMapDataType */
  uint32_t interleave;   /**< CUtensorMapInterleave */
  uint32_t swizzle;      /**< CUtensorMapSwizzle */
  uint32_t l2_promotion; /**< CUtensorMapL2promotion */
  uint32_t oob_fill;     /**< CUtensorMapFloatOOBfill */
} pega_fake_driver_tensor_map;

/**
 * \brief Reads a tensor map that the fake driver made, also from a launch's parameter.
 * \param map 128 bytes, borrowed; any alignment.
 * \return 1 where they are no tensor map of the fake driver's.
 */
PEGA_FAKE_DRIVER_API int pega_fake_driver_tensor_map_decode(const void *map,
                                                            pega_fake_driver_tensor_map *out);

#ifdef __cplusplus
} /* extern "C" */
#endif
#endif /* PEGA_FAKE_DRIVER_H_ */
