# SPDX-License-Identifier: Apache-2.0
"""Kernels that come out wrong if any part of Triton's launch convention is served wrongly.

Each function is for one part of it, and its golden cases are the proof: `pega test abi.pegapack`.
"""

from abi_common import PLAIN, SINCE_SM90
from abi_cuda import CUDA
from abi_descriptors import (
    DESCRIPTOR_SHAPES,
    DESCRIPTOR_TF32,
    descriptor_copy,
    descriptor_padding,
    made_in_kernel,
)
from abi_launches import CLUSTER, COOPERATIVE, DEPENDENT, GRID, LARGE_GRID, WARPS, product
from abi_scalars import SCALARS
from abi_variants import EXPRESSIONS, FILLS, SPECIALISED

from pegapack import Options, Pack

PACK = Pack(
    name="abi",
    doc="Kernels that prove each part of Triton's launch convention",
    functions=[
        SCALARS,
        *[
            descriptor_copy(rank, dtype, shape, block)
            for rank, (shape, block) in DESCRIPTOR_SHAPES.items()
            for dtype in ("float32", "bfloat16")
        ],
        *[
            descriptor_padding(dtype, padding)
            for dtype in ("float32", "bfloat16", "float16", "float64")
            for padding in ("zero", "nan")
        ],
        DESCRIPTOR_TF32,
        made_in_kernel(
            "abi.global_scratch",
            "Descriptors made in the kernel, which need the launch's scratch",
            PLAIN,
        ),
        made_in_kernel(
            "abi.global_scratch_cluster",
            "The same by clusters of two CTAs",
            Options(num_warps=4, num_ctas=2, enable_fp_fusion=True),
            SINCE_SM90,
        ),
        product(
            "abi.shared_over_48k",
            "A product that takes more shared memory than a launch has unasked",
            (128, 128, 64),
            Options(num_warps=4, num_stages=3, enable_fp_fusion=True),
        ),
        product(
            "abi.shared_near_limit",
            "The same, near the most that the GPU has",
            (128, 128, 64),
            Options(num_warps=8, num_stages=5, enable_fp_fusion=True),
            targets=("sm_80", "sm_90", "sm_100", "sm_103"),
            options_for={t: {"num_stages": 7} for t in ("sm_90", "sm_100", "sm_103")},
        ),
        WARPS,
        GRID,
        LARGE_GRID,
        CLUSTER,
        DEPENDENT,
        COOPERATIVE,
        SPECIALISED,
        EXPRESSIONS,
        FILLS,
        *CUDA,
    ],
)
