/* SPDX-License-Identifier: Apache-2.0 */
/* Which implementation a prefill takes. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "core/text.h"
#include "ops/qwen35/choices.h"
#include "ops/qwen35/prefill_cpu.h"

static const char *fits_all(const pega_prefill *call) {
  (void)call;
  return NULL;
}

static const char *one_projected_sequence(const pega_prefill *call) {
  if (!call->in.projected) return "it begins with the projections";
  if (call->shape.num_sequences != 1) return "it takes one sequence";
  return NULL;
}

/* Limits are where, on an H100 and on a processor with AVX-512, the next one began to be faster: they hold
 * where no table of measured times knows of a call. */
const pega_prefill_implementation pega_prefill_implementations[] = {
    {"cpu_recurrent", kPlaceCpu, 4, 1024, fits_all, pega_prefill_cpu_recurrent_workspace,
     pega_prefill_cpu_recurrent, "token by token"},
    {"cpu_chunked", kPlaceCpu, INT64_MAX, INT64_MAX, fits_all, pega_prefill_cpu_chunked_workspace,
     pega_prefill_cpu_chunked, "chunks of 32 tokens"},
    {"cuda_recurrent", kPlaceCuda, 16, 1024, fits_all, pega_prefill_inputs_workspace,
     pega_prefill_recurrent, "token by token, one launch"},
    {"triton_chunked", kPlaceCuda, INT64_MAX, INT64_MAX, fits_all, pega_prefill_chunked_workspace,
     pega_prefill_chunked, "chunks of 64 tokens, two launches"},
    {"triton_fused", kPlaceCuda, 0, INT64_MAX, fits_all, pega_prefill_inputs_workspace,
     pega_prefill_fused, "chunks of 64 tokens, one launch"},
    {"triton_stages", kPlaceCuda, 0, INT64_MAX, one_projected_sequence,
     pega_prefill_stages_workspace, pega_prefill_stages, "the seven stages, one launch each"},
    {"flashinfer", kPlaceCuda, 0, INT64_MAX, pega_prefill_whole_unfit, pega_prefill_whole_workspace,
     pega_prefill_whole, "a function that was provided, one kernel"},
    {"flashinfer_cp", kPlaceCuda, 0, INT64_MAX, pega_prefill_parallel_unfit,
     pega_prefill_parallel_workspace, pega_prefill_parallel,
     "a function that was provided, chunks side by side"},
};
const int pega_num_prefill_implementations =
    (int)(sizeof pega_prefill_implementations / sizeof *pega_prefill_implementations);

static const char *place_name(pega_gdr_place place) { return place == kPlaceCpu ? "cpu" : "cuda"; }

static const char by_name[] = "taken only when it is asked for by name";

/* Why it cannot take the call by itself, or NULL. */
static const char *cannot(const pega_prefill_implementation *candidate, const pega_prefill *call) {
  if (candidate->place != call->place) return "it runs elsewhere";
  const char *reason = candidate->unfit(call);
  if (reason != NULL) return reason;
  return call->shape.num_sequences > 1 && call->shape.num_tokens > candidate->max_total
             ? "there are more tokens, and one sequence may have most of them"
             : NULL;
}

/* The same where no table knows of such a call. */
static const char *beyond_limits(const pega_prefill_implementation *candidate,
                                 const pega_prefill *call) {
  const char *reason = cannot(candidate, call);
  if (reason != NULL) return reason;
  if (candidate->max_tokens == 0) return by_name;
  /* T <= max N; an empty batch takes the first. */
  if (candidate->max_tokens != INT64_MAX &&
      call->shape.num_tokens > candidate->max_tokens * call->shape.num_sequences) {
    return "the sequences are longer on average";
  }
  return NULL;
}

/* The fastest by a table; where none knows of such a call, the first within its limits. */
static pega_status decide(const pega_prefill *call, pega_choice_place *place,
                          const pega_prefill_implementation **out, pega_error *error) {
  const pega_cuda_driver *driver;
  pega_cuda_device *device;
  int32_t target = call->place == kPlaceCpu ? 0 : -1;
  int32_t processors = 0;
  if (call->place == kPlaceCuda && pega_cuda_driver_get(&driver, NULL) == PEGA_OK &&
      pega_cuda_device_get(driver, call->function, call->device, &device, NULL) == PEGA_OK) {
    target = device->compute_capability;
    processors = device->multiprocessors;
  }
  pega_status status =
      pega_choices_find(call->function, &call->shape, target, processors, place, error);
  if (status != PEGA_OK) return status;
  int32_t least = kNoTime;
  *out = NULL;
  for (int i = 0; place->choices != NULL && i < pega_num_prefill_implementations; ++i) {
    const pega_prefill_implementation *candidate = &pega_prefill_implementations[i];
    if (candidate->place != call->place) continue;
    const int32_t time = pega_choices_time(place, i);
    if (time >= least || cannot(candidate, call) != NULL) continue;
    least = time;
    *out = candidate;
  }
  if (*out != NULL) return PEGA_OK;
  place->choices = NULL;
  int i = 0;
  while (i < pega_num_prefill_implementations &&
         beyond_limits(&pega_prefill_implementations[i], call) != NULL) {
    ++i;
  }
  *out = &pega_prefill_implementations[i];
  if (i < pega_num_prefill_implementations) return PEGA_OK;
  return pega_error_set(error, PEGA_ERROR_INTERNAL, NULL, "%s: no implementation", call->function);
}

__attribute__((cold, noinline)) static pega_status unknown(const pega_prefill *call,
                                                           const char *name, size_t name_size,
                                                           pega_error *error) {
  char known[256];
  pega_text text = {known, sizeof known, 0};
  known[0] = '\0';
  for (int i = 0; i < pega_num_prefill_implementations; ++i) {
    const pega_prefill_implementation *candidate = &pega_prefill_implementations[i];
    if (candidate->place != call->place) continue;
    pega_text_printf(&text, "%s'%s'", text.size == 0 ? "" : ", ", candidate->name);
  }
  return pega_error_set(error, PEGA_ERROR_NOT_FOUND, NULL,
                        "%s: no implementation '%.*s' on a %s device: expected one of %s, or None",
                        call->function, (int)(name_size > 64 ? 64 : name_size), name,
                        place_name(call->place), known);
}

pega_status pega_prefill_choose(const pega_prefill *call, const char *name, size_t name_size,
                                const pega_prefill_implementation **out, pega_error *error) {
  if (name == NULL) {
    pega_choice_place place;
    return decide(call, &place, out, error);
  }
  for (int i = 0; i < pega_num_prefill_implementations; ++i) {
    const pega_prefill_implementation *candidate = &pega_prefill_implementations[i];
    if (candidate->place != call->place || strlen(candidate->name) != name_size ||
        memcmp(candidate->name, name, name_size) != 0) {
      continue;
    }
    const char *reason = candidate->unfit(call);
    if (reason != NULL) {
      return pega_error_set(error, PEGA_ERROR_UNSUPPORTED, NULL,
                            "%s: implementation '%s' cannot be used for this call: %s",
                            call->function, candidate->name, reason);
    }
    *out = candidate;
    return PEGA_OK;
  }
  return unknown(call, name, name_size, error);
}

/* With room to align it, so that a caller need not. */
int64_t pega_prefill_workspace(const pega_prefill *call,
                               const pega_prefill_implementation *implementation) {
  const int64_t bytes = implementation->workspace(call);
  return bytes == 0 ? 0 : bytes + kGdrWorkspaceAlignment;
}

/* --- explaining it --- */

static const char *why(const pega_prefill_implementation *candidate, const pega_prefill *call,
                       const pega_choice_place *place, int32_t time,
                       const pega_prefill_implementation *taken) {
  const bool by_table = place->choices != NULL;
  if (candidate == taken) return by_table ? "the shortest time" : "the first that fits";
  const char *reason = by_table ? cannot(candidate, call) : beyond_limits(candidate, call);
  if (reason != NULL) return reason;
  if (!by_table) return "an earlier one fits";
  if (time != kNoTime) return "another one is faster";
  return candidate->max_tokens == 0 ? by_name : "the table has no time of it for such sizes";
}

/* "1, 2": the rows of the table that were looked at. */
static void list_rows(const pega_choice_place *place, pega_text *text) {
  for (int i = 0; i < 4; ++i) {
    const int row = place->at[i / 2][i % 2];
    bool told = false;
    for (int k = 0; k < i; ++k) told = told || place->at[k / 2][k % 2] == row;
    if (!told) pega_text_printf(text, "%s%d", i == 0 ? "" : ", ", row);
  }
}

static pega_status explain_one(int index, const pega_prefill *call, const pega_choice_place *place,
                               const pega_prefill_implementation *taken, pega_value *out,
                               pega_error *error) {
  const pega_prefill_implementation *candidate = &pega_prefill_implementations[index];
  char when[96];
  char rows[64] = "";
  pega_text text = {rows, sizeof rows, 0};
  int32_t time = kNoTime;
  if (place->choices != NULL) {
    list_rows(place, &text);
    time = pega_choices_time(place, index);
  }
  if (candidate->max_tokens == INT64_MAX) {
    snprintf(when, sizeof when, "any length");
  } else if (candidate->max_tokens == 0) {
    snprintf(when, sizeof when, "by name only");
  } else {
    snprintf(when, sizeof when, "up to %" PRId64 " tokens a sequence, %" PRId64 " in all",
             candidate->max_tokens, candidate->max_total);
  }
  if (time != kNoTime) snprintf(when, sizeof when, "by its time");
  static const char *const names[] = {"name",  "device", "how",   "when", "reason",
                                      "table", "rows",   "taken", "us",   "workspace"};
  enum { kTexts = 7, kAll = sizeof names / sizeof *names };
  const bool known = place->choices != NULL;
  const char *const texts[kTexts] = {candidate->name,
                                     place_name(candidate->place),
                                     candidate->doc,
                                     when,
                                     why(candidate, call, place, time, taken),
                                     known ? place->choices->source : NULL,
                                     known ? rows : NULL};
  pega_value keys[kAll];
  pega_value values[kAll];
  for (int i = 0; i < kAll; ++i) {
    keys[i] = pega_value_string(names[i]);
    values[i] = i < kTexts && texts[i] != NULL ? pega_value_string(texts[i]) : pega_value_none();
  }
  values[kTexts] = pega_value_bool(candidate == taken);
  if (time != kNoTime) {
    values[kTexts + 1] = pega_value_float(exp2((double)time / kLogUnit) / kLogUnit);
  }
  if (candidate->place == call->place && candidate->unfit(call) == NULL) {
    values[kTexts + 2] = pega_value_int(pega_prefill_workspace(call, candidate));
  }
  return pega_map_create(keys, values, kAll, out, error);
}

pega_status pega_prefill_explain(const pega_prefill *call, pega_value *out, pega_error *error) {
  pega_value items[kMaxImplementations];
  int made = 0;
  pega_choice_place place;
  const pega_prefill_implementation *taken;
  pega_status status = decide(call, &place, &taken, error);
  while (made < pega_num_prefill_implementations && status == PEGA_OK) {
    status = explain_one(made, call, &place, taken, &items[made], error);
    if (status == PEGA_OK) ++made;
  }
  if (status == PEGA_OK) status = pega_array_create(items, made, out, error);
  for (int i = 0; i < made; ++i) pega_value_release(&items[i]);
  return status;
}
