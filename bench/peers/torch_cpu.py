# SPDX-License-Identifier: Apache-2.0
"""A peer of `pega bench`: the gated delta rule in plain torch on the CPU.

The prefill is the chunked form that CPU users have without a kernel: in float32, heads repeated, tokens
padded to whole chunks, the inverse row by row and the state chunk by chunk in Python loops. The decode
is the recurrence, one token. The solve is torch's batched triangular solve, which gets its input as one
contiguous batch of [n, 64, 64] and leaves its result in float32: less work than the layout and the
bfloat16 that pega reads and writes. Prefill and decode get bfloat16 tensors with q and k normalised
before, and leave bfloat16. A case says how many threads torch has.
"""

import sys

import _common as common
from _common import CHUNK, HEAD, SCALE, repeated

SMALL = 100  # tokens of the small case


class TorchCpu(common.Peer):
    name = "torch"
    parts = ("cpu",)

    def open(self):
        import torch

        torch.set_grad_enabled(False)
        self.torch = torch
        self.clock = common.CpuClock()
        return torch.__version__

    def ways(self, part, case):
        ops = {"prefill": self.prefill, "decode": self.decode, "solve": self.solve}
        if case.get("op") not in ops:
            raise common.LeftOut(f"a case has an 'op' of {', '.join(ops)}, got {case.get('op')!r}")
        (threads,) = common.sizes(case, "threads")
        self.torch.set_num_threads(threads)
        return {self.name: ops[case["op"]](case)}

    # --- prefill ---

    def chunked(self, q, k, v, g, beta, state):
        """One sequence, 64 tokens at a time: the output in bfloat16 and the last state."""
        torch = self.torch
        tokens, heads, _ = v.shape
        padding = -tokens % CHUNK

        def chunks(x):  # [T, HV, ...] as [HV, chunks, 64, ...]
            x = x.transpose(0, 1).contiguous().float()
            x = torch.nn.functional.pad(x, (0, 0) * (x.dim() - 2) + (0, padding))
            return x.unflatten(1, (-1, CHUNK))

        dtype = v.dtype
        q, k = chunks(repeated(q, heads)) * SCALE, chunks(repeated(k, heads))
        v, g, beta = chunks(v), chunks(g).cumsum(-1), chunks(beta)[..., None]
        decay = (g[..., :, None] - g[..., None, :]).tril().exp().tril()
        # (I + A)^-1 by forward substitution: row i from the rows above it.
        inverse = -((k * beta) @ k.mT * decay).tril(-1)
        for i in range(1, CHUNK):
            row = inverse[..., i, :i]
            inverse[..., i, :i] = row + (row[..., None] * inverse[..., :i, :i]).sum(-2)
        inverse = inverse + torch.eye(CHUNK)
        u = inverse @ (v * beta)
        w = inverse @ (k * beta * g.exp()[..., None])
        output = torch.empty_like(v)
        for c in range(v.shape[1]):
            attention = q[:, c] @ k[:, c].mT * decay[:, c]
            new = u[:, c] - w[:, c] @ state
            output[:, c] = (q[:, c] * g[:, c].exp()[..., None]) @ state + attention @ new
            last = g[:, c, -1:]
            kept = k[:, c] * (last - g[:, c]).exp()[..., None]
            state = state * last.exp()[..., None] + kept.mT @ new
        output = output.flatten(1, 2)[:, :tokens].transpose(0, 1).contiguous()
        return output.to(dtype), state

    def run_prefill(self, data):
        zeros = self.torch.zeros(data.v.shape[1], HEAD, HEAD)
        outputs, finals, start = [], [], 0
        for length in data.lengths:
            here = slice(start, start + length)
            rows = (x[here] for x in (data.q, data.k, data.v, data.g, data.beta))
            output, final = self.chunked(*rows, zeros)
            outputs.append(output)
            finals.append(final)
            start += length
        return outputs, finals

    def prefill(self, case):
        torch = self.torch
        sequences, tokens, *heads = common.sizes(
            case, "sequences", "tokens", "key_heads", "value_heads"
        )

        def check():
            small = common.prefill_data(torch, (SMALL,), *heads, "cpu")
            outputs, finals = self.run_prefill(small)
            return common.judge(torch.cat(outputs), torch.stack(finals),
                                common.recurrence(torch, small))

        data = common.prefill_data(torch, (tokens,) * sequences, *heads, "cpu")
        return common.judged(check, [lambda: self.run_prefill(data)])

    # --- decode ---

    def run_decode(self, data):
        heads = data.v.shape[1]
        q, k = repeated(data.q, heads).float(), repeated(data.k, heads).float()
        states, output = common.step(data.sets[0], q, k, data.v.float(), data.g, data.beta)
        return output.to(data.v.dtype), states

    def decode(self, case):
        torch = self.torch
        batch, *heads = common.sizes(case, "batch", "key_heads", "value_heads")

        def check():
            small = common.decode_data(torch, min(batch, 3), *heads, "cpu")
            return common.judge(*self.run_decode(small), common.decode_truth(torch, small))

        data = common.decode_data(torch, batch, *heads, "cpu")
        return common.judged(check, [lambda: self.run_decode(data)])

    # --- solve ---

    def run_solve(self, a_tril):
        """A call without arguments; the inverses [chunks * HV, 64, 64] of I + A."""
        torch = self.torch
        eye = torch.eye(CHUNK)
        tiles = a_tril.reshape(-1, CHUNK, a_tril.shape[1], CHUNK).transpose(1, 2)
        batch = (tiles + eye).reshape(-1, CHUNK, CHUNK).contiguous()
        right = eye.expand_as(batch).contiguous()
        return lambda: torch.linalg.solve_triangular(batch, right, upper=False, unitriangular=True)

    def solve(self, case):
        torch = self.torch
        tokens, heads = common.sizes(case, "tokens", "value_heads")
        if tokens % CHUNK != 0:
            raise common.LeftOut("torch solves whole chunks of 64 tokens alone")

        def check():
            small = common.solve_data(torch, 2 * CHUNK, heads, "cpu")
            found = self.run_solve(small)().reshape(2, heads, CHUNK, CHUNK)
            return common.judge_solve(torch, small, found.transpose(1, 2).reshape(small.shape))

        a_tril = common.solve_data(torch, tokens, heads, "cpu")
        return common.judged(check, [self.run_solve(a_tril)])


if __name__ == "__main__":
    sys.exit(common.serve(TorchCpu()))
