/* SPDX-License-Identifier: Apache-2.0 */
/* A shared library with a bit of everything that is read: versions, a weak symbol, data. */
int other(void);
int other_plain(void);
__attribute__((weak)) int perhaps(void);
int small_call(void);
int small_second(void);

const char small_text[] = "the bytes of a symbol";

int small_call(void) { return other() + other_plain() + (perhaps ? perhaps() : 0); }
int small_second(void) { return 2; }
