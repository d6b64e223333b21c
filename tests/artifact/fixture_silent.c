/* SPDX-License-Identifier: Apache-2.0 */
/* Needs symbols and defines none: its table of hashes is empty, and does not say how many there are. */
int other(void);
int other_plain(void);

static __attribute__((used)) int (*const wanted[])(void) = {other, other_plain};
