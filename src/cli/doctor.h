/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file doctor.h
 * \brief The parts of `pega doctor`'s report.
 *
 * Each returns an owned JSON object, which is printed as it is or as text, and appends a string to
 * `problems` for each thing that is there and does not work. What is merely absent is no problem.
 */
#ifndef PEGA_CLI_DOCTOR_H_
#define PEGA_CLI_DOCTOR_H_

#include "print.h"

/** \brief The TVM FFI runtime. `library`: the one to open, NULL to search. */
json_t *cli_doctor_bridge(const char *library, json_t *problems);
/** \brief The CUDA driver and its devices. */
json_t *cli_doctor_cuda(json_t *problems);
/** \brief cuBLAS, which pegainfer.cublas.gemm opens. */
json_t *cli_doctor_cublas(json_t *problems);
/** \brief PEGA_PACK_PATH and the packs that it names, and the pack in libpega, each verified. */
json_t *cli_doctor_packs(json_t *problems);
/** \brief The processor, and which of its features matter here. */
json_t *cli_doctor_cpu(void);
/** \brief Number of functions, and the solve tried on a small tensor. */
json_t *cli_doctor_functions(json_t *problems);

#endif  // PEGA_CLI_DOCTOR_H_
