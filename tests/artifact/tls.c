/* SPDX-License-Identifier: Apache-2.0 */
/* A variable of each thread's own: the library that has it (OWNS), and one that uses it. */
#ifdef OWNS
extern __thread int tls_value;
__thread int tls_value = 7;
#else
extern __thread int tls_value;
int test_module_value(void);
int test_module_value(void) { return tls_value; }
#endif
