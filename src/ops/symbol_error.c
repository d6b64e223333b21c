/* SPDX-License-Identifier: Apache-2.0 */
#include "symbol_error.h"

#include "cuda/driver.h"
#include "pega/qwen35.h"

/* Inline text alone, never a detail: nothing is left to free when the thread ends. */
static _Thread_local pega_error last_error;

int pega_symbol_return(const char *symbol, pega_status status, pega_error *error) {
  int result = pega_cuda_result(status, error);
  if (status == PEGA_OK) {
    last_error.status = PEGA_OK;
    return result;
  }
  int32_t code = error->code;
  pega_error_set(&last_error, status, NULL, "%s: %s", symbol, pega_error_message(error));
  last_error.code = code;
  /* Whole text that does not fit inline is let go. */
  pega_error inline_only = last_error;
  inline_only.detail = NULL;
  pega_error_clear(&last_error);
  last_error = inline_only;
  pega_error_clear(error);
  return result;
}

pega_status pega_symbol_last_error(pega_error *error) {
  if (error != NULL) {
    pega_error_clear(error);
    if (last_error.status != PEGA_OK) *error = last_error;
  }
  return (pega_status)last_error.status;
}
