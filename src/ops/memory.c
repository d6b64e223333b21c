/* SPDX-License-Identifier: Apache-2.0 */
#include "memory.h"

#include <inttypes.h>

#include "core/hot.h"

__attribute__((cold, noinline)) static pega_status fail_end(const char *function,
                                                            const pega_memory *item,
                                                            pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_RANGE, NULL,
                        "%s: '%s' at 0x%" PRIxPTR " with %" PRId64
                        " bytes ends past the address space",
                        function, item->name, item->begin, item->bytes);
}

__attribute__((cold, noinline)) static pega_status fail_overlap(const char *function,
                                                                const pega_memory *output,
                                                                const pega_memory *other,
                                                                pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_LAYOUT, NULL,
                        "%s: '%s' and '%s' overlap: [0x%" PRIxPTR ", 0x%" PRIxPTR
                        ") and [0x%" PRIxPTR ", 0x%" PRIxPTR "): expected separate memory%s",
                        function, output->name, other->name, output->begin,
                        output->begin + (uintptr_t)output->bytes, other->begin,
                        other->begin + (uintptr_t)other->bytes,
                        output->in_place >= 0 || other->in_place >= 0
                            ? ", or exactly the same where a call may work in place"
                            : "");
}

PEGA_HOT pega_status pega_memory_check(const char *function, const pega_memory *memory, int count,
                                       pega_error *error) {
  for (int i = 0; i < count; ++i) {
    uintptr_t end;
    if (__builtin_add_overflow(memory[i].begin, (uintptr_t)memory[i].bytes, &end)) {
      return fail_end(function, &memory[i], error);
    }
  }
  for (int i = 0; i < count; ++i) {
    const pega_memory *output = &memory[i];
    if (!output->output || output->bytes == 0) continue;
    for (int j = 0; j < count; ++j) {
      const pega_memory *other = &memory[j];
      if (j == i || other->bytes == 0 || output->begin >= other->begin + (uintptr_t)other->bytes ||
          other->begin >= output->begin + (uintptr_t)output->bytes) {
        continue;
      }
      const bool same = output->begin == other->begin && output->bytes == other->bytes;
      if (same && (output->in_place == j || other->in_place == i)) continue;
      return fail_overlap(function, output, other, error);
    }
  }
  return PEGA_OK;
}
