# SPDX-License-Identifier: Apache-2.0
"""RMS norm of rows, in TileLang.

tools/dsl/tilelang_module.py says how it is compiled.
"""

import tilelang.language as T


def rms_norm(dtype, columns, threads=256):
    """out[r, :] = x[r, :] * weight / sqrt(mean(x[r, :]^2) + epsilon), computed in float32.

    x, out   dtype [rows, columns], contiguous; the number of rows is known when it is called
    weight   dtype [columns]
    epsilon  float
    A block of threads has one row in registers: it is read once.
    """
    rows = T.dynamic("rows")

    @T.prim_func
    def rms_norm(
        x: T.Tensor((rows, columns), dtype),
        weight: T.Tensor((columns,), dtype),
        out: T.Tensor((rows, columns), dtype),
        epsilon: T.float32,
    ):
        with T.Kernel(rows, threads=threads) as row:
            values = T.alloc_fragment((1, columns), "float32")
            squares = T.alloc_fragment((1, columns), "float32")
            mean = T.alloc_fragment((1,), "float32")
            for i, c in T.Parallel(1, columns):
                values[i, c] = T.cast(x[row + i, c], "float32")
            for i, c in T.Parallel(1, columns):
                squares[i, c] = values[i, c] * values[i, c]
            T.reduce_sum(squares, mean, dim=1)
            for i in T.Parallel(1):
                mean[i] = T.rsqrt(mean[i] / columns + epsilon)
            for i, c in T.Parallel(1, columns):
                out[row + i, c] = T.cast(
                    values[i, c] * mean[i] * T.cast(weight[c], "float32"), dtype
                )

    return rms_norm
