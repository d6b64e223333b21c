# SPDX-License-Identifier: Apache-2.0
"""A peer of `pega bench`: Triton's own launcher in Python, with a kernel that has the parameters of the one
that pega launches.

Triton launches what it has compiled itself, and the solve is in words that not every Triton knows; what is measured
is the host time of a call, `kernel[grid](...)`, which does not depend on what the kernel does. So it is a
small one with the same parameters, grid and warps, which may begin early, too. docs/benchmark-peers.md.
"""

import importlib.util
import pathlib
import sys

import _common as common

OPTIONS = {"num_warps": 2, "num_stages": 1, "launch_pdl": True}


def load():
    path = pathlib.Path(__file__).resolve().parent / "_triton_kernel.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


class TritonLauncher(common.Peer):
    name = "Triton launcher"
    parts = ("launch",)

    def open(self):
        self.torch = common.cuda_torch()
        import triton

        self.one_element = load().one_element  # self.kernel is what pega tells of its own
        self.clock = common.GpuClock(self.torch, common.LAUNCHES)
        return triton.__version__

    def ways(self, part, case):
        torch = self.torch
        tokens, heads = common.sizes(case, "tokens", "value_heads")
        a_tril = common.solve_data(torch, tokens, heads, "cuda")
        a_inv = torch.full_like(a_tril, torch.nan, dtype=torch.bfloat16)
        programs = -(-tokens // common.CHUNK) * heads

        def launch():
            self.one_element[(programs,)](a_tril, a_inv, tokens, heads, **OPTIONS)

        def check():
            launch()
            expected = a_tril.flatten()[:programs].bfloat16()
            if not torch.equal(a_inv.flatten()[:programs], expected):
                raise common.LeftOut("what its kernel leaves is wrong")

        return {f"{self.name}, a kernel of the same parameters": common.judged(check, [launch])}


if __name__ == "__main__":
    sys.exit(common.serve(TritonLauncher()))
