# SPDX-License-Identifier: Apache-2.0
"""Qwen3.5's gated delta rule: the kernels that pega itself carries. Their parts are in qwen35/."""

import sys
from pathlib import Path

from pegapack import Pack

sys.path.insert(0, str(Path(__file__).resolve().parent))  # whoever loads this file
try:
    from qwen35.cuda import CUDA
    from qwen35.prefill import PREFILL
    from qwen35.reference import chunk_solve
    from qwen35.solve import SOLVE
    from qwen35.stages import STAGES
finally:
    sys.path.pop(0)

__all__ = ["PACK", "chunk_solve"]

PACK = Pack(
    name="qwen35",
    doc="Gated delta rule of Qwen3.5: compiled kernels of pega's own functions",
    functions=[SOLVE, *STAGES, *PREFILL, *CUDA],
)
