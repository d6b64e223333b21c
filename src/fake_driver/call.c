/* SPDX-License-Identifier: Apache-2.0 */
/* What every call goes through: counting, failure rules, the rules common to all, records. */
#include <stdlib.h>
#include <string.h>

#include "fake.h"

enum { kCallsInChunk = 4096 };

typedef struct failure {
  int entry; /* -1 for all */
  uint64_t remaining;
  int result;
  bool from_then_on;
  struct failure *next;
} failure;

static const struct {
  const char *symbol;
  int needs;
} entries[FAKE_NUM_ENTRIES] = {
#define FAKE_ENTRY_ROW_(symbol, name, version, needs, parameters) {#symbol, needs},
    FAKE_ENTRIES(FAKE_ENTRY_ROW_)
#undef FAKE_ENTRY_ROW_
};

_Atomic uint64_t fake_counts[FAKE_NUM_ENTRIES];

/* All under fake.lock. Records lie in chunks so that a running call's record stays where it is. */
static pega_fake_driver_call **chunks;
static size_t num_chunks;
static uint64_t num_calls;
static uint64_t last_sequence;
static fake_launch **launches;
static uint64_t num_launches;
static uint64_t launches_capacity;
static failure *failures;
static uint64_t quiet_base[kNumQuiet]; /* quiet calls from before the last clearing */

int fake_entry_find(const char *symbol) {
  for (int i = 0; i < FAKE_NUM_ENTRIES; ++i) {
    if (strcmp(entries[i].symbol, symbol) == 0) return i;
  }
  return -1;
}

/* Without memory the record is left out: the call itself goes on. */
static pega_fake_driver_call *new_record(void) {
  if (num_calls / kCallsInChunk == num_chunks) {
    pega_fake_driver_call **grown = realloc(chunks, (num_chunks + 1) * sizeof(*chunks));
    if (grown == NULL) return NULL;
    chunks = grown;
    chunks[num_chunks] = calloc(kCallsInChunk, sizeof **chunks);
    if (chunks[num_chunks] == NULL) return NULL;
    ++num_chunks;
  }
  pega_fake_driver_call *record = &chunks[num_calls / kCallsInChunk][num_calls % kCallsInChunk];
  ++num_calls;
  return record;
}

static int injected(int entry) {
  int result = 0;
  for (failure **at = &failures; *at != NULL;) {
    failure *rule = *at;
    bool fits = rule->entry == -1 || rule->entry == entry;
    if (fits && rule->remaining > 1) {
      --rule->remaining;
    } else if (fits && result == 0) {
      result = rule->result;
      if (!rule->from_then_on) {
        *at = rule->next;
        free(rule);
        continue;
      }
    }
    at = &rule->next;
  }
  if (result != 0) fake_update_slow();
  return result;
}

static CUresult check_common(int entry) {
  int result = injected(entry);
  if (result != 0) return result;
  int needs = entries[entry].needs;
  if ((needs & kInit) != 0 && (atomic_load(&fake_forked) != 0 || !fake.initialised)) {
    return FAKE_CUDA_ERROR_NOT_INITIALIZED;
  }
  if ((needs & kContext) == kContext) {
    fake_slot *context = fake_current();
    if (context == NULL) {
      return (needs & kAnyContext) == kAnyContext ? FAKE_CUDA_SUCCESS
                                                  : FAKE_CUDA_ERROR_INVALID_CONTEXT;
    }
    if (!fake_slot_is(context, kIsContext)) return FAKE_CUDA_ERROR_CONTEXT_IS_DESTROYED;
    int sticky = atomic_load(&context->sticky);
    if (sticky != 0 && (needs & kHealthy) == 0) return sticky;
  }
  bool unsafe = (needs & kUnsafe) != 0 || ((needs & kLoads) != 0 && fake.strict_loading);
  if (unsafe && !fake_capture_permits()) {
    return FAKE_CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  return FAKE_CUDA_SUCCESS;
}

CUresult fake_enter(fake_call *call, int entry) {
  fake_lock();
  if (!fake.configured) fake_configure_default();
  fake_thread *thread = fake_this_thread();
  if (thread->number == 0) thread->number = ++fake.num_threads;
  atomic_fetch_add_explicit(&fake_counts[entry], 1, memory_order_relaxed);
  call->entry = entry;
  call->sequence = ++last_sequence;
  call->record = fake.quiet ? NULL : new_record();
  if (call->record != NULL) {
    *call->record =
        (pega_fake_driver_call){call->sequence, thread->number, entries[entry].symbol, -1};
  }
  return check_common(entry);
}

CUresult fake_leave(fake_call *call, CUresult result) {
  if (call->record != NULL) call->record->result = result;
  fake_unlock();
  return result;
}

void fake_launch_record(fake_launch *launch, uint64_t sequence) {
  launch->view.sequence = sequence;
  if (fake.quiet) {
    free(launch);
    return;
  }
  if (num_launches == launches_capacity) {
    uint64_t capacity = launches_capacity == 0 ? 256 : launches_capacity * 2;
    fake_launch **grown = realloc(launches, capacity * sizeof(*launches));
    if (grown == NULL) {
      free(launch);
      return;
    }
    launches = grown;
    launches_capacity = capacity;
  }
  launches[num_launches++] = launch;
}

static void clear_records(void) {
  for (size_t i = 0; i < num_chunks; ++i) free(chunks[i]);
  free(chunks);
  for (uint64_t i = 0; i < num_launches; ++i) free(launches[i]);
  free(launches);
  chunks = NULL;
  launches = NULL;
  num_chunks = 0;
  num_calls = num_launches = launches_capacity = 0;
  for (int i = 0; i < FAKE_NUM_ENTRIES; ++i) atomic_store(&fake_counts[i], 0);
  for (int i = 0; i < kNumQuiet; ++i) quiet_base[i] = fake_counted_quietly((fake_quiet_entry)i);
}

void fake_calls_reset(void) {
  clear_records();
  last_sequence = 0;
}

bool fake_failures_set(void) { return failures != NULL; }

void fake_failures_reset(void) {
  while (failures != NULL) {
    failure *next = failures->next;
    free(failures);
    failures = next;
  }
}

/* A call that is running (in a host function) still writes its result. */
static bool is_running(void) {
  for (uint64_t i = 0; i < num_calls; ++i) {
    if (chunks[i / kCallsInChunk][i % kCallsInChunk].result == -1) return true;
  }
  return false;
}

void pega_fake_driver_clear_records(void) {
  fake_lock();
  if (!is_running()) clear_records();
  fake_unlock();
}

uint64_t pega_fake_driver_num_calls(void) {
  fake_lock();
  uint64_t number = num_calls;
  fake_unlock();
  return number;
}

int pega_fake_driver_get_call(uint64_t index, pega_fake_driver_call *out) {
  if (out == NULL) return FAKE_CUDA_ERROR_INVALID_VALUE;
  fake_lock();
  bool found = index < num_calls;
  if (found) *out = chunks[index / kCallsInChunk][index % kCallsInChunk];
  fake_unlock();
  return found ? FAKE_CUDA_SUCCESS : FAKE_CUDA_ERROR_NOT_FOUND;
}

static uint64_t count_of(int entry) {
  static const int kQuietEntries[kNumQuiet] = {FAKE_cuCtxGetCurrent, FAKE_cuLaunchKernel,
                                               FAKE_cuLaunchKernelEx};
  uint64_t count = atomic_load(&fake_counts[entry]);
  for (int i = 0; i < kNumQuiet; ++i) {
    if (kQuietEntries[i] != entry) continue;
    count += fake_counted_quietly((fake_quiet_entry)i) - quiet_base[i];
  }
  return count;
}

uint64_t pega_fake_driver_count(const char *name) {
  uint64_t count = 0;
  fake_lock();
  for (int i = 0; i < FAKE_NUM_ENTRIES; ++i) {
    if (name == NULL || strcmp(entries[i].symbol, name) == 0) count += count_of(i);
  }
  fake_unlock();
  return count;
}

uint64_t pega_fake_driver_num_launches(void) {
  fake_lock();
  uint64_t number = num_launches;
  fake_unlock();
  return number;
}

int pega_fake_driver_get_launch(uint64_t index, pega_fake_driver_launch *out) {
  if (out == NULL) return FAKE_CUDA_ERROR_INVALID_VALUE;
  fake_lock();
  bool found = index < num_launches;
  if (found) *out = launches[index]->view;
  fake_unlock();
  return found ? FAKE_CUDA_SUCCESS : FAKE_CUDA_ERROR_NOT_FOUND;
}

int pega_fake_driver_fail(const char *name, uint64_t nth, int result, bool from_then_on) {
  if (nth == 0 || result == 0) return FAKE_CUDA_ERROR_INVALID_VALUE;
  int entry = name == NULL ? -1 : fake_entry_find(name);
  if (name != NULL && entry < 0) return FAKE_CUDA_ERROR_NOT_FOUND;
  failure *rule = malloc(sizeof *rule);
  if (rule == NULL) return FAKE_CUDA_ERROR_OUT_OF_MEMORY;
  *rule = (failure){entry, nth, result, from_then_on, NULL};
  fake_lock();
  failure **at = &failures;
  while (*at != NULL) at = &(*at)->next;
  *at = rule;
  fake_update_slow();
  fake_unlock();
  return FAKE_CUDA_SUCCESS;
}

void pega_fake_driver_clear_failures(void) {
  fake_lock();
  fake_failures_reset();
  fake_update_slow();
  fake_unlock();
}
