/* SPDX-License-Identifier: Apache-2.0 */
/* The model: what there is, and what its files offer each other. */
#ifndef PEGA_FAKE_DRIVER_FAKE_H_
#define PEGA_FAKE_DRIVER_FAKE_H_

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "entries.h"
#include "numbers.h"
#include "pega/fake_driver.h"

enum { kMaxDevices = 16, kNumAttributes = 200, kMaxStack = 64, kNameSize = 64 };

/* ----------------------------------------------------------------------------------- handles -- */

typedef enum fake_kind {
  kFree = 0,
  kIsContext,
  kIsModule,
  kIsFunction,
  kIsStream,
  kIsEvent,
  kIsGraph,
  kIsGraphExec,
  kIsNode,
  kDead = 0x100 /* or'ed to the kind of what was destroyed */
} fake_kind;

/*
 * What a handle points at: a slot of one static table, so that any value can be judged without
 * reading memory that may not be there. A slot is used again only when all others were.
 */
typedef struct fake_slot {
  _Atomic uint32_t kind;     /* a fake_kind */
  _Atomic int32_t sticky;    /* context: its sticky error */
  struct fake_slot *context; /* where it belongs; of a context, itself */
  void *object;              /* fake_context, fake_module, ...; read under the lock alone */
  int32_t device;
  /* Function: what a launch looks at with no lock. */
  uint32_t max_threads;
  uint32_t registers;
  uint32_t static_shared;
  _Atomic uint32_t max_dynamic;
  _Atomic uint32_t loaded;
  _Atomic uint32_t plain; /* no cluster asked for by the kernel or an attribute */
  uint32_t num_params;
  uint32_t most_for_registers; /* threads of a block */
} fake_slot;

/* ----------------------------------------------------------------------------------- objects -- */

typedef struct fake_device {
  char name[kNameSize];
  int attributes[kNumAttributes];
  uint64_t total_memory;
  uint64_t used_memory;
  fake_slot *primary; /* NULL until first retained; then the same for ever */
  uint32_t retains;
} fake_device;

typedef struct fake_stream {
  fake_slot *context;
  fake_slot *handle; /* NULL for a default stream */
  unsigned flags;
  int priority;
  uint64_t submitted;           /* launches so far */
  uint64_t done;                /* of them, waited for */
  struct fake_capture *capture; /* or NULL */
} fake_stream;

typedef struct fake_context {
  uint64_t id;
  unsigned flags;
  bool primary;
  fake_stream legacy;
  fake_stream per_thread; /* one for all threads */
} fake_context;

typedef struct fake_param {
  uint32_t offset;
  uint32_t size;
} fake_param;

/* A kernel as its image describes it. */
typedef struct fake_kernel {
  char *name;
  uint32_t num_params;
  uint32_t params_size;
  fake_param *params;
  uint32_t registers;
  uint32_t static_shared; /* bytes, the system's reservation left out */
  uint32_t local_bytes;
  uint32_t constant_bytes;
  uint32_t max_threads; /* from launch bounds; 0 for none */
  uint32_t cluster[3];  /* fixed at compile time; 0 for none */
  bool explicit_cluster;
} fake_kernel;

typedef struct fake_image {
  uint32_t architecture; /* 90 for sm_90 */
  bool ptx;
  size_t num_kernels;
  fake_kernel *kernels;
} fake_image;

/* A launch that nothing has waited for: the `count`-th of its stream. */
typedef struct fake_pending {
  fake_stream *stream;
  uint64_t count;
} fake_pending;

typedef struct fake_function {
  struct fake_module *module;
  const fake_kernel *kernel;
  fake_slot *handle; /* NULL until asked for */
  int carveout;
  int scheduling;
  int non_portable;
  uint32_t cluster[3]; /* required: by the image or by cuFuncSetAttribute() */
} fake_function;

typedef struct fake_module {
  fake_slot *handle;
  fake_image image;
  fake_function *functions;
  uint64_t graph_nodes; /* of live graphs and execs, that hold its functions */
  fake_pending *pending;
  size_t num_pending;
} fake_module;

typedef struct fake_launch {
  pega_fake_driver_launch view; /* its pointers lead into `storage` */
  fake_slot *function;
  fake_module *module;
  max_align_t storage[];
} fake_launch;

typedef enum fake_node_kind { kNodeLaunch, kNodeCopy, kNodeSet } fake_node_kind;

typedef struct fake_node {
  fake_node_kind kind;
  fake_slot *handle;   /* of a graph's node; NULL in an exec */
  fake_launch *launch; /* kNodeLaunch */
  uint64_t to;         /* kNodeCopy, kNodeSet */
  uint64_t from;       /* kNodeCopy */
  uint64_t size;
  bool from_device;    /* kNodeCopy: whose bounds are to be checked at a replay too */
  bool to_device;      /* kNodeCopy, kNodeSet */
  unsigned char value; /* kNodeSet */
} fake_node;

typedef struct fake_graph {
  fake_slot *context;
  fake_node *nodes;
  size_t num_nodes;
  size_t capacity;
} fake_graph;

typedef struct fake_capture {
  fake_stream *stream;
  fake_slot *graph;
  uint64_t id;
  uint64_t thread;
  int mode;
  bool invalid;
  CUgraphNode last; /* what the next operation depends on */
  struct fake_capture *next;
} fake_capture;

typedef struct fake_event {
  unsigned flags;
  bool recorded;
  bool captured; /* last recorded in a capture */
  double milliseconds;
  fake_stream *stream;
  uint64_t count;
} fake_event;

/* The entry points that quiet mode lets pass without the lock. */
typedef enum fake_quiet_entry {
  kQuietGetCurrent,
  kQuietLaunch,
  kQuietLaunchEx,
  kNumQuiet
} fake_quiet_entry;

/* One thread's quiet calls, on a cache line of their own. */
typedef struct fake_counters {
  _Alignas(64) _Atomic uint64_t count[kNumQuiet];
} fake_counters;

typedef struct fake_thread {
  uint64_t generation; /* of the state that the rest belongs to */
  uint64_t number;
  int capture_mode;
  int depth;
  bool shares_counters;
  fake_counters *counters;
  fake_slot *stack[kMaxStack];
} fake_thread;

/* ------------------------------------------------------------------------------------- state -- */

typedef struct fake_state {
  pthread_mutex_t lock; /* for all but what is atomic */
  bool configured;
  bool initialised;
  bool bad_configuration;
  bool strict_loading;
  bool eager_loading;
  bool quiet;
  bool absent_is_error;
  int driver_version;
  int num_devices;
  fake_device devices[kMaxDevices];
  fake_capture *captures;
  uint64_t next_id; /* of contexts, captures, allocations */
  uint64_t num_threads;
  uint32_t num_poisoned;
  pega_fake_driver_fault_counts faults;
} fake_state;

extern fake_state fake;
/* 0 where a launch in quiet mode may pass without the lock. */
extern _Atomic uint32_t fake_slow;
/* Set in a child of fork() whose parent had called cuInit(). */
extern _Atomic uint32_t fake_forked;
extern _Atomic uint64_t fake_counts[FAKE_NUM_ENTRIES];

/* state.c */
void fake_lock(void);
void fake_unlock(void);
fake_thread *fake_thread_begin(void);

/* One pointer fits into the thread-local memory that is set aside for libraries opened late. */
extern _Thread_local fake_thread *fake_own_thread __attribute__((tls_model("initial-exec")));
extern _Atomic uint64_t fake_generation; /* counts resets */

static inline fake_thread *fake_this_thread(void) {
  fake_thread *thread = fake_own_thread;
  uint64_t now = atomic_load_explicit(&fake_generation, memory_order_relaxed);
  return thread != NULL && thread->generation == now ? thread : fake_thread_begin();
}
static inline void fake_count_quietly(fake_quiet_entry entry) {
  fake_thread *thread = fake_this_thread();
  _Atomic uint64_t *count = &thread->counters->count[entry];
  if (thread->shares_counters) {
    atomic_fetch_add_explicit(count, 1, memory_order_relaxed);
  } else {
    uint64_t now = atomic_load_explicit(count, memory_order_relaxed);
    atomic_store_explicit(count, now + 1, memory_order_relaxed);
  }
}
uint64_t fake_counted_quietly(fake_quiet_entry entry);
void fake_update_slow(void);
void fake_watch_forks(void);
fake_slot *fake_slot_create(fake_kind kind, fake_slot *context, void *object);
void fake_slot_destroy(fake_slot *slot);
/* Whether `slot` is a handle of `kind`, kDead or'ed to it for a dead one. Takes no lock. */
bool fake_slot_is(const fake_slot *slot, uint32_t kind);
/* The object of a live handle, or NULL; counts the fault. */
void *fake_object(fake_slot *slot, fake_kind kind);
/* The next live slot of `kind` after `slot` (NULL for the first), or NULL. */
fake_slot *fake_slot_next(fake_slot *slot, fake_kind kind);
void fake_slots_reset(void);

/* configure.c */
void fake_configure_default(void);

/* call.c */
typedef struct fake_call {
  int entry;
  uint64_t sequence;
  pega_fake_driver_call *record; /* or NULL */
} fake_call;
/* Counts and records a call, takes the lock, and sees to what holds for every entry point. */
CUresult fake_enter(fake_call *call, int entry);
/* Gives back the lock, also after a failed fake_enter(). */
CUresult fake_leave(fake_call *call, CUresult result);
void fake_calls_reset(void);
void fake_failures_reset(void);
bool fake_failures_set(void);
/* Keeps a record of a launch; takes it. */
void fake_launch_record(fake_launch *launch, uint64_t sequence);
int fake_entry_find(const char *symbol);

/* context.c */
static inline fake_slot *fake_current(void) {
  const fake_thread *thread = fake_this_thread();
  return thread->depth == 0 ? NULL : thread->stack[thread->depth - 1];
}
/* Destroys what a context holds, counting it as lost. */
void fake_context_empty(fake_slot *context);
void fake_contexts_reset(void);
/* Makes `result` the sticky error; 0 heals. */
void fake_context_poison(fake_slot *context, int result);

/* device.c */
fake_device *fake_device_of(int device);

/* cubin.c and ptx.c: 0 or the driver's code */
CUresult fake_cubin_read(const void *bytes, fake_image *out);
CUresult fake_ptx_read(const char *text, fake_image *out);
void fake_image_free(fake_image *image);

/* module.c */
void fake_module_destroy(fake_module *module);
/* Loads a function that is not; 900 where a capture forbids it. */
CUresult fake_function_load(fake_slot *function);

/* stream.c */
/* The stream that a handle means in the current context, or NULL. */
fake_stream *fake_stream_of(CUstream stream);
/* The same for a call that submits work: 0, or why it may not. */
CUresult fake_stream_use(CUstream stream, fake_stream **out);
void fake_stream_destroy(fake_stream *stream);
void fake_stream_wait(fake_stream *stream, uint64_t count);
void fake_context_wait(fake_slot *context);

/* capture.c */
/* Whether the calling thread may make a potentially unsafe call; if not, invalidates captures. */
bool fake_capture_permits(void);
void fake_capture_invalidate(fake_capture *capture);
void fake_capture_drop(fake_capture *capture);
/* 906 where a blocking stream of `context` is capturing, which is then invalid. */
CUresult fake_capture_check_legacy(fake_slot *context);
CUresult fake_capture_add(fake_capture *capture, fake_node node);
void fake_captures_reset(void);

/* graph.c */
CUresult fake_graph_add(fake_graph *graph, fake_node node);
void fake_graph_free(fake_graph *graph);

/* launch.c */
fake_launch *fake_launch_copy(const fake_launch *launch);
/* Runs, records and marks as in flight. Takes `launch`. The lock is not held in a host function. */
CUresult fake_launch_run(fake_launch *launch, fake_stream *stream, uint64_t sequence);
void fake_kernels_reset(void);
bool fake_kernels_set(void);

/* copy.c: checks the bounds of a copy or set and does it. */
CUresult fake_node_check(const fake_node *node);
void fake_node_run(const fake_node *node);

/* memory.c */
typedef struct fake_memory_range {
  uint64_t address;
  uint64_t size;
  uint64_t id;
  fake_slot *context;
} fake_memory_range;
/* 0 where all of a range lies in one allocation; else counts the fault. */
CUresult fake_memory_check(uint64_t address, uint64_t size);
bool fake_memory_find(uint64_t address, fake_memory_range *out);
void fake_memory_empty(const fake_slot *context);
void fake_memory_reset(void);
void fake_memory_live(uint64_t *count, uint64_t *bytes);

#endif /* PEGA_FAKE_DRIVER_FAKE_H_ */
