/* SPDX-License-Identifier: Apache-2.0 */
/* A library that another needs: two versions of one function, and one with no version's default. */
int other_old(void);
int other_new(void);
int other_plain(void);

__asm__(".symver other_old, other@OTHER_1");
__asm__(".symver other_new, other@@OTHER_2");

int other_old(void) { return 1; }
int other_new(void) { return 2; }
int other_plain(void) { return 3; }
