/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PEGA_PACK_DIGEST_H_
#define PEGA_PACK_DIGEST_H_

#include <stdbool.h>
#include <stddef.h>

#include "description.h"

/* SHA-256 of `size` bytes. */
void pega_sha256(const void *bytes, size_t size, unsigned char digest[kSha256Bytes]);

/* The digest in lower-case hexadecimal, with a NUL. */
void pega_sha256_name(const unsigned char digest[kSha256Bytes], char name[2 * kSha256Bytes + 1]);
/* Reads what pega_sha256_name() writes; false for anything else. */
bool pega_sha256_parse(const char *name, unsigned char digest[kSha256Bytes]);

#endif /* PEGA_PACK_DIGEST_H_ */
