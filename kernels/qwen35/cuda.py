# SPDX-License-Identifier: Apache-2.0
"""The kernels in CUDA C: the decode step, and a prefill that walks token by token."""

import numpy as np
from pegapack import (
    Arg,
    Constant,
    CudaKernel,
    Data,
    Function,
    Golden,
    Memory,
    Output,
    Uniform,
    floating,
    integer,
    pointer,
    stream,
)
from pegapack.dtypes import from_storage, to_storage

from . import reference
from .words import (
    ALL_IN_TURN,
    BEGIN_EARLY,
    BITS_FIT,
    DIM,
    HEADS_FIT,
    INT32_MAX,
    ONE_OR_LISTED,
    array,
    bf16_output,
    fp32_output,
    key_heads,
    tokens,
    uniform,
    unit,
    value_heads,
)

NAME = "pegainfer.cuda_cubin.qwen35.gated_delta_rule_"
DEFAULT_SCALE = DIM**-0.5

# --- References ---


def rounded(x):
    return from_storage(to_storage(x, "bfloat16", "a reference"), "bfloat16")


def walk(state, q, k, v, g, beta):
    """The recurrence over the tokens of one head: what S^T q is, and the state after all."""
    out = np.zeros_like(v)
    for t in range(len(v)):
        state = np.exp(g[t]) * state
        u = beta[t] * (v[t] - state.T @ k[t])
        state = state + np.outer(k[t], u)
        out[t] = state.T @ q[t]
    return out, state


def decode(args, q, k, v, g, beta):
    states = args["states_ptr"].copy()
    out = np.zeros_like(v)
    copies = v.shape[1] // q.shape[1]
    for token, slot in enumerate(args["slots_ptr"].astype(int)):
        if not 0 <= slot < len(states):
            continue
        for h in range(v.shape[1]):
            now = (x[token : token + 1, i] for x, i in ((q, h // copies), (k, h // copies), (v, h)))
            of_token = slice(token, token + 1)
            row, states[slot, h] = walk(states[slot, h], *now, g[of_token, h], beta[of_token, h])
            out[token, h] = args["scale"] * row[0]
    return {"states_ptr": states, "output_ptr": out}


def decode_reference(args):
    q, k = args["q_ptr"], args["k_ptr"]
    if args["normalize"]:
        q, k = (rounded(reference.normalized(x)) for x in (q, k))
    return decode(args, q, k, args["v_ptr"], args["g_ptr"], args["beta_ptr"])


def projected_reference(args):
    pairs, heads = args["num_key_heads"], args["num_value_heads"]
    rows = args["qkv_ptr"].reshape(args["batch_size"], 2 * pairs + heads, DIM)
    q, k = (rounded(reference.normalized(x)) for x in (rows[:, :pairs], rows[:, pairs : 2 * pairs]))
    gates = (args[n] for n in ("b_ptr", "a_ptr", "dt_bias_ptr", "a_log_ptr"))
    return decode(args, q, k, rows[:, 2 * pairs :], *reference.gates(*gates))


def recurrent_reference(args):
    heads = args["num_value_heads"]
    copies = heads // args["num_key_heads"]
    v = args["v_ptr"][:, : heads * DIM].reshape(-1, heads, DIM)
    out, states = np.zeros_like(v), args["initial_state_ptr"].copy()
    cu = args["cu_seqlens_ptr"].astype(int)
    for s, (begin, end) in enumerate(zip(cu[:-1], cu[1:], strict=True)):
        for h in range(heads):
            at = slice(begin, end)
            q, k = args["q_ptr"][at, h // copies], args["k_ptr"][at, h // copies]
            g, beta = args["g_ptr"][at, h], args["beta_ptr"][at, h]
            row, states[s, h] = walk(states[s, h], q, k, v[at, h], g, beta)
            out[at, h] = args["scale"] * row
    return {"output_ptr": out, "final_state_ptr": states}


def in_order(cu, count):
    return np.maximum.accumulate(np.clip(cu, 0, count))


def linear_inputs_reference(args):
    return {
        "alpha_out_ptr": np.exp(args["g_ptr"]),
        "state_out_ptr": np.swapaxes(args["initial_state_ptr"], -1, -2),
        "cu_seqlens_out_ptr": in_order(args["cu_seqlens_ptr"].astype(int), args["num_tokens"]),
    }


def linear_outputs_reference(args):
    final = np.swapaxes(args["state_ptr"], -1, -2).copy()
    cu = args["cu_seqlens_ptr"].astype(int)
    empty = cu[1:] <= cu[:-1]
    final[empty] = args["initial_state_ptr"][empty]
    return {"final_state_ptr": final}


# --- Parameters ---

GATES, ROWS = "batch_size, num_value_heads", "batch_size, num_value_heads, 128"
KEYS = "batch_size, num_key_heads, 128"
HEADS = value_heads("value heads, a multiple of the key heads")
BATCH = integer("batch_size", "tokens, one of each sequence", min=0, max=INT32_MAX)
SCALE = floating("scale", "multiplies the output")
PROJECTED = [
    array("qkv_ptr", "rows of each token: the q heads, the k heads, the v heads", "bfloat16"),
    array("b_ptr", "beta before the sigmoid", "bfloat16", GATES),
    array("a_ptr", "the gate's projection", "bfloat16", GATES),
    array("dt_bias_ptr", "added to it", "bfloat16", "num_value_heads"),
    array("a_log_ptr", "log of the gate's rate", "float32", "num_value_heads"),
]
STATES = array(
    "states_ptr",
    "states, updated in place",
    "float32",
    "num_slots, num_value_heads, 128, 128",
    output=True,
)
SLOTS = pointer(
    "slots_ptr",
    "the slot of each token's state, integers of slot_bits; a negative one or one past the slots "
    "is padding: output 0, no state touched; 0: token i has slot i",
    dtype="int32",
    shape="batch_size",
    alignment=4,
)
OUTPUT = array("output_ptr", "the output", "bfloat16", ROWS, output=True)
COUNTS = [
    BATCH,
    integer("num_slots", "states that there are", min=0, max=INT32_MAX),
    integer("slot_bits", "bits of a slot's number: 32 or 64", min=32, max=64),
    key_heads(),
    HEADS,
    SCALE,
]
SLOTS_FIT = [
    "slot_bits == 32 or slot_bits == 64",
    "slots_ptr % (slot_bits / 8) == 0",
]


def renamed(kinds):
    """Arguments of a kernel in its order: of each name and type the parameter of that name."""
    pairs = (word.split(":") for word in kinds.split())
    return {name.removesuffix("_ptr"): Arg(kind, name) for name, kind in pairs}


def decode_kernels(function, arguments, when=()):
    """Few heads are cut small, to be on all multiprocessors; many so that rows are read whole.

    On an H100, which has 132, some more are all there at once with half the registers.
    """

    def kernel(targets, columns, warps, blocks, *more):
        return CudaKernel(
            source="cuda/gated_delta_rule_decode.cu",
            function=function,
            arguments=renamed(arguments),
            grid=[f"num_value_heads * {DIM // columns}", "min(batch_size, 65535)", "1"],
            block=[32 * warps, 1, 1],
            defines={"COLUMNS": columns, "WARPS": warps, "BLOCKS": blocks},
            launch_pdl=targets == BEGIN_EARLY,
            targets=targets,
            when=[HEADS_FIT, *when, *more],
        )

    return [
        kernel(BEGIN_EARLY, 32, 4, 1, "batch_size * num_value_heads <= 132"),
        kernel(BEGIN_EARLY, 64, 8, 4, "batch_size * num_value_heads <= 264"),
        kernel(BEGIN_EARLY, 64, 8, 1),
        kernel(ALL_IN_TURN, 32, 4, 1, "batch_size * num_value_heads <= 256"),
        kernel(ALL_IN_TURN, 64, 8, 1),
    ]


# --- Golden cases: for each of the three ways to cut ---


def slots(count):
    """Padding of both kinds, and the last token in slot 0."""
    numbers = np.full(count, -1)
    numbers[1::2], numbers[-1] = 7, 0
    return {
        "slots_ptr": Memory("int32", [count], fill=Data(numbers)),
        "batch_size": count,
        "num_slots": 1,
        "slot_bits": 32,
    }


def states_and_output(count, heads):
    states = [1, heads, DIM, DIM]
    return {
        "states_ptr": Output("float32", states, atol=2e-3, fill=Uniform(seed=6, low=-1, high=1)),
        "output_ptr": bf16_output([count, heads, DIM], atol=2e-3),
        "num_value_heads": heads,
    }


def decode_case(count, pairs, heads, normalize):
    shape = [count, pairs, DIM]
    return Golden(
        name=f"{count} tokens, {heads} heads, normalize {normalize}",
        args={
            "q_ptr": uniform("bfloat16", shape, 1, -1, 1) if normalize else unit(shape, 1),
            "k_ptr": uniform("bfloat16", shape, 2, -1, 1) if normalize else unit(shape, 2),
            "v_ptr": uniform("bfloat16", [count, heads, DIM], 3, -1, 1),
            "g_ptr": uniform("float32", [count, heads], 4, -1, 0),
            "beta_ptr": uniform("float32", [count, heads], 5, 0, 1),
            **states_and_output(count, heads),
            **slots(count),
            "num_key_heads": pairs,
            "scale": 0.125,
            "normalize": normalize,
        },
        reference=decode_reference,
    )


def projections(count, pairs, heads):
    return {
        "qkv_ptr": uniform("bfloat16", [count, (2 * pairs + heads) * DIM], 1, -1, 1),
        "b_ptr": uniform("bfloat16", [count, heads], 2, -4, 4),
        "a_ptr": uniform("bfloat16", [count, heads], 3, -12, 2),
        "dt_bias_ptr": uniform("bfloat16", [heads], 4, -1, 1),
        "a_log_ptr": uniform("float32", [heads], 5, -1, 1),
        "num_key_heads": pairs,
    }


def projected_case(count, pairs, heads):
    return Golden(
        name=f"{count} tokens, {heads} heads",
        args={
            **projections(count, pairs, heads),
            **states_and_output(count, heads),
            **slots(count),
            "scale": DEFAULT_SCALE,
        },
        reference=projected_reference,
    )


def batch_case(count, pairs, heads):
    """Padding alone: where memory lies is not known before."""
    return Golden(
        name=f"{count} tokens of padding, {heads} heads",
        args={
            **projections(count, pairs, heads),
            "state_ptrs_ptr": Memory("uint64", [count], fill=Constant(0)),
            "output_ptr": bf16_output([count, heads, DIM], atol=0, rtol=0),
            "batch_size": count,
            "num_value_heads": heads,
        },
        reference=lambda args: {"output_ptr": np.zeros([count, heads, DIM])},
    )


def recurrent_case(bits, v_stride):
    count, pairs, heads, cu = 13, 1, 2, np.array([0, 0, 13])
    states = [2, heads, DIM, DIM]
    return Golden(
        name=f"0 and 13 tokens, int{bits}",
        args={
            "q_ptr": unit([count, pairs, DIM], 1),
            "k_ptr": unit([count, pairs, DIM], 2),
            "v_ptr": uniform("bfloat16", [count, v_stride], 3, -1, 1),
            "g_ptr": uniform("float32", [count, heads], 4, -1, 0),
            "beta_ptr": uniform("float32", [count, heads], 5, 0, 1),
            "initial_state_ptr": uniform("float32", states, 6, -1, 1),
            "cu_seqlens_ptr": Memory(f"int{bits}", [3], fill=Data(cu)),
            "output_ptr": bf16_output([count, heads, DIM], atol=1e-3),
            "final_state_ptr": fp32_output(states, atol=1e-5),
            "num_tokens": count,
            "num_sequences": 2,
            "cu_seqlens_bits": bits,
            "num_key_heads": pairs,
            "num_value_heads": heads,
            "v_stride": v_stride,
            "scale": 0.125,
        },
        reference=recurrent_reference,
    )


def linear_states(heads, seed):
    return uniform("float32", [3, heads, DIM, DIM], seed, -1, 1)


def linear_inputs_case(bits, heads):
    """Sequences that are not in order, and more gates than one block takes."""
    count, cu = 1500, np.array([-3, 900, 700, 1600])
    return Golden(
        name=f"{count} tokens, {heads} heads, int{bits}",
        args={
            "g_ptr": uniform("float32", [count, heads], 1, -10, 0),
            "initial_state_ptr": linear_states(heads, 2),
            "cu_seqlens_ptr": Memory(f"int{bits}", [4], fill=Data(cu)),
            "alpha_out_ptr": fp32_output([count, heads], atol=0, rtol=1e-6),
            "state_out_ptr": fp32_output([3, heads, DIM, DIM], atol=0),
            "cu_seqlens_out_ptr": Output("int64", [4]),
            "num_tokens": count,
            "num_sequences": 3,
            "cu_seqlens_bits": bits,
            "num_value_heads": heads,
        },
        reference=linear_inputs_reference,
    )


def linear_outputs_case(heads):
    return Golden(
        name=f"an empty sequence among three, {heads} heads",
        args={
            "state_ptr": linear_states(heads, 1),
            "initial_state_ptr": linear_states(heads, 2),
            "cu_seqlens_ptr": Memory("int64", [4], fill=Data(np.array([0, 5, 5, 9]))),
            "final_state_ptr": fp32_output([3, heads, DIM, DIM], atol=0),
            "num_sequences": 3,
            "num_value_heads": heads,
        },
        reference=linear_outputs_reference,
    )


# --- Functions ---

DECODE = Function(
    name=NAME + "decode",
    doc="One token of each sequence: the state of its slot is updated and asked",
    params=[
        array("q_ptr", "q", "bfloat16", KEYS),
        array("k_ptr", "k", "bfloat16", KEYS),
        array("v_ptr", "v", "bfloat16", ROWS),
        array("g_ptr", "log gates", "float32", GATES),
        array("beta_ptr", "beta", "float32", GATES),
        STATES,
        SLOTS,
        OUTPUT,
        *COUNTS,
        integer("normalize", "1: rows of q and k are first divided by their lengths", min=0, max=1),
        stream(),
    ],
    kernels=decode_kernels(
        "gated_delta_rule_decode",
        "q_ptr:*bf16 k_ptr:*bf16 v_ptr:*bf16 g_ptr:*fp32 beta_ptr:*fp32 states_ptr:*fp32 "
        "slots_ptr:*i32 output_ptr:*bf16 batch_size:i64 num_slots:i64 slot_bits:i32 "
        "num_key_heads:i32 num_value_heads:i32 scale:fp32 normalize:i32",
        SLOTS_FIT,
    ),
    golden=[decode_case(5, 1, 2, 0), decode_case(133, 1, 1, 0), decode_case(265, 1, 1, 1)],
)

DECODE_PROJECTED = Function(
    name=NAME + "decode_projected",
    doc="One token of each sequence from its projections; q and k are normalised",
    params=[*PROJECTED, STATES, SLOTS, OUTPUT, *COUNTS, stream()],
    kernels=decode_kernels(
        "gated_delta_rule_decode_projected",
        "qkv_ptr:*bf16 b_ptr:*bf16 a_ptr:*bf16 dt_bias_ptr:*bf16 a_log_ptr:*fp32 states_ptr:*fp32 "
        "slots_ptr:*i32 output_ptr:*bf16 batch_size:i64 num_slots:i64 slot_bits:i32 "
        "num_key_heads:i32 num_value_heads:i32 scale:fp32",
        SLOTS_FIT,
    ),
    golden=[projected_case(5, 1, 2), projected_case(133, 1, 1), projected_case(265, 1, 1)],
)

PROJECTION_NAMES = {"b_ptr": "b_proj_ptr", "a_ptr": "a_proj_ptr"}


def projection_named(golden):
    args = {PROJECTION_NAMES.get(name, name): value for name, value in golden.args.items()}
    return Golden(golden.name, args, golden.reference)


DECODE_BATCH = Function(
    name=NAME + "decode_batch",
    doc="As decode_projected, states by their addresses, scale 128^-0.5",
    params=[
        PROJECTED[0],
        array("b_proj_ptr", "beta before the sigmoid", "bfloat16", GATES),
        array("a_proj_ptr", "the gate's projection", "bfloat16", GATES),
        *PROJECTED[3:],
        array(
            "state_ptrs_ptr",
            "the address of each token's state, float32 [num_value_heads, 128, 128], updated in "
            "place; 0, or what is no multiple of 16, is padding: output 0",
            "uint64",
            "batch_size",
        ),
        OUTPUT,
        BATCH,
        key_heads(),
        HEADS,
        stream(),
    ],
    kernels=decode_kernels(
        "gated_delta_rule_decode_batch",
        "qkv_ptr:*bf16 b_proj_ptr:*bf16 a_proj_ptr:*bf16 dt_bias_ptr:*bf16 a_log_ptr:*fp32 "
        "state_ptrs_ptr:*u64 output_ptr:*bf16 batch_size:i64 num_key_heads:i32 num_value_heads:i32",
    ),
    golden=[projection_named(batch_case(n, 1, h)) for n, h in ((5, 2), (133, 1), (265, 1))],
)

PREFILL_RECURRENT = Function(
    name=NAME + "prefill_recurrent",
    doc="A prefill of one or many sequences, token by token: for short ones",
    params=[
        array("q_ptr", "rows of q, normalised", "bfloat16", "num_tokens, num_key_heads, 128"),
        array("k_ptr", "rows of k, normalised", "bfloat16", "num_tokens, num_key_heads, 128"),
        array("v_ptr", "v, rows of 128 for each head first", "bfloat16", "num_tokens, v_stride"),
        array("g_ptr", "log gates", "float32", "num_tokens, num_value_heads"),
        array("beta_ptr", "beta", "float32", "num_tokens, num_value_heads"),
        array(
            "initial_state_ptr",
            "states before all",
            "float32",
            "num_sequences, num_value_heads, 128, 128",
            null="zeros",
        ),
        pointer(
            "cu_seqlens_ptr",
            "where each sequence begins, and the end: num_sequences + 1 integers of "
            "cu_seqlens_bits; 0: one sequence",
            alignment=4,
        ),
        array(
            "output_ptr", "the output", "bfloat16", "num_tokens, num_value_heads, 128", output=True
        ),
        array(
            "final_state_ptr",
            "states after all; may be initial_state_ptr",
            "float32",
            "num_sequences, num_value_heads, 128, 128",
            output=True,
            null="not wanted",
        ),
        tokens(),
        integer("num_sequences", "sequences", min=0, max=INT32_MAX),
        integer("cu_seqlens_bits", "bits of such an integer: 32 or 64", min=32, max=64),
        key_heads(),
        HEADS,
        integer("v_stride", "elements of v from token to token", min=0, max=INT32_MAX),
        SCALE,
        stream(),
    ],
    kernels=[
        CudaKernel(
            source="cuda/gated_delta_rule_prefill_recurrent.cu",
            function="gated_delta_rule_prefill_recurrent",
            arguments=renamed(
                "q_ptr:*bf16 k_ptr:*bf16 v_ptr:*bf16 g_ptr:*fp32 beta_ptr:*fp32 "
                "initial_state_ptr:*fp32 cu_seqlens_ptr:*i32 output_ptr:*bf16 "
                "final_state_ptr:*fp32 num_tokens:i64 num_sequences:i64 cu_seqlens_bits:i32 "
                "num_key_heads:i32 num_value_heads:i32 v_stride:i64 scale:fp32"
            ),
            grid=["num_value_heads * 4", "min(num_sequences, 65535)", "1"],
            block=[128, 1, 1],
            when=[
                HEADS_FIT,
                BITS_FIT,
                ONE_OR_LISTED,
                "cu_seqlens_ptr % (cu_seqlens_bits / 8) == 0",
                "v_stride >= num_value_heads * 128",
                "v_stride % 4 == 0",  # v is read by 8 bytes
            ],
        )
    ],
    golden=[recurrent_case(32, 256), recurrent_case(64, 320)],
)

SEQUENCES = integer("num_sequences", "sequences", min=0, max=INT32_MAX)
STATES_SHAPE = "num_sequences, num_value_heads, 128, 128"
LISTED = pointer(
    "cu_seqlens_ptr",
    "where each sequence begins, and the end: num_sequences + 1 integers of cu_seqlens_bits; 0: "
    "one sequence",
    alignment=4,
)

LINEAR_INPUTS = Function(
    name=NAME + "prefill_linear_inputs",
    doc="What a provided prefill takes: linear gates, states [V, K], sequences in order",
    params=[
        array("g_ptr", "log gates", "float32", "num_tokens, num_value_heads"),
        array("initial_state_ptr", "states [K, V]", "float32", STATES_SHAPE, null="not wanted"),
        LISTED,
        array("alpha_out_ptr", "exp(g)", "float32", "num_tokens, num_value_heads", output=True),
        array(
            "state_out_ptr",
            "states [V, K]",
            "float32",
            STATES_SHAPE,
            output=True,
            null="as initial_state_ptr",
        ),
        array(
            "cu_seqlens_out_ptr",
            "where each sequence begins, num_sequences + 1 int64: within the tokens, never "
            "decreasing",
            "int64",
            output=True,
        ),
        tokens(),
        SEQUENCES,
        integer("cu_seqlens_bits", "bits of such an integer: 32 or 64", min=32, max=64),
        HEADS,
        stream(),
    ],
    kernels=[
        CudaKernel(
            source="cuda/gated_delta_rule_prefill_linear.cu",
            function="gated_delta_rule_prefill_linear_inputs",
            arguments=renamed(
                "g_ptr:*fp32 initial_state_ptr:*fp32 cu_seqlens_ptr:*i32 alpha_out_ptr:*fp32 "
                "state_out_ptr:*fp32 cu_seqlens_out_ptr:*i64 num_tokens:i64 num_sequences:i64 "
                "cu_seqlens_bits:i32 num_value_heads:i32"
            ),
            grid=[
                "min(1 + cdiv(num_tokens * num_value_heads, 2048) + "
                "num_sequences * num_value_heads * 4, 4096)",
                "1",
                "1",
            ],
            block=[256, 1, 1],
            when=[
                BITS_FIT,
                ONE_OR_LISTED,
                "cu_seqlens_ptr % (cu_seqlens_bits / 8) == 0",
                "initial_state_ptr == 0 or state_out_ptr != 0",
            ],
        )
    ],
    golden=[linear_inputs_case(32, 2), linear_inputs_case(64, 1)],
)

LINEAR_OUTPUTS = Function(
    name=NAME + "prefill_linear_outputs",
    doc="The states that a provided prefill leaves, turned; those of empty sequences as they were",
    params=[
        array("state_ptr", "states [V, K]", "float32", STATES_SHAPE),
        array("initial_state_ptr", "states [K, V]", "float32", STATES_SHAPE, null="zeros"),
        array("cu_seqlens_ptr", "where each sequence begins, num_sequences + 1 int64", "int64"),
        array(
            "final_state_ptr",
            "states [K, V]; may be initial_state_ptr",
            "float32",
            STATES_SHAPE,
            output=True,
        ),
        SEQUENCES,
        HEADS,
        stream(),
    ],
    kernels=[
        CudaKernel(
            source="cuda/gated_delta_rule_prefill_linear.cu",
            function="gated_delta_rule_prefill_linear_outputs",
            arguments=renamed(
                "state_ptr:*fp32 initial_state_ptr:*fp32 cu_seqlens_ptr:*i64 "
                "final_state_ptr:*fp32 num_sequences:i64 num_value_heads:i32"
            ),
            grid=["min(num_sequences * num_value_heads * 4, 8192)", "1", "1"],
            block=[256, 1, 1],
        )
    ],
    golden=[linear_outputs_case(2)],
)

CUDA = [DECODE, DECODE_PROJECTED, DECODE_BATCH, PREFILL_RECURRENT, LINEAR_INPUTS, LINEAR_OUTPUTS]
