/* SPDX-License-Identifier: Apache-2.0 */
/* The walk over tiles that every implementation shares. The including file defines
 *   SOLVE_TILES   the function to define here, of type pega_qwen35_chunk_solve_tiles
 *   SOLVE_TARGET  the attributes that let it use the instruction set; may be empty
 *   SOLVE_ROWS    solves four rows of a tile; see below
 *   SOLVE_FENCE   orders streamed stores before what follows
 *
 * The inverse X is found from the top down: X[i,:] = e_i - sum over j < i of A[i,j] X[j,:]. Row i
 * of A is needed for row i of X alone, so A is read where it lies, once, and only X is kept at
 * hand.
 *
 * Columns are cut into four strips of 16. X[i,:] is zero right of the strip that holds column i,
 * and strip s of the sum needs no j < 16 s, where X[j,:] is zero: half the work of a full product
 * is never done. Rows are taken four at a time, so that an entry of X is loaded once for four sums.
 * Not more than four: rows of A lie HV * 256 bytes apart, which for the usual HV puts them all into
 * the same few sets of the first-level cache.
 *
 *   SOLVE_ROWS(const float *const a[4], float *x, int row, uint16_t *const out[4], bool stream)
 *     a    rows row .. row + 3 of A; row + r is read in columns j < row + r only
 *     x    X as fp32 [64, 64]: rows j < row are read, rows row .. row + 3 are written, both only in
 *          the strips up to the one that crosses the diagonal
 *     out  where to write rows row .. row + 3 of X as bf16, all 64 columns
 *   In the strip that crosses the diagonal, exactly 1 and 0 are put on and above the diagonal: a
 * zero that was multiplied by an Inf of A would otherwise be a NaN by now.
 *
 * The sums run over j upwards in every implementation, so that those with fused multiply-add agree
 * to the bit. */

SOLVE_TARGET void SOLVE_TILES(const pega_qwen35_chunk_solve_job *job, int64_t begin, int64_t end) {
  _Alignas(64) float x[64 * 64];
  _Alignas(64) uint16_t unused_row[64];
  const int64_t row_stride = job->num_value_heads * 64;
  const int64_t chunk_stride = row_stride * 64;

  for (int64_t tile = begin; tile < end; tile++) {
    const int64_t chunk = tile / job->num_value_heads;
    const int64_t head = tile % job->num_value_heads;
    const int64_t num_rows = job->seq_len - chunk * 64;
    const float *tile_a = job->a_tril + chunk * chunk_stride + head * 64;
    uint16_t *tile_out = job->a_inv + chunk * chunk_stride + head * 64;

    const float *next_a = NULL;
    int64_t next_num_rows = 0;
    if (tile + 1 < end) {
      const bool same_chunk = head + 1 < job->num_value_heads;
      next_a = same_chunk ? tile_a + 64 : job->a_tril + (chunk + 1) * chunk_stride;
      next_num_rows = same_chunk ? num_rows : num_rows - 64;
    }

    for (int row = 0; row < 64 && row < num_rows; row += 4) {
      const float *a[4];
      uint16_t *out[4];
      for (int r = 0; r < 4; r++) {
        const bool exists = row + r < num_rows;
        /* A row past the end gets its neighbour's A, to have something to read; whatever comes of
         * it is thrown away. */
        a[r] = exists ? tile_a + (row + r) * row_stride : a[r - 1];
        out[r] = exists ? tile_out + (row + r) * row_stride : unused_row;
      }
      /* Into the second level only: in the first the next tile would push out this one. */
      for (int r = 0; r < 4 && row + r < next_num_rows; r++) {
        for (int column = 0; column <= row; column += 16) {
          __builtin_prefetch(next_a + (row + r) * row_stride + column, 0, 2);
        }
      }
      SOLVE_ROWS(a, x, row, out, job->stream);
    }
  }
  SOLVE_FENCE;
}
