/* SPDX-License-Identifier: Apache-2.0 */
/* Calls a C function whose arguments are known when the program runs: integers, pointers, float and double,
 * in the places that the calling convention of x86-64 (System V) or aarch64 (AAPCS64) gives them. */
#ifndef PEGA_ARTIFACT_PLAIN_CALL_H_
#define PEGA_ARTIFACT_PLAIN_CALL_H_

#include <stddef.h>
#include <stdint.h>

/* Words of the arguments: those for integer registers, those for floating-point registers, those for the
 * stack. An integer narrower than its word is extended by its sign or by zero; a float is in the low half
 * of its word. */
enum {
#if defined(__x86_64__)
  kPlainInts = 6,
#else
  kPlainInts = 8,
#endif
  kPlainFloats = 8,
  kPlainFloatsAt = 8, /* place of the first floating-point word */
  kPlainStackAt = 16  /* place of the first word on the stack */
};

/* What came back: in the integer and in the floating-point register. */
typedef struct pega_plain_result {
  uint64_t word;
  double number; /* a float is in its low half */
} pega_plain_result;

/* `words` has kPlainStackAt + num_stack of them; which of them mean nothing does not matter. Exceptions
 * pass. */
void pega_plain_call(const void *function, const uint64_t *words, size_t num_stack,
                     pega_plain_result *out);

#endif /* PEGA_ARTIFACT_PLAIN_CALL_H_ */
