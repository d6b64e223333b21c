/* SPDX-License-Identifier: Apache-2.0 */
/* Symbols that have a version each and no default: dlsym() finds neither, and what was linked without
 * versions finds that of the oldest one alone. */
int oldest(void);
int newer(void);

__asm__(".symver oldest, hidden_oldest@HIDDEN_1");
__asm__(".symver newer, hidden_newer@HIDDEN_2");

int oldest(void) { return 1; }
int newer(void) { return 2; }
