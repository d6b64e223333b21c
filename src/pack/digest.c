/* SPDX-License-Identifier: Apache-2.0 */
#include "digest.h"

#include <nettle/sha2.h>
#include <string.h>

static const char kHex[] = "0123456789abcdef";

void pega_sha256(const void *bytes, size_t size, unsigned char digest[kSha256Bytes]) {
  struct sha256_ctx context;
  sha256_init(&context);
  sha256_update(&context, size, bytes);
  sha256_digest(&context, kSha256Bytes, digest);
}

void pega_sha256_name(const unsigned char digest[kSha256Bytes], char name[2 * kSha256Bytes + 1]) {
  for (int i = 0; i < kSha256Bytes; ++i) {
    name[2 * i] = kHex[digest[i] >> 4];
    name[2 * i + 1] = kHex[digest[i] & 15];
  }
  name[2 * kSha256Bytes] = '\0';
}

bool pega_sha256_parse(const char *name, unsigned char digest[kSha256Bytes]) {
  if (strnlen(name, 2 * kSha256Bytes + 1) != 2 * kSha256Bytes) return false;
  for (int i = 0; i < 2 * kSha256Bytes; ++i) {
    const char *digit = strchr(kHex, name[i]);
    if (digit == NULL) return false;
    unsigned value = (unsigned)(digit - kHex);
    digest[i / 2] = (unsigned char)(i % 2 == 0 ? value << 4 : digest[i / 2] | value);
  }
  return true;
}
