# SPDX-License-Identifier: Apache-2.0
"""The gated delta rule on the CPU beside the same rule in plain torch, in one process, same cores.

torch's side of a prefill is the chunked form that CPU users have without a kernel: in float32,
heads repeated, tokens padded to whole chunks, the inverse row by row and the state chunk by chunk
in Python loops. Its side of a decode is the recurrence, one token. Both sides get the same bfloat16
tensors with q and k normalised before, leave bfloat16, have the same number of threads, and take
turns. Left out, by name, where torch is not installed. With --json the numbers come as JSON.
"""

import json
import os
import pathlib
import statistics
import sys
import time
import types

HEAD = 128
CHUNK = 64
SCALE = HEAD**-0.5
PREFILL = "pegainfer.qwen35.gated_delta_rule_prefill"
DECODE = "pegainfer.qwen35.gated_delta_rule_decode"
SETTLE = 0.01  # seconds; torch's threads spin for a while after their last work
SAMPLE = 0.02  # seconds; a sample of a shorter call is the mean of several


# --- the rule ---


def inputs(torch, tokens, key_heads, value_heads, seed, device="cpu"):
    """A row a token: bfloat16 q and k of length 1, v; log gates in [-0.1, 0] and beta in (0, 1)."""
    generator = torch.Generator(device).manual_seed(seed)
    options = {"generator": generator, "device": device}

    def directions():
        rows = torch.randn(tokens, key_heads, HEAD, **options)
        return (rows / rows.norm(dim=-1, keepdim=True)).bfloat16()

    return types.SimpleNamespace(
        q=directions(),
        k=directions(),
        v=torch.randn(tokens, value_heads, HEAD, **options).bfloat16(),
        g=-0.1 * torch.rand(tokens, value_heads, **options),
        beta=torch.rand(tokens, value_heads, **options),
    )


def repeated(x, heads):
    """[T, HK, 128] as [T, HV, 128]: value head h uses key head h HK / HV."""
    return x.repeat_interleave(heads // x.shape[1], dim=1)


def step(state, q, k, v, g, beta):
    """One token: state [..., K, V], q, k, v [..., 128], g, beta [...]. The new state and the output."""
    state = state * g.exp()[..., None, None]
    seen = (state * k[..., :, None]).sum(-2)
    write = (v - seen) * beta[..., None]
    state = state + k[..., :, None] * write[..., None, :]
    return state, (state * (q * SCALE)[..., :, None]).sum(-2)


def recurrence(torch, data, state):
    """The truth: the rule in float64, token by token. The output [T, HV, 128] and the last state."""
    heads = data.v.shape[1]
    q, k = repeated(data.q, heads).double(), repeated(data.k, heads).double()
    v, beta, decay = data.v.double(), data.beta.double(), data.g.double().exp()
    state = state.double().clone()
    output = torch.empty_like(v)
    for t in range(v.shape[0]):
        state *= decay[t, :, None, None]
        write = beta[t, :, None] * (v[t] - torch.einsum("hkv,hk->hv", state, k[t]))
        state += k[t, :, :, None] * write[:, None, :]
        output[t] = SCALE * torch.einsum("hkv,hk->hv", state, q[t])
    return output, state


def chunked(torch, data, state):
    """The rule in plain torch, 64 tokens at a time: the output in bfloat16 and the last state."""
    tokens, heads, _ = data.v.shape
    padding = -tokens % CHUNK

    def chunks(x):  # [T, HV, ...] as [HV, chunks, 64, ...]
        x = x.transpose(0, 1).contiguous().float()
        x = torch.nn.functional.pad(x, (0, 0) * (x.dim() - 2) + (0, padding))
        return x.unflatten(1, (-1, CHUNK))

    q, k = chunks(repeated(data.q, heads)) * SCALE, chunks(repeated(data.k, heads))
    v, g, beta = chunks(data.v), chunks(data.g).cumsum(-1), chunks(data.beta)[..., None]
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
    return output.to(data.v.dtype), state


def recurrent(data, states):
    """One token of each of a batch in plain torch: the output in bfloat16, states [B, HV, K, V]."""
    heads = data.v.shape[1]
    q, k = repeated(data.q, heads).float(), repeated(data.k, heads).float()
    states, output = step(states, q, k, data.v.float(), data.g, data.beta)
    return output.to(data.v.dtype), states


def rms_error(got, truth):
    """Root of the mean square of the difference, relative to that of the truth."""
    return float(((got.double() - truth) ** 2).mean().sqrt() / (truth**2).mean().sqrt())


# --- taking turns ---


def seconds(run, calls):
    """A call's time in the mean over `calls`; short calls have one before them that is not counted."""
    time.sleep(SETTLE)
    if calls > 1:
        run()
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def spread(samples, unit=1.0):
    """p10, median and p90."""
    deciles = statistics.quantiles(samples, n=10, method="inclusive")
    return [deciles[0] * unit, statistics.median(samples) * unit, deciles[8] * unit]


def compare(ours, theirs, rounds):
    sides = (ours, theirs)
    for run in sides:
        run()
    calls = [max(1, int(SAMPLE / seconds(run, 1))) for run in sides]
    samples = ([], [])
    for number in range(rounds):
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            samples[side].append(seconds(sides[side], calls[side]))
    ratios = [b / a for a, b in zip(*samples)]
    return {
        "pega_us": spread(samples[0], 1e6),
        "torch_us": spread(samples[1], 1e6),
        "ratio": spread(ratios),
        "ratio_of_best": min(samples[1]) / min(samples[0]),
        "rounds": rounds,
    }


# --- what is measured ---


def prefill_row(torch, prefill, tokens, key_heads, value_heads, rounds, judged):
    data = inputs(torch, tokens, key_heads, value_heads, seed=tokens)
    initial = torch.zeros(1, value_heads, HEAD, HEAD)
    final = torch.empty_like(initial)
    output = torch.empty_like(data.v)

    def ours():
        prefill(data.q, data.k, data.v, data.g, data.beta, initial, None, None, output, final)

    def theirs():
        return chunked(torch, data, initial[0])

    row = {"what": "prefill", "size": tokens, "HK": key_heads, "HV": value_heads}
    row.update(compare(ours, theirs, rounds))
    if judged:
        truth = recurrence(torch, data, initial[0])
        row["pega_rms"] = [rms_error(output, truth[0]), rms_error(final[0], truth[1])]
        row["torch_rms"] = [rms_error(got, true) for got, true in zip(theirs(), truth)]
    return row


def decode_row(torch, decode, batch, key_heads, value_heads, rounds):
    data = inputs(torch, batch, key_heads, value_heads, seed=batch)
    generator = torch.Generator().manual_seed(batch)
    initial = torch.randn(batch, value_heads, HEAD, HEAD, generator=generator)
    states = initial.clone()
    output = torch.empty_like(data.v)

    def ours():
        decode(data.q, data.k, data.v, data.g, data.beta, states, None, None, output)

    ours()
    q, k = repeated(data.q, value_heads).double(), repeated(data.k, value_heads).double()
    true_states, true_output = step(initial.double(), q, k, data.v.double(), data.g.double(),
                                    data.beta.double())
    found = recurrent(data, initial)
    row = {
        "what": "decode",
        "size": batch,
        "HK": key_heads,
        "HV": value_heads,
        "pega_rms": [rms_error(output, true_output), rms_error(states, true_states)],
        "torch_rms": [rms_error(found[0], true_output), rms_error(found[1], true_states)],
    }
    row.update(compare(ours, lambda: recurrent(data, initial), rounds))
    return row


def describe(row):
    ours, theirs, ratio = row["pega_us"], row["torch_us"], row["ratio"]
    return (
        f"{row['what']:8} {row['size']:5} {row['HK']:3} {row['HV']:3}"
        f" {ours[1]:9.0f} {f'{ours[0]:.0f} to {ours[2]:.0f}':>18}"
        f" {theirs[1]:10.0f} {f'{theirs[0]:.0f} to {theirs[2]:.0f}':>20}"
        f" {ratio[1]:7.1f} {f'{ratio[0]:.1f} to {ratio[2]:.1f}':>14} {row['ratio_of_best']:7.1f}"
    )


def main():
    try:
        import torch
        import tvm_ffi
    except ImportError as missing:
        print(f"torch: left out, as {missing.name} is not installed for {sys.executable}"
              " (PEGA_TORCH_PYTHON names another Python)")
        return 0
    build = pathlib.Path(os.environ.get("PEGA_BUILD", "build/bench"))
    get = tvm_ffi.load_module(str(build / "lib" / "libpega_tvm_ffi.so"))["pega_get"]
    prefill, decode = get(PREFILL), get(DECODE)
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    rows = [
        prefill_row(torch, prefill, 64, 16, 32, rounds=25, judged=False),
        prefill_row(torch, prefill, 512, 16, 32, rounds=15, judged=True),
        prefill_row(torch, prefill, 4096, 16, 32, rounds=9, judged=False),
        decode_row(torch, decode, 1, 16, 32, rounds=25),
        decode_row(torch, decode, 8, 16, 32, rounds=25),
    ]
    if "--json" in sys.argv:
        print(json.dumps({"torch": torch.__version__, "threads": threads, "rows": rows}))
        return 0
    print(f"gated delta rule on the CPU beside plain torch {torch.__version__}, {threads} threads;"
          " us: median, p10 to p90 of the rounds")
    print(f"{'':8} {'T, B':>5} {'HK':>3} {'HV':>3} {'pega us':>9} {'':18} {'torch us':>10} {'':20}"
          f" {'ratio':>7} {'':14} {'of best':>7}")
    for row in rows:
        print(describe(row))
    print("rms error against float64, output and state:")
    for row in rows:
        if "pega_rms" in row:
            ours, theirs = (" ".join(f"{error:.1e}" for error in row[side])
                            for side in ("pega_rms", "torch_rms"))
            print(f"{row['what']:8} {row['size']:5}         pega {ours}   torch {theirs}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
