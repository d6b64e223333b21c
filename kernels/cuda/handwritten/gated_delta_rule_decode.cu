/* SPDX-License-Identifier: Apache-2.0 */
/* The decode step as C functions: the kernels of the packs, cut in both ways, compiled in. */
#include "../gated_delta_rule.cuh"
#include "launch.h"

/* Kernels are C symbols: each way to cut has names of its own. */
#define KERNEL(name) name##_narrow
#define gated_delta_rule_decode KERNEL(decode)
#define gated_delta_rule_decode_projected KERNEL(decode_projected)
#define gated_delta_rule_decode_batch KERNEL(decode_batch)
#define BLOCKS 1 /* of a multiprocessor at least: no bound of registers */
#define COLUMNS 32
#define WARPS 4
namespace narrow {
#include "../gated_delta_rule_decode.cu"
}
#undef KERNEL
#undef COLUMNS
#undef WARPS
#define KERNEL(name) name##_wide
#define COLUMNS 64
#define WARPS 8
namespace wide {
#include "../gated_delta_rule_decode.cu"
}
#undef BLOCKS
#undef gated_delta_rule_decode
#undef gated_delta_rule_decode_projected
#undef gated_delta_rule_decode_batch

namespace {

constexpr int64_t kMostNarrow = 256; /* rows of heads: more fill the device when cut wide */
constexpr int32_t kMostHeads = 1 << 16;
constexpr int32_t kMostTokens =
    65535; /* of a grid's second dimension; a block walks over the rest */

/* What is wrong with the sizes, or NULL. */
const char *check_sizes(int32_t num_key_heads, int32_t num_value_heads, int32_t key_dim,
                        int32_t val_dim) {
  if (key_dim != pega::kDim || val_dim != pega::kDim) return "key_dim and val_dim have to be 128";
  if (num_key_heads < 1 || num_key_heads > kMostHeads || num_value_heads < 1 ||
      num_value_heads > kMostHeads) {
    return "num_key_heads and num_value_heads have to be 1 to 65536";
  }
  if (num_value_heads % num_key_heads != 0) {
    return "num_value_heads has to be a multiple of num_key_heads";
  }
  return nullptr;
}

template <typename... Pointers>
const char *check_pointers(Pointers... pointers) {
  const void *const all[] = {pointers...};
  for (const void *pointer : all) {
    if (pointer == nullptr) return "an array is NULL";
    if (!handwritten::aligned(pointer, 16)) return "an array is not aligned to 16 bytes";
  }
  return nullptr;
}

const __nv_bfloat16 *bf16(const uint16_t *bits) {
  return reinterpret_cast<const __nv_bfloat16 *>(bits);
}
__nv_bfloat16 *bf16(uint16_t *bits) { return reinterpret_cast<__nv_bfloat16 *>(bits); }

}  // namespace

EXPORT int gated_delta_rule_decode_cuda(const uint16_t *qkv, const uint16_t *b_proj,
                                        const uint16_t *a_proj, const uint16_t *dt_bias,
                                        const float *a_log, float *state, uint16_t *output,
                                        int32_t num_key_heads, int32_t num_value_heads,
                                        int32_t key_dim, int32_t val_dim, void *stream) {
  const char *wrong = check_sizes(num_key_heads, num_value_heads, key_dim, val_dim);
  if (wrong == nullptr) {
    wrong = check_pointers(qkv, b_proj, a_proj, dt_bias, a_log, state, output);
  }
  if (wrong != nullptr) return handwritten::bad_argument(wrong);
  const bool is_narrow = num_value_heads <= kMostNarrow;
  const unsigned blocks = pega::kDim / (is_narrow ? 32 : 64);
  return handwritten::launch(
      is_narrow ? narrow::decode_projected_narrow : wide::decode_projected_wide,
      dim3(static_cast<unsigned>(num_value_heads) * blocks), dim3(is_narrow ? 128 : 256), stream,
      bf16(qkv), bf16(b_proj), bf16(a_proj), bf16(dt_bias), a_log, state,
      static_cast<const void *>(nullptr), bf16(output), int64_t{1}, int64_t{1}, 32, num_key_heads,
      num_value_heads, pega::kDefaultScale);
}

EXPORT int gated_delta_rule_decode_batch_cuda(const uint16_t *qkv, const uint16_t *b_proj,
                                              const uint16_t *a_proj, const uint16_t *dt_bias,
                                              const float *a_log, const uint64_t *state_ptrs,
                                              uint16_t *output, int32_t batch_size,
                                              int32_t num_key_heads, int32_t num_value_heads,
                                              int32_t key_dim, int32_t val_dim, void *stream) {
  const char *wrong = check_sizes(num_key_heads, num_value_heads, key_dim, val_dim);
  if (wrong == nullptr && batch_size < 0) wrong = "batch_size is negative";
  if (wrong == nullptr && batch_size == 0) return 0;
  if (wrong == nullptr) {
    wrong = check_pointers(qkv, b_proj, a_proj, dt_bias, a_log, state_ptrs, output);
  }
  if (wrong != nullptr) return handwritten::bad_argument(wrong);
  const bool is_narrow = int64_t{batch_size} * num_value_heads <= kMostNarrow;
  const unsigned blocks = pega::kDim / (is_narrow ? 32 : 64);
  const unsigned tokens =
      static_cast<unsigned>(batch_size < kMostTokens ? batch_size : kMostTokens);
  return handwritten::launch(is_narrow ? narrow::decode_batch_narrow : wide::decode_batch_wide,
                             dim3(static_cast<unsigned>(num_value_heads) * blocks, tokens),
                             dim3(is_narrow ? 128 : 256), stream, bf16(qkv), bf16(b_proj),
                             bf16(a_proj), bf16(dt_bias), a_log, state_ptrs, bf16(output),
                             int64_t{batch_size}, num_key_heads, num_value_heads);
}
