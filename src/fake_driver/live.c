/* SPDX-License-Identifier: Apache-2.0 */
/* What a test reads of the model: what is alive, what went wrong; and poisoning a context. */
#include <string.h>

#include "fake.h"

static uint64_t count(fake_kind kind) {
  uint64_t number = 0;
  for (fake_slot *it = NULL; (it = fake_slot_next(it, kind)) != NULL;) ++number;
  return number;
}

static bool is_busy(const fake_stream *stream) { return stream->done < stream->submitted; }

static void count_contexts(pega_fake_driver_live_counts *out) {
  for (fake_slot *it = NULL; (it = fake_slot_next(it, kIsContext)) != NULL;) {
    const fake_context *context = it->object;
    if (!context->primary) ++out->contexts;
    out->launches_in_flight +=
        (is_busy(&context->legacy) ? 1u : 0u) + (is_busy(&context->per_thread) ? 1u : 0u);
  }
}

static void count_streams(pega_fake_driver_live_counts *out) {
  for (fake_slot *it = NULL; (it = fake_slot_next(it, kIsStream)) != NULL;) {
    ++out->streams;
    if (is_busy(it->object)) ++out->launches_in_flight;
  }
}

static void count_functions(pega_fake_driver_live_counts *out) {
  for (fake_slot *it = NULL; (it = fake_slot_next(it, kIsFunction)) != NULL;) {
    if (atomic_load(&it->loaded) != 0) ++out->functions_loaded;
  }
}

static void count_captures(pega_fake_driver_live_counts *out) {
  for (const fake_capture *it = fake.captures; it != NULL; it = it->next) {
    ++out->captures;
    --out->graphs; /* still the capture's own */
  }
}

void pega_fake_driver_live(pega_fake_driver_live_counts *out) {
  if (out == NULL) return;
  memset(out, 0, sizeof *out);
  fake_lock();
  for (int i = 0; i < kMaxDevices; ++i) {
    out->retained_by[i] = fake.devices[i].retains;
    out->retained += fake.devices[i].retains;
  }
  out->modules = count(kIsModule);
  out->events = count(kIsEvent);
  out->graphs = count(kIsGraph);
  out->graph_execs = count(kIsGraphExec);
  fake_memory_live(&out->allocations, &out->allocated_bytes);
  count_contexts(out);
  count_streams(out);
  count_functions(out);
  count_captures(out);
  fake_unlock();
}

void pega_fake_driver_faults(pega_fake_driver_fault_counts *out) {
  if (out == NULL) return;
  fake_lock();
  *out = fake.faults;
  fake_unlock();
}

int pega_fake_driver_poison(const void *context, int result) {
  fake_lock();
  fake_slot *found = fake_current();
  if (context != NULL) found = (fake_slot *)(uintptr_t)context;
  bool good = found != NULL && fake_slot_is(found, kIsContext);
  if (good) fake_context_poison(found, result);
  fake_unlock();
  return good ? FAKE_CUDA_SUCCESS : FAKE_CUDA_ERROR_INVALID_VALUE;
}
