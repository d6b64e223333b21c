# SPDX-License-Identifier: Apache-2.0
"""A peer of `pega bench`: flash-linear-attention (FLA), in Triton.

It is imported from the folder that PEGA_FLA names, or as installed. FLA tunes its kernels once for a
number of heads, which takes a minute or more: here on 8192 tokens, or on the case itself where there
are several sequences. docs/benchmark-peers.md.
"""

import functools
import os
import sys

import _common as common

TUNED_AT = 8192  # tokens
SMALL = {False: (70,), True: (64, 5, 70)}  # lengths, of one sequence and of several


class Fla(common.Peer):
    name = "FLA"
    parts = ("prefill", "decode", "solve")

    def open(self):
        self.torch = common.cuda_torch()
        folder = os.environ.get("PEGA_FLA")
        if folder:
            sys.path.insert(0, folder)
        import fla
        from fla.ops import gated_delta_rule as ops

        self.chunk = ops.chunk_gated_delta_rule
        self.recurrent = ops.fused_recurrent_gated_delta_rule
        self.tuned = set()
        self.clock = common.GpuClock(self.torch)
        return getattr(fla, "__version__", "of unknown version")

    def ways(self, part, case):
        return {self.name: getattr(self, part)(case)}

    # --- prefill ---

    def run_prefill(self, data):
        """Output [T, HV, 128], final states [N, HV, K, V]."""
        several = len(data.lengths) > 1
        arguments = (tensor[None] for tensor in (data.q, data.k, data.v, data.g, data.beta))
        output, final = self.chunk(*arguments, output_final_state=True,
                                   cu_seqlens=data.starts if several else None)
        return output[0], final

    def prefill(self, case):
        torch = self.torch
        sequences, tokens, *heads = common.sizes(
            case, "sequences", "tokens", "key_heads", "value_heads"
        )
        several = sequences > 1
        key = (*heads, several)
        if key not in self.tuned:
            lengths = (tokens,) * sequences if several else (TUNED_AT,)
            self.run_prefill(common.prefill_data(torch, lengths, *heads, "cuda"))
            self.tuned.add(key)

        def check():
            small = self.small_prefill(torch, SMALL[several], *heads, "cuda")
            return self.judge_prefill(torch, self.name, small, *self.run_prefill(small))

        data = common.prefill_data(torch, (tokens,) * sequences, *heads, "cuda")
        return common.judged(check, [lambda: self.run_prefill(data)])

    # --- decode ---

    def run_decode(self, data, states):
        """FLA leaves the new states in other memory."""
        rows = {name: getattr(data, name)[:, None] for name in ("q", "k", "v", "g", "beta")}
        output, states = self.recurrent(**rows, initial_state=states, output_final_state=True)
        return output[:, 0], states

    def decode(self, case):
        torch = self.torch
        batch, *heads = common.sizes(case, "batch", "key_heads", "value_heads")

        def check():
            small = common.decode_data(torch, 3, *heads, "cuda")
            found = self.run_decode(small, small.sets[0])
            return common.judge(*found, common.decode_truth(torch, small))

        sets = self.sets_of(batch * heads[1] * common.HEAD**2 * 4)
        data = common.decode_data(torch, batch, *heads, "cuda", sets)
        runs = [functools.partial(self.run_decode, data, states) for states in data.sets]
        return common.judged(check, runs)

    # --- solve ---

    def solve(self, case):
        from fla.ops.utils.solve_tril import solve_tril

        torch = self.torch
        tokens, heads = common.sizes(case, "tokens", "value_heads")

        def run(a_tril):
            return solve_tril(a_tril[None], output_dtype=torch.bfloat16)[0]

        def check():
            small = common.solve_data(torch, 2 * common.CHUNK, heads, "cuda")
            return common.judge_solve(torch, small, run(small))

        a_tril = common.solve_data(torch, tokens, heads, "cuda")
        if ("solve", heads) not in self.tuned:
            run(a_tril if tokens >= TUNED_AT else common.solve_data(torch, TUNED_AT, heads, "cuda"))
            self.tuned.add(("solve", heads))
        sets = self.sets_of(a_tril.numel() * (4 + 2))  # with its result
        inputs = [a_tril, *(a_tril.clone() for _ in range(sets - 1))]
        return common.judged(check, [functools.partial(run, one) for one in inputs])


if __name__ == "__main__":
    sys.exit(common.serve(Fla()))
