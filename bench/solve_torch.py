# SPDX-License-Identifier: Apache-2.0
"""The chunk solve beside torch's batched triangular solve, in one process on the same cores.

Both run on the same tensors with the same number of threads, taking turns. torch gets its input as
one contiguous batch of [n, 64, 64] and leaves its result in float32, which is less work than the
layout and the bfloat16 that pega reads and writes. Left out, by name, where torch is not installed.
"""

import json
import os
import pathlib
import statistics
import sys
import time


def inputs(torch, seq_len, heads, seed):
    """A as the gated delta rule makes it: beta_i exp(G_i - G_j) (k_i . k_j) below the diagonal."""
    generator = torch.Generator().manual_seed(seed)
    chunks = seq_len // 64
    keys = torch.randn(chunks, heads, 64, 128, generator=generator)
    keys = keys / keys.norm(dim=-1, keepdim=True)
    beta = torch.rand(chunks, heads, 64, 1, generator=generator)
    gate = (-0.1 * torch.rand(chunks, heads, 64, generator=generator)).cumsum(-1)
    decay = torch.exp(gate[..., :, None] - gate[..., None, :])
    return torch.tril(beta * decay * (keys @ keys.transpose(-1, -2)), -1)


def median_us(samples):
    return statistics.median(samples) * 1e6


def measure(torch, solve, seq_len, heads):
    tiles = inputs(torch, seq_len, heads, seed=seq_len)
    a_tril = tiles.permute(0, 2, 1, 3).reshape(seq_len, heads, 64).contiguous()
    a_inv = torch.empty(seq_len, heads, 64, dtype=torch.bfloat16)
    eye = torch.eye(64)
    batch = (tiles + eye).reshape(-1, 64, 64).contiguous()
    right = eye.expand_as(batch).contiguous()

    def run_torch():
        return torch.linalg.solve_triangular(batch, right, upper=False, unitriangular=True)

    for _ in range(3):
        solve(a_tril, a_inv)
        run_torch()
    ours, theirs = [], []
    for _ in range(15):
        start = time.perf_counter()
        solve(a_tril, a_inv)
        middle = time.perf_counter()
        run_torch()
        ours.append(middle - start)
        theirs.append(time.perf_counter() - middle)
    found = a_inv.reshape(-1, 64, heads, 64).permute(0, 2, 1, 3).reshape(-1, 64, 64).double()
    truth = torch.linalg.inv(batch.double())
    return {
        "T": seq_len,
        "HV": heads,
        "pega_us": median_us(ours),
        "torch_us": median_us(theirs),
        "ratio": median_us(theirs) / median_us(ours),
        "max_error": float((found - truth).abs().max() / truth.abs().max()),
    }


def main():
    try:
        import torch
        import tvm_ffi
    except ImportError as missing:
        print(f"torch: left out, as {missing.name} is not installed for {sys.executable}"
              " (PEGA_TORCH_PYTHON names another Python)")
        return 0
    build = pathlib.Path(os.environ.get("PEGA_BUILD", "build/bench"))
    module = tvm_ffi.load_module(str(build / "lib" / "libpega_tvm_ffi.so"))
    solve = module["pega_get"]("pegainfer.qwen35.gated_delta_rule_chunk_solve")
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    rows = [measure(torch, solve, seq_len, 32) for seq_len in (512, 2048, 8192)]
    if "--json" in sys.argv:
        print(json.dumps({"torch": torch.__version__, "threads": threads, "rows": rows}))
        return 0
    print(f"chunk solve on the CPU beside torch {torch.__version__}, {threads} threads, median of 15")
    print(f"{'T':>6} {'HV':>4} {'pega us':>10} {'torch us':>10} {'ratio':>7} {'max error':>10}")
    for row in rows:
        print(f"{row['T']:6} {row['HV']:4} {row['pega_us']:10.0f} {row['torch_us']:10.0f}"
              f" {row['ratio']:7.1f} {row['max_error']:10.1e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
