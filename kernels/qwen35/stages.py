# SPDX-License-Identifier: Apache-2.0
"""The chunk stages of one sequence, but for the solve."""

import numpy as np
from pegapack import Data, Function, Golden, Kernel, Memory, floating, integer, stream

from . import reference
from .words import (
    DIM,
    HEADS_FIT,
    INT32_MAX,
    NAME,
    PLAIN_MMA,
    QKV_FITS,
    TWO_STAGES,
    Arg,
    array,
    bf16,
    bf16_output,
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

ROWS = "seq_len, num_value_heads, 128"
GATES = "seq_len, num_value_heads"
SQUARES = "seq_len, num_value_heads, 64"
STATE = "num_value_heads, 128, 128"
PROGRAMS = ["cdiv(seq_len, 64) * num_value_heads", "1", "1"]
SIZES = {"seq_len": i32("seq_len"), "num_value_heads": i32("num_value_heads")}
QKV_DIM = integer("qkv_dim", "elements of qkv from token to token", min=0, max=INT32_MAX)

# --- Golden cases: 70 tokens are a whole chunk and a part of one ---

TOKENS, HEADS = 70, 2
SHAPE = [TOKENS, HEADS]
CASE = {"seq_len": TOKENS, "num_value_heads": HEADS}


def gates_summed(seed=3):
    """Any numbers serve as G, as long as they fall."""
    g = np.random.default_rng(seed).uniform(-0.1, 0, SHAPE)
    return reference.cumsum(g)


def fixed(values):
    return Memory("float32", list(values.shape), fill=Data(values))


def each_chunk(args, *outputs):
    """Zeros for the outputs, and (tokens, head) of each chunk and head."""
    shapes = {name: np.zeros(shape) for name, shape in outputs}
    return shapes, reference.chunks(0, args["seq_len"], args["num_value_heads"])


def prepare_reference(args):
    heads, pairs = args["num_value_heads"], args["num_key_heads"]
    qkv = args["qkv_ptr"].reshape(args["seq_len"], -1, DIM)
    expanded = np.arange(heads) * pairs // heads
    g, beta = reference.gates(
        *(args[n] for n in ("b_proj_ptr", "a_proj_ptr", "dt_bias_ptr", "a_log_ptr"))
    )
    return {
        "q_out_ptr": reference.normalized(qkv[:, expanded]),
        "k_out_ptr": reference.normalized(qkv[:, pairs + expanded]),
        "v_out_ptr": qkv[:, 2 * pairs : 2 * pairs + heads],
        "g_out_ptr": g,
        "beta_out_ptr": beta,
    }


def a_reference(args):
    out, all_chunks = each_chunk(args, ("a_tril_ptr", [*SHAPE, 64]))
    for at, h in all_chunks:
        k, rows = args["k_ptr"][at, h], at.stop - at.start
        a = reference.decay(args["g_cumsum_ptr"][at, h]) * (k @ k.T)
        out["a_tril_ptr"][at, h, :rows] = np.tril(args["beta_ptr"][at, h][:, None] * a, -1)
    return out


def recompute_reference(args):
    out, all_chunks = each_chunk(args, ("w_ptr", [*SHAPE, DIM]), ("u_ptr", [*SHAPE, DIM]))
    for at, h in all_chunks:
        k, v, beta, g = (args[n][at, h] for n in ("k_ptr", "v_ptr", "beta_ptr", "g_cumsum_ptr"))
        inverse = args["a_inv_ptr"][at, h, : at.stop - at.start]
        out["w_ptr"][at, h], out["u_ptr"][at, h] = reference.recompute(k, v, beta, inverse, g)
    return out


def state_reference(args):
    out, all_chunks = each_chunk(
        args,
        ("chunk_state_ptr", [2, HEADS, DIM, DIM]),
        ("v_new_ptr", [*SHAPE, DIM]),
    )
    state = args["initial_state_ptr"].copy()
    for at, h in all_chunks:
        out["chunk_state_ptr"][at.start // 64, h] = state[h]
        k, w, u, g = (args[n][at, h] for n in ("k_ptr", "w_ptr", "u_ptr", "g_cumsum_ptr"))
        out["v_new_ptr"][at, h], state[h] = reference.step(k, w, u, g, state[h])
    return {**out, "final_state_ptr": state}


def o_reference(args):
    out, all_chunks = each_chunk(args, ("output_ptr", [*SHAPE, DIM]))
    for at, h in all_chunks:
        q, k, new, g = (args[n][at, h] for n in ("q_ptr", "k_ptr", "v_new_ptr", "g_cumsum_ptr"))
        scores = reference.decay(g) * (q @ k.T)
        state = args["chunk_state_ptr"][at.start // 64, h]
        out["output_ptr"][at, h] = reference.output(q, scores, new, g, state, args["scale"])
    return out


def prepare_case(tokens, key_heads, value_heads):
    rows, gate = [tokens, value_heads, DIM], [tokens, value_heads]
    width = (2 * key_heads + value_heads) * DIM
    return Golden(
        name=f"{tokens} tokens, {key_heads} and {value_heads} heads",
        args={
            "qkv_ptr": uniform("bfloat16", [tokens, width], 1, -1, 1),
            "b_proj_ptr": uniform("bfloat16", gate, 2, -4, 4),
            "a_proj_ptr": uniform("bfloat16", gate, 3, -12, 25),
            "dt_bias_ptr": uniform("bfloat16", [value_heads], 4, -1, 1),
            "a_log_ptr": uniform("float32", [value_heads], 5, -1, 2),
            "q_out_ptr": bf16_output(rows, atol=1e-5),
            "k_out_ptr": bf16_output(rows, atol=1e-5),
            "v_out_ptr": bf16_output(rows, atol=0, rtol=0),
            "g_out_ptr": fp32_output(gate, atol=1e-9, rtol=3e-6),
            "beta_out_ptr": fp32_output(gate, atol=0, rtol=1e-6),
            "num_key_heads": key_heads,
            "num_value_heads": value_heads,
            "qkv_dim": width,
            "seq_len": tokens,
        },
        reference=prepare_reference,
    )


# --- Functions ---

PREPARE = Function(
    name=NAME + "chunk_prepare",
    doc="q and k normalised, with v for each value head; gates g and beta from their projections",
    params=[
        array("qkv_ptr", "q, k, v of each token, side by side", "bfloat16", "seq_len, qkv_dim"),
        array("b_proj_ptr", "beta before the sigmoid", "bfloat16", GATES),
        array("a_proj_ptr", "the gate's projection", "bfloat16", GATES),
        array("dt_bias_ptr", "added to it", "bfloat16", "num_value_heads"),
        array("a_log_ptr", "logarithm of the gate's rate", "float32", "num_value_heads"),
        array("q_out_ptr", "rows of q, normalised", "bfloat16", ROWS, output=True),
        array("k_out_ptr", "rows of k, normalised", "bfloat16", ROWS, output=True),
        array("v_out_ptr", "rows of v", "bfloat16", ROWS, output=True),
        array("g_out_ptr", "log gates, 0 or less", "float32", GATES, output=True),
        array("beta_out_ptr", "beta, in (0, 1)", "float32", GATES, output=True),
        key_heads(),
        value_heads("value heads, a multiple of the key heads"),
        QKV_DIM,
        tokens("seq_len"),
        stream(),
    ],
    kernels=[
        Kernel(
            source="triton/gated_delta_rule_prepare.py",
            function="gated_delta_rule_chunk_prepare",
            arguments={
                "qkv": bf16("qkv_ptr"),
                "b": bf16("b_proj_ptr"),
                "a": bf16("a_proj_ptr"),
                "dt_bias": bf16("dt_bias_ptr"),
                "a_log": fp32("a_log_ptr"),
                "q": bf16("q_out_ptr"),
                "k": bf16("k_out_ptr"),
                "v": bf16("v_out_ptr"),
                "g": fp32("g_out_ptr"),
                "beta": fp32("beta_out_ptr"),
                "key_heads": i32("num_key_heads"),
                "value_heads": i32("num_value_heads"),
                "qkv_dim": Arg("i32", "qkv_dim", divisible_by_16=True),
                "seq_len": i32("seq_len"),
            },
            grid=["cdiv(seq_len, 16) * (num_key_heads + 1)", "1", "1"],
            options=options(num_warps=4),
            when=[HEADS_FIT, QKV_FITS],
        )
    ],
    golden=[prepare_case(19, 2, 4), prepare_case(1, 3, 3)],
)

CUMSUM = Function(
    name=NAME + "chunk_cumsum",
    doc="Prefix sums of the log gates, begun anew at each chunk of 64 tokens",
    params=[
        array("g_in_ptr", "log gates; below -128 counts as -128", "float32", GATES),
        array("g_out_ptr", "G", "float32", GATES, output=True),
        tokens("seq_len"),
        value_heads(),
        stream(),
    ],
    kernels=[
        Kernel(
            source="triton/gated_delta_rule_chunk_cumsum.py",
            function="gated_delta_rule_chunk_cumsum",
            arguments={"g": fp32("g_in_ptr"), "g_cumsum": fp32("g_out_ptr"), **SIZES},
            grid=["cdiv(seq_len, 64) * cdiv(num_value_heads, 16)", "1", "1"],
            options=options(num_warps=4),
        )
    ],
    golden=[
        Golden(
            name=f"70 tokens, 33 heads, gates down to {low}",
            args={
                "g_in_ptr": uniform("float32", [70, 33], 1, low, 0),
                "g_out_ptr": fp32_output([70, 33], atol=1e-6, rtol=1e-6),
                "seq_len": 70,
                "num_value_heads": 33,
            },
            reference=lambda args: {"g_out_ptr": reference.cumsum(args["g_in_ptr"])},
        )
        for low in (-1, -300)
    ],
)

A = Function(
    name=NAME + "chunk_a",
    doc="A of each chunk of 64 tokens and head: beta_i exp(G_i - G_j) k_i . k_j below the diagonal",
    params=[
        array("k_ptr", "rows of k, normalised", "bfloat16", ROWS),
        array("g_cumsum_ptr", "G of chunk_cumsum", "float32", GATES),
        array("beta_ptr", "beta", "float32", GATES),
        array("a_tril_ptr", "A, 0 on and above the diagonal", "float32", SQUARES, output=True),
        tokens("seq_len"),
        value_heads(),
        stream(),
    ],
    kernels=[
        Kernel(
            source="triton/gated_delta_rule_chunk_a.py",
            function="gated_delta_rule_chunk_a",
            arguments={
                "k": bf16("k_ptr"),
                "g_cumsum": fp32("g_cumsum_ptr"),
                "beta": fp32("beta_ptr"),
                "a_tril": fp32("a_tril_ptr"),
                **SIZES,
            },
            grid=PROGRAMS,
            options=options(num_warps=4),
        )
    ],
    golden=[
        Golden(
            name="70 tokens, 2 heads",
            args={
                "k_ptr": unit([*SHAPE, DIM], 1),
                "g_cumsum_ptr": fixed(gates_summed()),
                "beta_ptr": uniform("float32", SHAPE, 2, 0, 1),
                "a_tril_ptr": fp32_output([*SHAPE, 64], atol=3e-6),
                **CASE,
            },
            reference=a_reference,
        )
    ],
)

RECOMPUTE = Function(
    name=NAME + "chunk_recompute",
    doc="w = A_inv (beta exp(G) k) and u = A_inv (beta v) of each chunk of 64 tokens and head",
    params=[
        array("k_ptr", "rows of k, normalised", "bfloat16", ROWS),
        array("v_ptr", "rows of v", "bfloat16", ROWS),
        array("beta_ptr", "beta", "float32", GATES),
        array("w_ptr", "w", "bfloat16", ROWS, output=True),
        array("u_ptr", "u", "bfloat16", ROWS, output=True),
        array("a_inv_ptr", "(I + A)^-1 of chunk_solve", "bfloat16", SQUARES),
        array("g_cumsum_ptr", "G of chunk_cumsum", "float32", GATES),
        tokens("seq_len"),
        value_heads(),
        stream(),
    ],
    kernels=[
        Kernel(
            source="triton/gated_delta_rule_chunk_recompute.py",
            function="gated_delta_rule_chunk_recompute",
            arguments={
                "k": bf16("k_ptr"),
                "v": bf16("v_ptr"),
                "beta": fp32("beta_ptr"),
                "w": bf16("w_ptr"),
                "u": bf16("u_ptr"),
                "a_inv": bf16("a_inv_ptr"),
                "g_cumsum": fp32("g_cumsum_ptr"),
                **SIZES,
            },
            grid=PROGRAMS,
            # 168 registers let three programs share a multiprocessor.
            options=options(num_warps=4, maxnreg=168),
            options_for={t: {"num_warps": 8, "maxnreg": None} for t in PLAIN_MMA},
        )
    ],
    golden=[
        Golden(
            name="70 tokens, 2 heads",
            args={
                "k_ptr": unit([*SHAPE, DIM], 1),
                "v_ptr": uniform("bfloat16", [*SHAPE, DIM], 2, -1, 1),
                "beta_ptr": uniform("float32", SHAPE, 3, 0, 1),
                "w_ptr": bf16_output([*SHAPE, DIM], atol=1e-3),
                "u_ptr": bf16_output([*SHAPE, DIM], atol=1e-4),
                "a_inv_ptr": uniform("bfloat16", [*SHAPE, 64], 4, -0.2, 0.2),
                "g_cumsum_ptr": fixed(gates_summed()),
                **CASE,
            },
            reference=recompute_reference,
        )
    ],
)

STATES = Function(
    name=NAME + "chunk_state",
    doc="The recurrence from chunk to chunk: states before each chunk, v_new and the final state",
    params=[
        array("k_ptr", "rows of k, normalised", "bfloat16", ROWS),
        array("w_ptr", "w of chunk_recompute", "bfloat16", ROWS),
        array("u_ptr", "u of chunk_recompute", "bfloat16", ROWS),
        array("g_cumsum_ptr", "G of chunk_cumsum", "float32", GATES),
        array("initial_state_ptr", "state before all", "float32", STATE, null="zeros"),
        array(
            "chunk_state_ptr",
            "state before each chunk, float32 [cdiv(seq_len, 64), num_value_heads, 128, 128]",
            "float32",
            output=True,
        ),
        array("v_new_ptr", "u - w S", "bfloat16", ROWS, output=True),
        array(
            "final_state_ptr", "state after all", "float32", STATE, output=True, null="not wanted"
        ),
        tokens("seq_len"),
        value_heads(),
        stream(),
    ],
    kernels=[
        Kernel(
            source="triton/gated_delta_rule_chunk_state.py",
            function="gated_delta_rule_chunk_state",
            arguments={
                "k": bf16("k_ptr"),
                "w": bf16("w_ptr"),
                "u": bf16("u_ptr"),
                "g_cumsum": fp32("g_cumsum_ptr"),
                "initial_state": fp32("initial_state_ptr"),
                "chunk_state": fp32("chunk_state_ptr"),
                "v_new": bf16("v_new_ptr"),
                "final_state": fp32("final_state_ptr"),
                **SIZES,
                "has_initial_state": i32("initial_state_ptr != 0"),
                "want_final_state": i32("final_state_ptr != 0"),
            },
            constexprs={"BLOCK_V": 64},
            grid=["num_value_heads * 2", "1", "1"],
            options=options(num_warps=4, num_stages=4),
            options_for=TWO_STAGES,
        )
    ],
    golden=[
        Golden(
            name="70 tokens, 2 heads",
            args={
                "k_ptr": unit([*SHAPE, DIM], 1),
                "w_ptr": uniform("bfloat16", [*SHAPE, DIM], 2, -0.1, 0.1),
                "u_ptr": uniform("bfloat16", [*SHAPE, DIM], 3, -1, 1),
                "g_cumsum_ptr": fixed(gates_summed()),
                "initial_state_ptr": uniform("float32", [HEADS, DIM, DIM], 4, -1, 1),
                "chunk_state_ptr": fp32_output([2, HEADS, DIM, DIM], atol=5e-3),
                "v_new_ptr": bf16_output([*SHAPE, DIM], atol=1e-2),
                "final_state_ptr": fp32_output([HEADS, DIM, DIM], atol=5e-3),
                **CASE,
            },
            reference=state_reference,
        )
    ],
)

OUTPUT = Function(
    name=NAME + "chunk_o",
    doc="The output of each chunk of 64 tokens from the state before it and from its own tokens",
    params=[
        array("q_ptr", "rows of q, normalised", "bfloat16", ROWS),
        array("k_ptr", "rows of k, normalised", "bfloat16", ROWS),
        array("v_new_ptr", "v_new of chunk_state", "bfloat16", ROWS),
        array(
            "chunk_state_ptr",
            "state before each chunk, float32 [cdiv(seq_len, 64), num_value_heads, 128, 128]",
            "float32",
        ),
        array("g_cumsum_ptr", "G of chunk_cumsum", "float32", GATES),
        array("output_ptr", "the output", "bfloat16", ROWS, output=True),
        tokens("seq_len"),
        value_heads(),
        floating("scale", "multiplies the output"),
        stream(),
    ],
    kernels=[
        Kernel(
            source="triton/gated_delta_rule_chunk_o.py",
            function="gated_delta_rule_chunk_o",
            arguments={
                "q": bf16("q_ptr"),
                "k": bf16("k_ptr"),
                "v_new": bf16("v_new_ptr"),
                "chunk_state": fp32("chunk_state_ptr"),
                "g_cumsum": fp32("g_cumsum_ptr"),
                "output": bf16("output_ptr"),
                **SIZES,
                "scale": Arg("fp32"),
            },
            grid=PROGRAMS,
            options=options(num_warps=4),
        )
    ],
    golden=[
        Golden(
            name="70 tokens, 2 heads",
            args={
                "q_ptr": unit([*SHAPE, DIM], 1),
                "k_ptr": unit([*SHAPE, DIM], 2),
                "v_new_ptr": uniform("bfloat16", [*SHAPE, DIM], 3, -1, 1),
                "chunk_state_ptr": uniform("float32", [2, HEADS, DIM, DIM], 4, -1, 1),
                "g_cumsum_ptr": fixed(gates_summed()),
                "output_ptr": bf16_output([*SHAPE, DIM], atol=2e-3),
                **CASE,
                "scale": 0.125,
            },
            reference=o_reference,
        )
    ],
)

STAGES = [PREPARE, CUMSUM, A, RECOMPUTE, STATES, OUTPUT]
