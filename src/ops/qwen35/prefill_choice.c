/* SPDX-License-Identifier: Apache-2.0 */
/* Which implementation a prefill takes. */
#include <inttypes.h>
#include <stdio.h>

#include "core/text.h"
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

/* Limits are where, on an H100 and on a processor with AVX-512, the next one began to be faster. */
const pega_prefill_implementation pega_prefill_implementations[] = {
    {"cpu_recurrent", kPlaceCpu, 4, 1024, fits_all, pega_prefill_cpu_recurrent_workspace,
     pega_prefill_cpu_recurrent, "token by token"},
    {"cpu_chunked", kPlaceCpu, INT64_MAX, INT64_MAX, fits_all, pega_prefill_cpu_chunked_workspace,
     pega_prefill_cpu_chunked, "chunks of 32 tokens"},
    {"cuda_recurrent", kPlaceCuda, 16, 1024, fits_all, pega_prefill_recurrent_workspace,
     pega_prefill_recurrent, "token by token, one launch"},
    {"triton_chunked", kPlaceCuda, INT64_MAX, INT64_MAX, fits_all, pega_prefill_chunked_workspace,
     pega_prefill_chunked, "chunks of 64 tokens, two launches"},
    {"triton_stages", kPlaceCuda, 0, 0, one_projected_sequence, pega_prefill_stages_workspace,
     pega_prefill_stages, "the seven stages, one launch each"},
    {"flashinfer", kPlaceCuda, 0, 0, pega_prefill_whole_unfit, pega_prefill_whole_workspace,
     pega_prefill_whole, "a function that was provided, one kernel"},
    {"flashinfer_cp", kPlaceCuda, 0, 0, pega_prefill_parallel_unfit,
     pega_prefill_parallel_workspace, pega_prefill_parallel,
     "a function that was provided, chunks side by side"},
};
const int pega_num_prefill_implementations =
    (int)(sizeof pega_prefill_implementations / sizeof *pega_prefill_implementations);

static const char *place_name(pega_gdr_place place) { return place == kPlaceCpu ? "cpu" : "cuda"; }

/* Whether the table takes it, and in `reason` why, or why not. */
static bool takes(const pega_prefill_implementation *candidate, const pega_prefill *call,
                  const char **reason) {
  if (candidate->place != call->place) {
    *reason = "it runs elsewhere";
    return false;
  }
  *reason = candidate->unfit(call);
  if (*reason != NULL) return false;
  if (candidate->max_tokens == 0) {
    *reason = "taken only when it is asked for by name";
    return false;
  }
  /* T <= max N; an empty batch takes the first. */
  if (candidate->max_tokens != INT64_MAX &&
      call->shape.num_tokens > candidate->max_tokens * call->shape.num_sequences) {
    *reason = "the sequences are longer on average";
    return false;
  }
  if (call->shape.num_tokens > candidate->max_total) {
    *reason = "there are more tokens, and one sequence may have most of them";
    return false;
  }
  *reason = "the first that fits";
  return true;
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
  const char *reason;
  for (int i = 0; i < pega_num_prefill_implementations; ++i) {
    const pega_prefill_implementation *candidate = &pega_prefill_implementations[i];
    if (name == NULL) {
      if (!takes(candidate, call, &reason)) continue;
    } else {
      if (candidate->place != call->place || strlen(candidate->name) != name_size ||
          memcmp(candidate->name, name, name_size) != 0) {
        continue;
      }
      reason = candidate->unfit(call);
      if (reason != NULL) {
        return pega_error_set(error, PEGA_ERROR_UNSUPPORTED, NULL,
                              "%s: implementation '%s' cannot be used for this call: %s",
                              call->function, candidate->name, reason);
      }
    }
    *out = candidate;
    return PEGA_OK;
  }
  if (name != NULL) return unknown(call, name, name_size, error);
  return pega_error_set(error, PEGA_ERROR_INTERNAL, NULL, "%s: no implementation", call->function);
}

/* With room to align it, so that a caller need not. */
int64_t pega_prefill_workspace(const pega_prefill *call,
                               const pega_prefill_implementation *implementation) {
  const int64_t bytes = implementation->workspace(call);
  return bytes == 0 ? 0 : bytes + kGdrWorkspaceAlignment;
}

/* --- explaining it --- */

static pega_status explain_one(const pega_prefill_implementation *candidate,
                               const pega_prefill *call, bool *taken, pega_value *out,
                               pega_error *error) {
  char when[96];
  if (candidate->max_tokens == INT64_MAX) {
    snprintf(when, sizeof when, "any length");
  } else if (candidate->max_tokens == 0) {
    snprintf(when, sizeof when, "by name only");
  } else if (candidate->max_total == INT64_MAX) {
    snprintf(when, sizeof when, "up to %" PRId64 " tokens a sequence", candidate->max_tokens);
  } else {
    snprintf(when, sizeof when, "up to %" PRId64 " tokens a sequence, %" PRId64 " in all",
             candidate->max_tokens, candidate->max_total);
  }
  const char *reason;
  bool takes_it = takes(candidate, call, &reason);
  if (takes_it && *taken) {
    takes_it = false;
    reason = "an earlier one fits";
  }
  *taken = *taken || takes_it;
  const pega_value keys[] = {pega_value_string("name"),     pega_value_string("device"),
                             pega_value_string("how"),      pega_value_string("when"),
                             pega_value_string("taken"),    pega_value_string("reason"),
                             pega_value_string("workspace")};
  const pega_value values[] = {pega_value_string(candidate->name),
                               pega_value_string(place_name(candidate->place)),
                               pega_value_string(candidate->doc),
                               pega_value_string(when),
                               pega_value_bool(takes_it),
                               pega_value_string(reason),
                               candidate->place == call->place && candidate->unfit(call) == NULL
                                   ? pega_value_int(pega_prefill_workspace(call, candidate))
                                   : pega_value_none()};
  return pega_map_create(keys, values, (int64_t)(sizeof keys / sizeof *keys), out, error);
}

pega_status pega_prefill_explain(const pega_prefill *call, pega_value *out, pega_error *error) {
  pega_value items[16];
  int made = 0;
  bool taken = false;
  pega_status status = PEGA_OK;
  while (made < pega_num_prefill_implementations && status == PEGA_OK) {
    status = explain_one(&pega_prefill_implementations[made], call, &taken, &items[made], error);
    if (status == PEGA_OK) ++made;
  }
  if (status == PEGA_OK) status = pega_array_create(items, made, out, error);
  for (int i = 0; i < made; ++i) pega_value_release(&items[i]);
  return status;
}
