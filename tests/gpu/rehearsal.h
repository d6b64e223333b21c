/* SPDX-License-Identifier: Apache-2.0 */
/* Lets the fake driver compute the solve, so that the GPU programs can be run without a GPU. */
#ifndef PEGA_TESTS_GPU_REHEARSAL_H_
#define PEGA_TESTS_GPU_REHEARSAL_H_

/* Ends the process if the fake driver does not offer what this needs. */
void rehearsal_begin(void);

#endif /* PEGA_TESTS_GPU_REHEARSAL_H_ */
