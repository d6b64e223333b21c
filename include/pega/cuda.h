/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file pega/cuda.h
 * \brief CUDA devices: the driver, preparing kernels, what a launch needs, health.
 *
 * The driver, libcuda.so.1, is opened at the first use; nothing links against it. Every function
 * leaves the calling thread's current context as it found it, and works on a thread that has none.
 *
 * ## Prepare and launch
 * *Preparing* a function on a device loads its kernels there: slow, once. *Launching* takes no lock,
 * allocates nothing and, where the device's primary context is current, calls the driver for the launch
 * and for the current context alone (a kernel that wants global scratch also allocates it on the
 * stream). A call of a function that is not
 * prepared prepares it, except while the stream captures: then the call is refused with
 * PEGA_ERROR_UNAVAILABLE, and the capture stays valid. What is prepared stays loaded until
 * pega_cuda_close(), so that no launch or graph can lose it, and a function stays prepared as long as
 * its pack lives: one that was given back and is got again is prepared still.
 *
 * ## Contexts
 * A device's primary context is retained when the device is first used. Preparing and calling happen in
 * the context current to the thread if that belongs to the device, else in the primary one: a call in
 * another context than the current one also asks for, pushes and pops contexts. Resetting a primary
 * context (cudaDeviceReset, cuDevicePrimaryCtxReset) takes its kernels away unseen: call
 * pega_cuda_close() before, never after. Kernels in contexts that others made and destroyed are kept in
 * mind until pega_cuda_close().
 *
 * ## Sticky errors
 * When a context reports an error after which it cannot be used (an illegal address, say), its first
 * code is kept: later calls on the device fail at once with PEGA_ERROR_DRIVER, and
 * pega_device_health() tells the code and the last launch that went well.
 *
 * ## Fork
 * The driver does not survive a fork: in a child made after its start every call fails with
 * PEGA_ERROR_UNAVAILABLE.
 *
 * Words, errors and threads are those of pega.h. Everything here is since 0.1.0.
 */
#ifndef PEGA_CUDA_H_
#define PEGA_CUDA_H_

#include "pega.h"

#ifdef __cplusplus
extern "C" {
#endif

/** \brief Where the driver comes from. */
typedef struct pega_cuda_driver_options {
  uint32_t struct_size; /**< sizeof(pega_cuda_driver_options) */
  uint32_t reserved;    /**< 0 */
  const char *path;     /**< library to open instead of "libcuda.so.1"; NULL for that */
  /** Finds an entry point instead of a library; NULL for none. `version` is the CUDA version whose
      form of the function is wanted, 12000 for 12.0. Returns NULL where there is none. */
  void *(*find)(void *user, const char *name, int version);
  void *user; /**< given to find */
} pega_cuda_driver_options;

#define PEGA_CUDA_DRIVER_OPTIONS_INIT \
  { (uint32_t)sizeof(pega_cuda_driver_options), 0, NULL, NULL, NULL }

/**
 * \brief Opens the driver and initialises it. Calling it is optional: first use does the same.
 * \param options NULL for libcuda.so.1. Borrowed; `find` must stay valid.
 * \return PEGA_OK also if it is open already and options are NULL; PEGA_ERROR_ALREADY_EXISTS if it
 *         is open and options are not; PEGA_ERROR_UNAVAILABLE with what was tried and found;
 *         PEGA_ERROR_VERSION for a driver that is too old; PEGA_ERROR_SYMBOL naming what it lacks.
 *         A failure is not kept: the next call tries again.
 */
PEGA_API pega_status pega_cuda_open(const pega_cuda_driver_options *options, pega_error *error);

/**
 * \brief Unloads every kernel and gives back every primary context.
 *
 * Functions stay; calling them prepares them again. The caller makes sure that no other thread is in
 * a call, that no launch is in flight and that no graph that holds one is launched again. Contexts
 * with a latched sticky error are given back as well. Whether the driver then gives a new one depends
 * on it: CUDA 13.0 was seen to answer an illegal address with the same code until the process ends.
 * \return The first failure of the driver. What could not be unloaded is kept, with its context:
 *         another call tries again.
 */
PEGA_API pega_status pega_cuda_close(pega_error *error);

/** \brief What is known of a device. */
typedef struct pega_device_info {
  uint32_t struct_size;       /**< in: sizeof(pega_device_info) */
  int32_t ordinal;            /**< the driver's number of it */
  int32_t compute_capability; /**< 90 for 9.0 */
  int32_t multiprocessors;    /**< count */
  int64_t max_shared_memory;  /**< bytes of a block after opting in */
  int64_t total_memory;       /**< bytes */
  int32_t driver_version;     /**< 13000 for 13.0 */
  int32_t reserved;           /**< 0 */
  char name[128];             /**< as the driver has it */
} pega_device_info;

/**
 * \brief Number of CUDA devices; the driver is opened, with the errors of pega_cuda_open().
 * \param out PEGA_ERROR_INVALID_ARGUMENT if NULL.
 */
PEGA_API pega_status pega_device_count(int32_t *out, pega_error *error);
/**
 * \brief Tells what a CUDA device is. Makes no context.
 * \return Errors of pega_cuda_open(); PEGA_ERROR_DEVICE for no CUDA device or no such ordinal;
 *         PEGA_ERROR_VERSION for a NULL `out` or a struct_size that is too small; PEGA_ERROR_DRIVER.
 */
PEGA_API pega_status pega_device_query(DLDevice device, pega_device_info *out, pega_error *error);

/** \brief Whether a device can be used. */
typedef struct pega_device_health_info {
  uint32_t struct_size; /**< in: sizeof(pega_device_health_info) */
  int32_t code;         /**< first sticky CUresult, 0 while the device is well */
  char code_name[64];   /**< "CUDA_ERROR_ILLEGAL_ADDRESS", "" while well */
  char failed[256];     /**< function whose call met it first, "" while well */
  char last_good[256];  /**< function that this thread, or if it has launched none another one, last
                             launched without an error; "" for none. Some threads share theirs. */
} pega_device_health_info;

/**
 * \brief Tells a device's health from what launches have met; asks nothing of the device.
 * \return Errors as of pega_device_query(); PEGA_OK also for a device that is not well.
 */
PEGA_API pega_status pega_device_health(DLDevice device, pega_device_health_info *out,
                                        pega_error *error);

/**
 * \brief Loads what a function needs to run on a device, so that calls only launch.
 *
 * Also forces what the driver would load lazily, and opts in to the shared memory that the kernel
 * uses. Preparing twice does nothing. A function that holds no kernel needs none: PEGA_OK.
 * \param device A CUDA device.
 * \return PEGA_ERROR_NOT_FOUND if no variant fits the device (the text says why for each),
 *         PEGA_ERROR_FORMAT if a blob is not what the manifest says, PEGA_ERROR_DRIVER with the
 *         driver's code. A failure leaves nothing behind and may be tried again.
 */
PEGA_API pega_status pega_function_prepare(pega_function *function, DLDevice device,
                                           pega_error *error);

/**
 * \brief Where global scratch memory of kernels comes from.
 *
 * Without an allocator cuMemAllocAsync's pool of the device is used. Both functions are called on the
 * launching thread, with the launch's context current and no lock held; several threads may call them
 * at once. Neither may be called for a kernel that wants no scratch.
 */
typedef struct pega_cuda_allocator {
  uint32_t struct_size; /**< sizeof(pega_cuda_allocator) */
  uint32_t reserved;    /**< 0 */
  /** Returns in `out` device memory of `size` bytes (> 0), aligned to `alignment` (a power of two) and
      usable on `stream`. A failure fills `error` (it may be NULL) and is what the call returns:
      nothing is launched. NULL or misaligned memory with PEGA_OK is PEGA_ERROR_LAYOUT. */
  pega_status (*allocate)(void *self, DLDevice device, size_t size, size_t alignment, void *stream,
                          void **out, pega_error *error);
  /** Takes back what allocate returned, after the launch was queued on `stream` or had failed. The
      kernel may still be running: the memory is free for use behind it on the same stream. Of a
      captured launch it is called at the capture, and replays use the memory again: an allocator for
      captures keeps it for as long as the graph. The default pool does so by itself. */
  void (*release)(void *self, DLDevice device, void *memory, void *stream);
  void *self; /**< given to both */
} pega_cuda_allocator;

/**
 * \brief Installs an allocator, borrowed for the rest of the process; NULL for the own.
 * \return PEGA_ERROR_INVALID_ARGUMENT for a struct_size that does not fit, a reserved that is not 0, or
 *         a function that is NULL.
 */
PEGA_API pega_status pega_cuda_set_allocator(const pega_cuda_allocator *allocator,
                                             pega_error *error);

/* ------------------------------------------------------------------------------------- plans -- */

/**
 * \brief A call whose arguments are bound: its launches, ready, with the places where pointers go.
 *
 * For callers that make the same call again and again on other memory: a plan is called with
 * pointers and a stream alone. It is immutable, and any number of threads may call it at once; it
 * is counted. It holds the function, and is good until pega_cuda_close(): what that unloads a plan
 * would launch, so that calling it is then PEGA_ERROR_UNAVAILABLE. docs/plans.md shows one.
 */
typedef struct pega_plan pega_plan;

/**
 * \brief Makes a plan of a call.
 *
 * Checks the arguments as pega_function_call() does, prepares what is not prepared, and finds out
 * what the call would launch, launching nothing. Takes as long as some dozens of calls. The context
 * is that of such a call: the current one if it belongs to the device, else the device's primary
 * one; the plan stays with it. A call on pointers with no context current has its device from its
 * stream, or asks the driver (cuPointerGetAttribute) whose the first pointer is, which must be
 * memory then.
 *
 * Each pointer or tensor argument that is not NULL or None (or empty with no memory) becomes a
 * pointer of the plan, in the arguments' order; the stream is given to each call. All else stays as
 * it is here: numbers, sizes, strides, types, what is NULL, which kernels are launched.
 *
 * \param function A function of a pack, or a built-in one for CUDA. Retained.
 * \param args Borrowed for the call alone. Memory is never read, and need not be there where a
 *        context is current; it must be aligned as that of later calls.
 * \param out Returns owned; give back with pega_plan_release().
 * \return What the check or the call returned. PEGA_ERROR_UNSUPPORTED, with the reason, for what
 *        cannot be a plan: a function that runs elsewhere than on a GPU or is not launched by this
 *        library (foreign functions, provided implementations); a call that takes workspace or
 *        scratch memory from the stream's pool or the allocator (give a workspace) or reads values
 *        ('check'); a kernel that takes a tensor descriptor from the host; launches that depend on
 *        an address in another way than by its being NULL or aligned (docs/plans.md lists what
 *        expressions of packs may do with one); more than 8 launches, or a kernel of more than 64
 *        parameters or 512 bytes of them. PEGA_ERROR_OUT_OF_MEMORY.
 */
PEGA_API pega_status pega_plan_create(pega_function *function, const pega_value *args,
                                      int32_t num_args, pega_plan **out, pega_error *error);

/**
 * \brief Launches a plan on other memory. No lock, no allocation, and of the driver the current
 *        context and the launches alone (another context than the plan's is pushed and popped, and
 *        one that others made is looked at).
 *
 * \param pointers As many as pega_plan_num_pointers(), NULL only for none: addresses of the
 *        device, of a tensor that of its first element (data + byte_offset). Borrowed for the call
 *        alone. Of each it is checked that it is not NULL and aligned to
 *        pega_plan_pointer_alignment(), and
 *        *nothing else*: that memory is large enough, on the device, and that what is written
 *        overlaps nothing that it must not, is the caller's to know.
 * \param stream CUstream of the plan's context; NULL is its default stream. Also of functions on
 *        tensors: the thread's current stream is not asked for.
 * \param error Written on failure alone.
 * \return PEGA_ERROR_INVALID_ARGUMENT for no plan, no `pointers`, and pointers that change during
 *         the call; PEGA_ERROR_RANGE for a NULL pointer, PEGA_ERROR_LAYOUT for one that is not
 *         aligned,
 *         PEGA_ERROR_UNAVAILABLE after pega_cuda_close(), for a context that was destroyed and in a
 *         child of fork, PEGA_ERROR_DRIVER as a call. Nothing was launched then, unless the text
 *         tells how many launches were queued before one failed.
 */
PEGA_API pega_status pega_plan_call(const pega_plan *plan, void *const *pointers, void *stream,
                                    pega_error *error);

/** \brief Adds a reference and returns the plan. Takes NULL. */
PEGA_API pega_plan *pega_plan_retain(pega_plan *plan);
/** \brief Gives back a reference. Takes NULL. What was launched runs on. */
PEGA_API void pega_plan_release(pega_plan *plan);

/** \brief Kernels that a call launches; 0 for a call with nothing to do, and for NULL. */
PEGA_API int32_t pega_plan_num_launches(const pega_plan *plan);
/** \brief Pointers that a call takes; 0 for NULL. */
PEGA_API int32_t pega_plan_num_pointers(const pega_plan *plan);
/** \brief Index of the argument that a pointer stands for; -1 for no such pointer. */
PEGA_API int32_t pega_plan_pointer_argument(const pega_plan *plan, int32_t index);
/** \brief Bytes, a power of two, that a pointer has to be a multiple of; 0 for no such pointer. */
PEGA_API size_t pega_plan_pointer_alignment(const pega_plan *plan, int32_t index);

#ifdef __cplusplus
} /* extern "C" */
#endif
#endif /* PEGA_CUDA_H_ */
