# SPDX-License-Identifier: Apache-2.0
"""A whole prefill of one or many sequences in two launches, and what may come before them."""

import numpy as np
from pegapack import Data, Function, Golden, Kernel, Memory, floating, integer, pointer, stream

from . import reference
from .cuda import recurrent_reference
from .words import (
    BITS_FIT,
    DIM,
    HEADS_FIT,
    INT32_MAX,
    NAME,
    ONE_OR_LISTED,
    PLAIN_MMA,
    QKV_FITS,
    TWO_STAGES,
    WGMMA,
    Arg,
    array,
    bf16,
    bf16_output,
    early,
    fp32,
    fp32_output,
    i32,
    key_heads,
    options,
    tokens,
    uniform,
    unit,
    value_heads,
)

KEYS = "num_tokens, num_key_heads, 128"
ROWS = "num_tokens, num_value_heads, 128"
GATES = "num_tokens, num_value_heads"
SCORES = "num_tokens, num_value_heads, 64"
STATES = "num_sequences, num_value_heads, 128, 128"

CU_SEQLENS = pointer(
    "cu_seqlens_ptr",
    "first token of each sequence, and the end of the last: num_sequences + 1 integers; "
    "0: one sequence",
    alignment=4,
)
CU_SEQLENS_BITS = integer("cu_seqlens_bits", "bits of such an integer: 32 or 64", min=32, max=64)
SEQUENCES = integer("num_sequences", "sequences", min=0, max=INT32_MAX)
# Of what walks over sequences.
STATES_AND_OUTPUT = [
    array("initial_state_ptr", "states before all", "float32", STATES, null="zeros"),
    CU_SEQLENS,
    array("output_ptr", "the output", "bfloat16", ROWS, output=True),
    array(
        "final_state_ptr",
        "states after all; may be initial_state_ptr",
        "float32",
        STATES,
        output=True,
        null="not wanted",
    ),
]
SIZES = [
    tokens(),
    SEQUENCES,
    CU_SEQLENS_BITS,
    key_heads(),
    value_heads("value heads, a multiple of the key heads"),
]
QKV_DIM = integer("qkv_dim", "elements of qkv from token to token", min=0, max=INT32_MAX)

# --- Golden cases: sequences of 70, 0, 1 and 64 tokens ---

TOKENS, PAIRS, HEADS = 135, 1, 2
CU = np.array([0, 70, 70, 71, 135])
TWO = np.array([0, 0, 70])
MANY = np.concatenate([CU, TOKENS + np.arange(1, 31)])  # more programs than multiprocessors


def sequences(args):
    cu = args["cu_seqlens_ptr"].astype(int)
    return enumerate(zip(cu[:-1], cu[1:], strict=True))


def prepare_reference(args):
    qkv = args["qkv_ptr"].reshape(args["num_tokens"], -1, DIM)
    pairs = args["num_key_heads"]
    g, beta = reference.gates(*(args[n] for n in ("b_ptr", "a_ptr", "dt_bias_ptr", "a_log_ptr")))
    return {
        "q_out_ptr": reference.normalized(qkv[:, :pairs]),
        "k_out_ptr": reference.normalized(qkv[:, pairs : 2 * pairs]),
        "g_out_ptr": g,
        "beta_out_ptr": beta,
    }


def normalize_reference(args):
    return {f"{n}_out_ptr": reference.normalized(args[f"{n}_ptr"]) for n in "qk"}


def chunk_reference(args):
    count, heads = args["num_tokens"], args["num_value_heads"]
    copies = heads // args["num_key_heads"]
    w, u = np.zeros((count, heads, DIM)), np.zeros((count, heads, DIM))
    p, total = np.zeros((count, heads, 64)), np.zeros((count, heads))
    v = args["v_ptr"][:, : heads * DIM].reshape(count, heads, DIM)
    for _, (begin, end) in sequences(args):
        total += reference.cumsum(args["g_ptr"], begin, end)
        for at, h in reference.chunks(begin, end, heads):
            q, k = args["q_ptr"][at, h // copies], args["k_ptr"][at, h // copies]
            g, beta = total[at, h], args["beta_ptr"][at, h]
            rows = at.stop - at.start
            a = np.tril(beta[:, None] * reference.decay(g) * (k @ k.T), -1)
            inverse = np.linalg.inv(np.eye(rows) + a)
            w[at, h], u[at, h] = reference.recompute(k, v[at, h], beta, inverse, g)
            p[at, h, :rows] = reference.decay(g) * (q @ k.T)
    return {"w_ptr": w, "u_ptr": u, "p_ptr": p, "g_cumsum_ptr": total}


def scan_reference(args, compare_states):
    count, heads = args["num_tokens"], args["num_value_heads"]
    copies = heads // args["num_key_heads"]
    out = np.zeros((count, heads, DIM))
    state = args["initial_state_ptr"].copy()
    for s, (begin, end) in sequences(args):
        for at, h in reference.chunks(begin, end, heads):
            q, k = args["q_ptr"][at, h // copies], args["k_ptr"][at, h // copies]
            w, u, g = (args[n][at, h] for n in ("w_ptr", "u_ptr", "g_cumsum_ptr"))
            p = args["p_ptr"][at, h, : at.stop - at.start]
            before = state[s, h].copy()
            new, state[s, h] = reference.step(k, w, u, g, before)
            out[at, h] = reference.output(q, p, new, g, before, args["scale"])
    return {"output_ptr": out, **({"final_state_ptr": state} if compare_states else {})}


def batch(bits, cu=CU):
    return {
        "cu_seqlens_ptr": Memory(f"int{bits}", [len(cu)], fill=Data(cu)),
        "num_tokens": int(cu[-1]),
        "num_sequences": len(cu) - 1,
        "cu_seqlens_bits": bits,
        "num_key_heads": PAIRS,
        "num_value_heads": HEADS,
    }


def chunk_case(bits, v_stride, lowest_gate):
    return Golden(
        name=f"4 sequences, int{bits}, v every {v_stride}, gates down to {lowest_gate}",
        args={
            "q_ptr": unit([TOKENS, PAIRS, DIM], 1),
            "k_ptr": unit([TOKENS, PAIRS, DIM], 2),
            "v_ptr": uniform("bfloat16", [TOKENS, v_stride], 3, -1, 1),
            "g_ptr": uniform("float32", [TOKENS, HEADS], 4, lowest_gate, 0),
            "beta_ptr": uniform("float32", [TOKENS, HEADS], 5, 0, 1),
            "w_ptr": bf16_output([TOKENS, HEADS, DIM], atol=1e-3),
            "u_ptr": bf16_output([TOKENS, HEADS, DIM], atol=1e-3),
            "p_ptr": bf16_output([TOKENS, HEADS, 64], atol=1e-4),
            "g_cumsum_ptr": fp32_output([TOKENS, HEADS], atol=1e-6, rtol=1e-6),
            "v_stride": v_stride,
            **batch(bits),
        },
        reference=chunk_reference,
    )


def scan_case(bits, cu, compare_states):
    count, states = int(cu[-1]), [len(cu) - 1, HEADS, DIM, DIM]
    g = np.random.default_rng(3).uniform(-0.1, 0, [count, HEADS])
    total = sum(reference.cumsum(g, a, b) for a, b in zip(cu[:-1], cu[1:], strict=True))
    # What is compared lies in the pack: not the states of every case.
    final = fp32_output(states, atol=5e-3) if compare_states else Memory("float32", states)
    return Golden(
        name=f"{states[0]} sequences, int{bits}",
        args={
            "q_ptr": unit([count, PAIRS, DIM], 1),
            "k_ptr": unit([count, PAIRS, DIM], 2),
            "w_ptr": uniform("bfloat16", [count, HEADS, DIM], 3, -0.1, 0.1),
            "u_ptr": uniform("bfloat16", [count, HEADS, DIM], 4, -1, 1),
            "p_ptr": uniform("bfloat16", [count, HEADS, 64], 5, -0.2, 0.2),
            "g_cumsum_ptr": Memory("float32", [count, HEADS], fill=Data(total)),
            "initial_state_ptr": uniform("float32", states, 6, -1, 1),
            "output_ptr": bf16_output([count, HEADS, DIM], atol=2e-3),
            "final_state_ptr": final,
            "scale": 0.125,
            **batch(bits, cu),
        },
        reference=lambda args: scan_reference(args, compare_states),
    )


def fused_reference(args, compare_states):
    expected = recurrent_reference(args)
    return expected if compare_states else {"output_ptr": expected["output_ptr"]}


def fused_case(bits, cu, v_stride, compare_states):
    count, states = int(cu[-1]), [len(cu) - 1, HEADS, DIM, DIM]
    # What is compared lies in the pack: not the states of every case.
    final = fp32_output(states, atol=5e-3) if compare_states else Memory("float32", states)
    return Golden(
        name=f"{states[0]} sequences, int{bits}, v every {v_stride}",
        args={
            "q_ptr": unit([count, PAIRS, DIM], 1),
            "k_ptr": unit([count, PAIRS, DIM], 2),
            "v_ptr": uniform("bfloat16", [count, v_stride], 3, -1, 1),
            "g_ptr": uniform("float32", [count, HEADS], 4, -0.1, 0),
            "beta_ptr": uniform("float32", [count, HEADS], 5, 0, 1),
            "initial_state_ptr": uniform("float32", states, 6, -1, 1),
            "output_ptr": bf16_output([count, HEADS, DIM], atol=1e-3),
            "final_state_ptr": final,
            "v_stride": v_stride,
            "scale": 0.125,
            **batch(bits, cu),
        },
        reference=lambda args: fused_reference(args, compare_states),
    )


def prepare_case(count, pairs, heads):
    gate, width = [count, heads], (2 * pairs + heads) * DIM
    return Golden(
        name=f"{count} tokens, {pairs} and {heads} heads",
        args={
            "qkv_ptr": uniform("bfloat16", [count, width], 1, -1, 1),
            "b_ptr": uniform("bfloat16", gate, 2, -4, 4),
            "a_ptr": uniform("bfloat16", gate, 3, -12, 25),
            "dt_bias_ptr": uniform("bfloat16", [heads], 4, -1, 1),
            "a_log_ptr": uniform("float32", [heads], 5, -1, 2),
            "q_out_ptr": bf16_output([count, pairs, DIM], atol=1e-5),
            "k_out_ptr": bf16_output([count, pairs, DIM], atol=1e-5),
            "g_out_ptr": fp32_output(gate, atol=1e-9, rtol=3e-6),
            "beta_out_ptr": fp32_output(gate, atol=0, rtol=1e-6),
            "num_tokens": count,
            "num_key_heads": pairs,
            "num_value_heads": heads,
            "qkv_dim": width,
        },
        reference=prepare_reference,
    )


# --- Functions ---

PREPARE = Function(
    name=NAME + "prefill_prepare",
    doc="q and k normalised, g and beta from their projections, for a prefill",
    params=[
        array("qkv_ptr", "q, k, v of each token, side by side", "bfloat16", "num_tokens, qkv_dim"),
        array("b_ptr", "beta before the sigmoid", "bfloat16", GATES, null="no beta"),
        array("a_ptr", "the gate's projection", "bfloat16", GATES, null="no g"),
        array("dt_bias_ptr", "added to it", "bfloat16", "num_value_heads", null="no g"),
        array("a_log_ptr", "log of the gate's rate", "float32", "num_value_heads", null="no g"),
        array("q_out_ptr", "rows of q, normalised", "bfloat16", KEYS, output=True),
        array("k_out_ptr", "rows of k, normalised", "bfloat16", KEYS, output=True),
        array("g_out_ptr", "log gates", "float32", GATES, output=True, null="no g"),
        array("beta_out_ptr", "beta", "float32", GATES, output=True, null="no beta"),
        tokens(),
        key_heads(),
        value_heads(),
        QKV_DIM,
        stream(),
    ],
    kernels=[
        Kernel(
            source="triton/gated_delta_rule_prepare.py",
            function="gated_delta_rule_prefill_prepare",
            arguments={
                "qkv": bf16("qkv_ptr"),
                "b": bf16("b_ptr"),
                "a": bf16("a_ptr"),
                "dt_bias": bf16("dt_bias_ptr"),
                "a_log": fp32("a_log_ptr"),
                "q": bf16("q_out_ptr"),
                "k": bf16("k_out_ptr"),
                "g": fp32("g_out_ptr"),
                "beta": fp32("beta_out_ptr"),
                "num_tokens": i32("num_tokens"),
                "key_heads": i32("num_key_heads"),
                "value_heads": i32("num_value_heads"),
                "qkv_dim": Arg("i32", "qkv_dim", divisible_by_16=True),
                "want_g": i32(
                    "a_ptr != 0 and dt_bias_ptr != 0 and a_log_ptr != 0 and g_out_ptr != 0"
                ),
                "want_beta": i32("b_ptr != 0 and beta_out_ptr != 0"),
            },
            grid=["cdiv(num_tokens, 16) * (num_key_heads + 1)", "1", "1"],
            options=options(num_warps=4),
            when=[QKV_FITS],
        )
    ],
    golden=[prepare_case(19, 2, 4), prepare_case(1, 3, 3)],
)

NORMALIZE = Function(
    name=NAME + "prefill_normalize",
    doc="Rows of q and k divided by their lengths",
    params=[
        array("q_ptr", "q", "bfloat16", KEYS),
        array("k_ptr", "k", "bfloat16", KEYS),
        array("q_out_ptr", "rows of q, normalised", "bfloat16", KEYS, output=True),
        array("k_out_ptr", "rows of k, normalised", "bfloat16", KEYS, output=True),
        tokens(),
        key_heads(),
        stream(),
    ],
    kernels=[
        Kernel(
            source="triton/gated_delta_rule_prepare.py",
            function="gated_delta_rule_prefill_normalize",
            arguments={
                "q": bf16("q_ptr"),
                "k": bf16("k_ptr"),
                "q_out": bf16("q_out_ptr"),
                "k_out": bf16("k_out_ptr"),
                "num_tokens": i32("num_tokens"),
                "key_heads": i32("num_key_heads"),
            },
            grid=["cdiv(num_tokens * num_key_heads, 32)", "1", "1"],
            options=options(num_warps=4),
        )
    ],
    golden=[
        Golden(
            name="19 tokens, 3 heads",
            args={
                "q_ptr": uniform("bfloat16", [19, 3, DIM], 1, -1, 1),
                "k_ptr": uniform("bfloat16", [19, 3, DIM], 2, -1, 1),
                "q_out_ptr": bf16_output([19, 3, DIM], atol=1e-5),
                "k_out_ptr": bf16_output([19, 3, DIM], atol=1e-5),
                "num_tokens": 19,
                "num_key_heads": 3,
            },
            reference=normalize_reference,
        )
    ],
)

V_STRIDE = integer("v_stride", "elements of v from token to token", min=0, max=INT32_MAX)
V_FITS = [
    "v_stride >= num_value_heads * 128",
    "v_stride <= 33554431",  # rows of a chunk are counted in 32 bits
]

CHUNK = Function(
    name=NAME + "prefill_chunk",
    doc="What each chunk of 64 tokens and value head of a prefill can do for itself: w, u, p, G",
    params=[
        array("q_ptr", "rows of q, normalised", "bfloat16", KEYS),
        array("k_ptr", "rows of k, normalised", "bfloat16", KEYS),
        array("v_ptr", "v, rows of 128 for each head first", "bfloat16", "num_tokens, v_stride"),
        array("g_ptr", "log gates; below -128 counts as -128", "float32", GATES),
        array("beta_ptr", "beta", "float32", GATES),
        CU_SEQLENS,
        array("w_ptr", "w", "bfloat16", ROWS, output=True),
        array("u_ptr", "u", "bfloat16", ROWS, output=True),
        array("p_ptr", "exp(G_i - G_j) q_i . k_j, i >= j", "bfloat16", SCORES, output=True),
        array("g_cumsum_ptr", "G", "float32", GATES, output=True),
        *SIZES,
        V_STRIDE,
        stream(),
    ],
    kernels=[
        Kernel(
            source="triton/gated_delta_rule_prefill_chunk.py",
            function="gated_delta_rule_prefill_chunk",
            arguments={
                "q": bf16("q_ptr"),
                "k": bf16("k_ptr"),
                "v": bf16("v_ptr"),
                "g": fp32("g_ptr"),
                "beta": fp32("beta_ptr"),
                "cu_seqlens": Arg("*i32", "cu_seqlens_ptr"),
                "w": bf16("w_ptr"),
                "u": bf16("u_ptr"),
                "p": bf16("p_ptr"),
                "g_cumsum": fp32("g_cumsum_ptr"),
                "num_tokens": i32("num_tokens"),
                "num_sequences": i32("num_sequences"),
                "key_heads": i32("num_key_heads"),
                "value_heads": i32("num_value_heads"),
                "v_stride": Arg("i32", "v_stride", divisible_by_16=True),
                "has_cu_seqlens": i32("cu_seqlens_ptr != 0"),
                "words": i32("cu_seqlens_bits / 32"),
            },
            # No sequences: nothing, whatever num_tokens is.
            grid=[
                "(num_tokens / 64 + num_sequences) * min(num_sequences, 1) * num_value_heads",
                "1",
                "1",
            ],
            # 168 registers let three programs share a multiprocessor.
            **early(
                options(num_warps=4, maxnreg=168),
                options_for={t: {"maxnreg": None} for t in PLAIN_MMA},
            ),
            when=[
                HEADS_FIT,
                BITS_FIT,
                ONE_OR_LISTED,
                *V_FITS,
            ],
        )
    ],
    golden=[chunk_case(64, 256, -0.1), chunk_case(32, 384, -300)],
)


def scan_kernel(block_v, options, options_for=None, targets=None, when=()):
    return Kernel(
        source="triton/gated_delta_rule_prefill_scan.py",
        function="gated_delta_rule_prefill_scan",
        arguments={
            "q": bf16("q_ptr"),
            "k": bf16("k_ptr"),
            "w": bf16("w_ptr"),
            "u": bf16("u_ptr"),
            "p": bf16("p_ptr"),
            "g_cumsum": fp32("g_cumsum_ptr"),
            "initial_state": fp32("initial_state_ptr"),
            "cu_seqlens": Arg("*i32", "cu_seqlens_ptr"),
            "output": bf16("output_ptr"),
            "final_state": fp32("final_state_ptr"),
            "num_tokens": i32("num_tokens"),
            "num_sequences": i32("num_sequences"),
            "key_heads": i32("num_key_heads"),
            "value_heads": i32("num_value_heads"),
            "scale": Arg("fp32"),
            "has_initial_state": i32("initial_state_ptr != 0"),
            "has_cu_seqlens": i32("cu_seqlens_ptr != 0"),
            "want_final_state": i32("final_state_ptr != 0"),
            "words": i32("cu_seqlens_bits / 32"),
        },
        grid=[f"num_sequences * num_value_heads * {DIM // block_v}", "1", "1"],
        **early(options, options_for=options_for, constexprs={"BLOCK_V": block_v}),
        targets=targets,
        when=[HEADS_FIT, BITS_FIT, ONE_OR_LISTED, *when],
    )


SCAN = Function(
    name=NAME + "prefill_scan",
    doc="The walk over the chunks of each sequence of a prefill: output and final state",
    params=[
        array("q_ptr", "rows of q, normalised", "bfloat16", KEYS),
        array("k_ptr", "rows of k, normalised", "bfloat16", KEYS),
        array("w_ptr", "w of prefill_chunk", "bfloat16", ROWS),
        array("u_ptr", "u of prefill_chunk", "bfloat16", ROWS),
        array("p_ptr", "p of prefill_chunk", "bfloat16", SCORES),
        array("g_cumsum_ptr", "G of prefill_chunk", "float32", GATES),
        *STATES_AND_OUTPUT,
        *SIZES,
        floating("scale", "multiplies the output"),
        stream(),
    ],
    kernels=[
        # Enough sequences and heads to fill a GPU: a program takes a whole state, which reads less.
        scan_kernel(
            128,
            options(num_warps=8, num_stages=3),
            targets=WGMMA,
            when=["num_sequences * num_value_heads >= 128"],
        ),
        # So few that blocks this small have a multiprocessor each (an H100 has 132): one program's
        # time is what counts, and the narrower its block, the shorter its steps.
        scan_kernel(
            32,
            options(num_warps=4, num_stages=4),
            targets=WGMMA,
            when=["num_sequences * num_value_heads * 4 <= 132"],
        ),
        scan_kernel(64, options(num_warps=4, num_stages=3), options_for=TWO_STAGES),
    ],
    golden=[
        scan_case(32, TWO, compare_states=True),
        scan_case(64, MANY, compare_states=False),
        scan_case(32, np.arange(65), compare_states=False),  # so many that all fill a GPU
    ],
)


def fused_kernel(block_v, num_warps, targets=WGMMA, single=False, when=()):
    begins_early = targets == WGMMA
    return Kernel(
        source="triton/gated_delta_rule_prefill_fused.py",
        function="gated_delta_rule_prefill_fused",
        arguments={
            "q": bf16("q_ptr"),
            "k": bf16("k_ptr"),
            "v": bf16("v_ptr"),
            "g": fp32("g_ptr"),
            "beta": fp32("beta_ptr"),
            "initial_state": fp32("initial_state_ptr"),
            "cu_seqlens": Arg("*i32", "cu_seqlens_ptr"),
            "output": bf16("output_ptr"),
            "final_state": fp32("final_state_ptr"),
            "num_tokens": i32("num_tokens"),
            "num_sequences": i32("num_sequences"),
            "key_heads": i32("num_key_heads"),
            "value_heads": i32("num_value_heads"),
            "v_stride": Arg("i32", "v_stride", divisible_by_16=True),
            "scale": Arg("fp32"),
            "has_initial_state": i32("initial_state_ptr != 0"),
            "has_cu_seqlens": i32("cu_seqlens_ptr != 0"),
            "want_final_state": i32("final_state_ptr != 0"),
            "words": i32("cu_seqlens_bits / 32"),
        },
        grid=[f"num_sequences * num_value_heads * {DIM // block_v}", "1", "1"],
        constexprs={"BLOCK_V": block_v, "SINGLE": single, "EARLY": begins_early},
        options=options(num_warps=num_warps, launch_pdl=begins_early),
        targets=targets,
        when=[HEADS_FIT, BITS_FIT, ONE_OR_LISTED, *V_FITS, *when],
    )


FUSED = Function(
    name=NAME + "prefill_fused",
    doc="A prefill of one or many sequences in one launch: for short ones",
    params=[
        array("q_ptr", "rows of q, normalised", "bfloat16", KEYS),
        array("k_ptr", "rows of k, normalised", "bfloat16", KEYS),
        array("v_ptr", "v, rows of 128 for each head first", "bfloat16", "num_tokens, v_stride"),
        array("g_ptr", "log gates; below -128 counts as -128", "float32", GATES),
        array("beta_ptr", "beta", "float32", GATES),
        *STATES_AND_OUTPUT,
        *SIZES,
        V_STRIDE,
        floating("scale", "multiplies the output"),
        stream(),
    ],
    kernels=[
        # One chunk at most, and a multiprocessor for each program (an H100 has 132).
        fused_kernel(
            64, 8, single=True, when=["num_tokens <= 64", "num_sequences * num_value_heads <= 66"]
        ),
        # More: whole states, for each of which A_inv and p are made once.
        fused_kernel(128, 8, when=["num_sequences * num_value_heads > 66"]),
        fused_kernel(64, 4),
        # The largest block whose values stay in registers.
        fused_kernel(32, 8, PLAIN_MMA),
    ],
    golden=[
        fused_case(32, TWO[1:], 256, compare_states=True),
        fused_case(64, MANY, 384, compare_states=False),
        fused_case(64, np.array([0, 40]), 256, compare_states=True),
    ],
)

PREFILL = [PREPARE, NORMALIZE, CHUNK, SCAN, FUSED]
