/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file tensor.h
 * \brief Tensors in private CPU memory, and their elements as text.
 */
#ifndef PEGA_CLI_TENSOR_H_
#define PEGA_CLI_TENSOR_H_

#include <stdio.h>

#include <pega/pega.h>

/** \brief Every tensor's memory starts at a multiple of this many bytes. */
#define CLI_TENSOR_ALIGNMENT 64

/** \brief A row-major tensor with memory of its own; `view.data` is NULL where there is none. */
typedef struct cli_tensor {
  DLTensor view;
  int64_t shape[PEGA_MAX_RANK];
} cli_tensor;

/**
 * \brief Bytes of a row-major tensor.
 * \return PEGA_ERROR_SHAPE for a rank above PEGA_MAX_RANK, a negative size, or sizes whose product
 *         is too great, even where another size is 0.
 */
pega_status cli_tensor_bytes(DLDataType dtype, int32_t ndim, const int64_t *shape, uint64_t *out,
                             pega_error *error);

/**
 * \brief Makes a tensor of zeros on the CPU. End it with cli_tensor_clear().
 *
 * More memory than the machine has is refused: where memory is lent freely, asking for it would
 * otherwise end the process later.
 * \param out Must not be moved afterwards: `view.shape` points into it.
 */
pega_status cli_tensor_create(DLDataType dtype, int32_t ndim, const int64_t *shape, cli_tensor *out,
                              pega_error *error);
void cli_tensor_clear(cli_tensor *tensor);

/** \brief Reads "bfloat16[1000,32,64]" and makes a tensor of zeros of it. */
pega_status cli_tensor_parse_zeros(const char *text, cli_tensor *out, pega_error *error);

/**
 * \brief Copies a tensor that may have strides and may be owned by others into a row-major one.
 * \return PEGA_ERROR_DEVICE for memory that the CPU cannot read.
 */
pega_status cli_tensor_copy(const DLTensor *tensor, cli_tensor *out, pega_error *error);

/** \brief Prints "float32[2, 3] on cpu:0: 1, 2, 3, 4, ..." without a newline. */
void cli_tensor_print(FILE *stream, const DLTensor *tensor);

#endif  // PEGA_CLI_TENSOR_H_
