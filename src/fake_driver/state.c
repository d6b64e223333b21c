/* SPDX-License-Identifier: Apache-2.0 */
/* The one state, its lock, the table of handles, and what each thread has. */
#include <string.h>

#include "fake.h"

enum { kNumSlots = 1 << 17, kNumCounters = 256 };

fake_state fake = {.lock = PTHREAD_MUTEX_INITIALIZER};
_Atomic uint32_t fake_slow = 1;
_Atomic uint32_t fake_forked;

static fake_slot slots[kNumSlots]; /* `kind` is atomic; the rest is written under fake.lock */
static size_t slots_used;          /* under fake.lock */
_Atomic uint64_t fake_generation = 1;
_Thread_local fake_thread *fake_own_thread;
static _Thread_local fake_thread this_thread;
/* Each thread has its own; the last is for all threads that came too late. */
static fake_counters counters[kNumCounters];
static _Atomic uint32_t next_counters;

void fake_lock(void) { pthread_mutex_lock(&fake.lock); }

void fake_unlock(void) { pthread_mutex_unlock(&fake.lock); }

fake_thread *fake_thread_begin(void) {
  memset(&this_thread, 0, sizeof this_thread);
  this_thread.generation = atomic_load_explicit(&fake_generation, memory_order_relaxed);
  uint32_t block = atomic_fetch_add(&next_counters, 1);
  this_thread.shares_counters = block >= kNumCounters - 1;
  this_thread.counters = &counters[this_thread.shares_counters ? kNumCounters - 1 : block];
  fake_own_thread = &this_thread;
  return &this_thread;
}

uint64_t fake_counted_quietly(fake_quiet_entry entry) {
  uint64_t sum = 0;
  for (int i = 0; i < kNumCounters; ++i) {
    sum += atomic_load_explicit(&counters[i].count[entry], memory_order_relaxed);
  }
  return sum;
}

void fake_update_slow(void) {
  bool slow = !fake.quiet || !fake.initialised || fake.captures != NULL || fake.num_poisoned > 0 ||
              fake_failures_set() || fake_kernels_set();
  atomic_store_explicit(&fake_slow, slow ? 1 : 0, memory_order_release);
}

/* A child must find the lock free and the driver gone. */
static void after_fork_in_child(void) {
  if (fake.initialised) atomic_store(&fake_forked, 1);
  atomic_store(&fake_slow, 1);
  fake_unlock();
}

static void watch_forks(void) { pthread_atfork(fake_lock, fake_unlock, after_fork_in_child); }

void fake_watch_forks(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, watch_forks);
}

static fake_slot *find_free(void) {
  if (slots_used < kNumSlots) return &slots[slots_used++];
  static size_t cursor;
  for (size_t i = 0; i < kNumSlots; ++i) {
    fake_slot *slot = &slots[cursor];
    cursor = (cursor + 1) % kNumSlots;
    uint32_t kind = atomic_load(&slot->kind);
    if (kind == kFree || (kind & kDead) != 0) return slot;
  }
  return NULL;
}

fake_slot *fake_slot_create(fake_kind kind, fake_slot *context, void *object) {
  fake_slot *slot = find_free();
  if (slot == NULL) return NULL;
  atomic_store(&slot->sticky, 0);
  slot->context = context == NULL ? slot : context;
  slot->device = context == NULL ? 0 : context->device;
  slot->object = object;
  atomic_store_explicit(&slot->kind, (uint32_t)kind, memory_order_release);
  return slot;
}

void fake_slot_destroy(fake_slot *slot) {
  if (atomic_exchange(&slot->sticky, 0) != 0) --fake.num_poisoned;
  slot->object = NULL;
  atomic_fetch_or(&slot->kind, (uint32_t)kDead);
}

static bool is_slot(const fake_slot *slot) {
  uintptr_t address = (uintptr_t)slot;
  uintptr_t first = (uintptr_t)slots;
  return address >= first && address < first + sizeof slots &&
         (address - first) % sizeof(fake_slot) == 0;
}

bool fake_slot_is(const fake_slot *slot, uint32_t kind) {
  return is_slot(slot) && atomic_load_explicit(&slot->kind, memory_order_acquire) == kind;
}

void *fake_object(fake_slot *slot, fake_kind kind) {
  if (fake_slot_is(slot, kind)) return slot->object;
  bool dead = is_slot(slot) && (atomic_load(&slot->kind) & kDead) != 0;
  if (dead) {
    ++fake.faults.dead_handles;
  } else {
    ++fake.faults.unknown_handles;
  }
  return NULL;
}

fake_slot *fake_slot_next(fake_slot *slot, fake_kind kind) {
  size_t next = slot == NULL ? 0 : (size_t)(slot - slots) + 1;
  for (; next < slots_used; ++next) {
    if (atomic_load(&slots[next].kind) == (uint32_t)kind) return &slots[next];
  }
  return NULL;
}

void fake_slots_reset(void) {
  for (size_t i = 0; i < slots_used; ++i) {
    if ((atomic_load(&slots[i].kind) & kDead) == 0) fake_slot_destroy(&slots[i]);
  }
  for (int i = 0; i < kNumCounters; ++i) {
    for (int k = 0; k < kNumQuiet; ++k) atomic_store(&counters[i].count[k], 0);
  }
  atomic_store(&next_counters, 0);
  atomic_fetch_add(&fake_generation, 1);
}
