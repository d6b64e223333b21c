# SPDX-License-Identifier: Apache-2.0
"""A peer of `pega bench`: FlashInfer's gated delta rule, through its own Python.

The prefill for sm_90 with and without context-parallel, and both kernels of the decode step: of states
[V,K], which it calls pretransposed, and [K,V]. FlashInfer is imported as installed. Where CuTe DSL is
not, which compiles its kernels, it is imported from the folder that PEGA_FLASHINFER names, if one is
named, and its kernels come from the module that PEGA_FLASHINFER_KERNELS names; the version says so.
docs/benchmark-peers.md.
"""

import importlib.util
import os
import sys

import _common as common
import _flashinfer_ahead as ahead

SMALL = {False: (70,), True: (64, 5, 70)}  # lengths, of one sequence and of several


class FlashInfer(common.Peer):
    name = "FlashInfer"
    parts = ("prefill", "decode")

    def open(self):
        folder = os.environ.get("PEGA_FLASHINFER")
        if folder:
            # With its compiler, what is installed is whole; a folder may have a part of it.
            sys.path.insert(0 if ahead.needed() else len(sys.path), folder)
            sys.path.append(os.path.join(folder, "lacking"))  # what it imports, if nobody else has it
        self.torch = common.cuda_torch()
        if importlib.util.find_spec("flashinfer") is None:
            raise common.LeftOut("No module named 'flashinfer'")
        kernels = os.environ.get("PEGA_FLASHINFER_KERNELS")
        if not ahead.needed():
            import flashinfer

            version = flashinfer.__version__
        elif kernels:
            version = ahead.install(kernels)
            if self.torch.cuda.get_device_capability() != (9, 0):
                raise common.LeftOut("its kernels were compiled ahead for sm_90a alone")
        else:
            raise common.LeftOut("CuTe DSL (nvidia-cutlass-dsl), which compiles its kernels, is not"
                                 " installed, and PEGA_FLASHINFER_KERNELS names no module of them")
        from flashinfer import gdn_decode, gdn_prefill

        self.chunk = gdn_prefill.chunk_gated_delta_rule
        self.decodes = {
            "FlashInfer [V,K]": (gdn_decode.gated_delta_rule_decode_pretranspose, True),
            "FlashInfer [K,V]": (gdn_decode.gated_delta_rule_decode, False),
        }
        self.clock = common.GpuClock(self.torch)
        return version

    def ways(self, part, case):
        return getattr(self, part)(case)

    # --- prefill ---

    def prefill_run(self, data, use_cp):
        """A call without arguments; output [T, HV, 128] and final states [N, HV, V, K]."""
        torch = self.torch
        heads = data.v.shape[1]
        final = torch.empty(len(data.lengths), heads, common.HEAD, common.HEAD, device="cuda")
        given = {
            "q": data.q,
            "k": data.k,
            "v": data.v,
            "g": data.g.exp(),
            "beta": data.beta,
            "cu_seqlens": data.starts,
            "output": torch.empty_like(data.v),
            "output_state": final,
            "output_final_state": True,
            "use_cp": use_cp,
            "max_seqlen": max(data.lengths),
        }
        return lambda: self.chunk(**given)

    def prefill(self, case):
        torch = self.torch
        sequences, tokens, *heads = common.sizes(
            case, "sequences", "tokens", "key_heads", "value_heads"
        )
        data = common.prefill_data(torch, (tokens,) * sequences, *heads, "cuda")
        small = self.small_prefill(torch, SMALL[sequences > 1], *heads, "cuda")

        def way(name, use_cp):
            def check():
                output, final = self.prefill_run(small, use_cp)()
                return self.judge_prefill(torch, name, small, output, final.mT)

            return common.judged(check, [self.prefill_run(data, use_cp)])

        return {name: way(name, use_cp) for name, use_cp in (("FlashInfer", False), ("FlashInfer CP", True))}

    # --- decode ---

    def decode_run(self, data, decode, states):
        """A call without arguments; output [B, 1, HV, 128] and the states, which it changes in place."""
        given = {
            "q": data.q[:, None],
            "k": data.k[:, None],
            "v": data.v[:, None],
            "state": states,
            "A_log": data.a_log,
            "a": data.a[:, None],
            "dt_bias": data.dt_bias,
            "b": data.b[:, None],
            "output": self.torch.empty_like(data.v)[:, None],
            "backend": "flashinfer",
        }
        return lambda: decode(**given)

    def decode(self, case):
        torch = self.torch
        batch, *heads = common.sizes(case, "batch", "key_heads", "value_heads")
        sets = self.sets_of(batch * heads[1] * common.HEAD**2 * 4)
        data = common.decode_data(torch, batch, *heads, "cuda", sets)
        # The [K,V] kernel is another one for small batches.
        small = common.decode_data(torch, min(batch, 33), *heads, "cuda")
        truth = common.decode_truth(torch, small)

        def way(decode, transposed):
            def sets_of(of):
                return (of.sets.mT if transposed else of.sets).clone(
                    memory_format=torch.contiguous_format)

            def check():
                output, states = self.decode_run(small, decode, sets_of(small)[0])()
                return common.judge(output[:, 0], states.mT if transposed else states, truth)

            runs = [self.decode_run(data, decode, states) for states in sets_of(data)]
            return common.judged(check, runs)

        return {name: way(*how) for name, how in self.decodes.items()}


if __name__ == "__main__":
    sys.exit(common.serve(FlashInfer()))
