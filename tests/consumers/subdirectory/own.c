/* SPDX-License-Identifier: Apache-2.0 */
int own(void);
int own(void) { return 1; }
