# SPDX-License-Identifier: Apache-2.0
"""Properties of the gated delta rule on numpy's arrays: hypothesis chooses shapes, lengths, gates.

Every answer is compared with the recurrence in fp64. PEGA_TEST_SEED is the seed, a number; what
fails is made small by hypothesis and printed, and the same seed finds it again.
"""

import os

import numpy as np
import tvm_ffi
from conversation import Bfloat16Tensor, bfloat16_to_float64, load
from hypothesis import HealthCheck, given, note, seed, settings
from hypothesis import strategies as st

SEED = int(os.environ.get("PEGA_TEST_SEED", "20260"))
EXAMPLES = int(os.environ.get("PEGA_TEST_EXAMPLES", "120"))
PREFIX = "pegainfer.qwen35.gated_delta_rule_"
# Relative rms of the CPU's answers; rounding to bf16 alone is about 1.7e-3.
OUTPUT_LIMIT = 2.0e-3
STATE_LIMIT = 1e-4
# Of fewer numbers rounding can make more than that: each is then looked at by itself.
FEW = 4096

NAMES = load(with_engine=False)
prefill = tvm_ffi.get_global_func(PREFIX + "prefill")
prefill_projected = tvm_ffi.get_global_func(PREFIX + "prefill_projected")
prefill_workspace = tvm_ffi.get_global_func(PREFIX + "prefill_workspace")
decode = tvm_ffi.get_global_func(PREFIX + "decode")
decode_projected = tvm_ffi.get_global_func(PREFIX + "decode_projected")
print(f"seed {SEED} (PEGA_TEST_SEED), {EXAMPLES} examples (PEGA_TEST_EXAMPLES)")

worst = {"output": 0.0, "state": 0.0}


def to_bfloat16(values):
    """bf16 bits of numbers, to the nearest, ties to even."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def tensor(array):
    """An array as tvm_ffi takes it: uint16 stands for bf16; None stays None."""
    if array is None:
        return None
    return tvm_ffi.from_dlpack(Bfloat16Tensor(array) if array.dtype == np.uint16 else array)


def normalized(bits):
    rows = bfloat16_to_float64(bits)
    return to_bfloat16(rows / np.sqrt((rows**2).sum(-1, keepdims=True) + 1e-12))


def without_ties(bits):
    """Rows whose normalised numbers are not halfway between two of bf16.

    There a last bit of fp32 decides, and each of two answers is right.
    """
    bits = bits.copy()
    for column in range(128):  # one try in four fails, and changes the row's length
        rows = bfloat16_to_float64(bits)
        rows = rows / np.sqrt((rows**2).sum(-1, keepdims=True) + 1e-12)
        units = np.ldexp(np.abs(rows), 8 - np.frexp(rows)[1])
        ties = (np.abs(units - np.floor(units) - 0.5) < 1e-3).any(-1)
        if not ties.any():
            break
        bits[ties, column] ^= 1
    return bits


class Problem:
    """One call's inputs. `q` to `beta` are what the rule is of; the rest: how they are given."""

    def __init__(self, lengths, key_heads, group, gates, betas, projected, normalize, initial,
                 scale, cu_dtype, implementation, own_workspace, random_seed):
        random = np.random.default_rng(random_seed)
        self.lengths, self.key_heads, self.heads = lengths, key_heads, key_heads * group
        self.tokens, self.sequences = sum(lengths), len(lengths)
        self.projected, self.normalize = projected, normalize
        self.scale, self.implementation = scale, implementation
        self.own_workspace = own_workspace
        keys = (self.tokens, key_heads, 128)
        long_q, long_k = (
            without_ties(to_bfloat16(random.standard_normal(keys) * 10 ** random.uniform(-1, 1)))
            for _ in range(2))
        self.q, self.k = normalized(long_q), normalized(long_k)
        self.given_q, self.given_k = (long_q, long_k) if normalize else (self.q, self.k)
        self.v = to_bfloat16(random.standard_normal((self.tokens, self.heads, 128)))
        rows = (self.tokens, self.heads)
        if projected:
            self.b, self.a = (to_bfloat16(random.standard_normal(rows) * 2) for _ in range(2))
            self.dt_bias = to_bfloat16(random.choice([-1.0, 0.5, 25.0], self.heads))
            strongest = max(-g for g in gates if np.isfinite(g)) + 1e-6
            self.a_log = np.log(random.uniform(0, strongest, self.heads) + 1e-9).astype(np.float32)
            x = bfloat16_to_float64(self.a) + bfloat16_to_float64(self.dt_bias)
            softplus = np.where(x > 20, x, np.log1p(np.exp(np.minimum(x, 20))))
            self.g = (-np.exp(self.a_log.astype(np.float64)) * softplus).astype(np.float32)
            self.beta = (1 / (1 + np.exp(-bfloat16_to_float64(self.b)))).astype(np.float32)
            parts = [part.reshape(self.tokens, part.shape[1] * 128)
                     for part in (long_q, long_k, self.v)]
            self.qkv = np.ascontiguousarray(np.concatenate(parts, axis=1))
        else:
            strong = random.choice(np.array(gates, np.float32), rows)
            with np.errstate(invalid="ignore"):
                some = strong * random.uniform(0, 1, rows).astype(np.float32)
            self.g = np.where(np.isfinite(strong), some, strong).astype(np.float32)
            chosen = random.choice(np.array(betas, np.float32), rows)
            some = random.uniform(0, 1, rows).astype(np.float32)
            self.beta = np.where(chosen < 0, some, chosen).astype(np.float32)
        states = (self.sequences, self.heads, 128, 128)
        self.initial = random.normal(0, 0.5, states).astype(np.float32) if initial else None
        ends = np.concatenate([[0], np.cumsum(lengths)])
        self.cu_seqlens = None if cu_dtype is None else ends.astype(cu_dtype)

    def inputs(self, rows=slice(None)):
        if self.projected:
            return [tensor(array) for array in (self.qkv[rows], self.b[rows], self.a[rows],
                                                self.dt_bias, self.a_log)]
        return [tensor(array) for array in (self.given_q[rows], self.given_k[rows], self.v[rows],
                                            self.g[rows], self.beta[rows])]

    def outputs(self):
        output = np.full((self.tokens, self.heads, 128), 0xFFFF, np.uint16)
        return output, np.full((self.sequences, self.heads, 128, 128), np.nan, np.float32)

    def run(self, output, final, initial, cu_seqlens, rows=slice(None), sequences=None):
        arguments = [tensor(initial), tensor(cu_seqlens), self.scale, tensor(output[rows]),
                     tensor(final)]
        if not self.projected:
            arguments.append(self.normalize)
        workspace = None
        if self.own_workspace:
            tokens = len(output[rows])
            size = prefill_workspace(tokens, sequences or self.sequences, self.key_heads,
                                     self.heads, tvm_ffi.device("cpu", 0), self.projected,
                                     self.normalize, self.implementation)
            workspace = np.full(size, 0xFF, np.uint8)
        function = prefill_projected if self.projected else prefill
        function(*self.inputs(rows), *arguments, self.implementation, tensor(workspace), True)

    def recurrence(self):
        """The rule in fp64, token by token: output and final state."""
        key_heads = np.arange(self.heads) * self.key_heads // self.heads
        q, k = (bfloat16_to_float64(x)[:, key_heads] for x in (self.q, self.k))
        v, beta = bfloat16_to_float64(self.v), self.beta.astype(np.float64)
        decay = np.exp(self.g.astype(np.float64))
        scale = 128**-0.5 if self.scale is None else self.scale
        output = np.empty(v.shape)
        final = np.zeros((self.sequences, self.heads, 128, 128))
        if self.initial is not None:
            final[:] = self.initial
        token = 0
        for length, state in zip(self.lengths, final):
            for t in range(token, token + length):
                state *= decay[t, :, None, None]
                u = beta[t, :, None] * (v[t] - np.matmul(k[t, :, None, :], state)[:, 0])
                state += k[t, :, :, None] * u[:, None, :]
                output[t] = scale * np.matmul(q[t, :, None, :], state)[:, 0]
            token += length
        return output, final


def check(name, got, expected, limit):
    assert not np.isnan(got).any(), name
    norm = np.linalg.norm(expected)
    if norm == 0:
        assert not got.any(), name
        return
    error = np.linalg.norm(got - expected) / norm
    if name == "output" and got.size < FEW:
        # Half a unit in the last place is at most 2^-8 of a number.
        assert (np.abs(got - expected)
                <= np.abs(expected) * 2.0**-8 + np.abs(expected).max() * 1e-4).all(), name
        return
    worst[name] = max(worst[name], error)
    assert error <= limit, f"{name}: rms {error:.3g}, at most {limit:.3g}"


def check_both(output, final, expected):
    check("output", bfloat16_to_float64(output), expected[0], OUTPUT_LIMIT)
    check("state", final.astype(np.float64), expected[1], STATE_LIMIT)


# Lengths around the chunk's, and any.
length = st.one_of(st.sampled_from([0, 1, 2, 63, 64, 65, 127, 128, 129]), st.integers(0, 200))
gate_sets = st.sampled_from([(-0.1,), (-10.0,), (-0.1, 0.0), (-0.1, -1e4), (-0.1, -np.inf),
                             (-10.0, -0.001), (-1e-6,)])
beta_sets = st.sampled_from([(-1.0,), (0.0, -1.0), (1.0, -1.0), (0.0, 1.0), (1.0,)])  # -1: random


@st.composite
def problems(draw, lengths=None):
    if lengths is None:
        lengths = draw(st.lists(length, min_size=1, max_size=5))
    one = len(lengths) == 1
    projected = draw(st.booleans())
    return Problem(
        lengths=lengths,
        key_heads=draw(st.integers(1, 3)),
        group=draw(st.integers(1, 4)),
        gates=draw(gate_sets),
        betas=draw(beta_sets),
        projected=projected,
        normalize=not projected and draw(st.booleans()),
        initial=draw(st.booleans()),
        scale=draw(st.sampled_from([None, 1.0, -0.3])),
        cu_dtype=draw(st.sampled_from([None, "int32", "int64"] if one else ["int32", "int64"])),
        implementation=draw(st.sampled_from([None, "cpu_chunked", "cpu_recurrent"])),
        own_workspace=draw(st.booleans()),
        random_seed=draw(st.integers(0, 2**32 - 1)),
    )


def describe(problem):
    note(f"lengths {problem.lengths}, HK {problem.key_heads}, HV {problem.heads}, "
         f"{'projected' if problem.projected else 'plain'}, normalize {problem.normalize}, "
         f"implementation {problem.implementation}, scale {problem.scale}")


def bounded(examples):
    """Settings of a property: this many examples, no clock, nothing kept on disk."""
    return settings(max_examples=max(1, examples), deadline=None, database=None, print_blob=True,
                    suppress_health_check=list(HealthCheck))


@seed(SEED)
@bounded(EXAMPLES)
@given(problems())
def test_prefill_is_the_recurrence(problem):
    describe(problem)
    output, final = problem.outputs()
    problem.run(output, final, problem.initial, problem.cu_seqlens)
    check_both(output, final, problem.recurrence())


@seed(SEED)
@bounded(EXAMPLES // 4)
@given(st.data(), st.integers(1, 200))
def test_in_place_and_in_parts(data, tokens):
    """Cut anywhere, with the state carried over in place, a prefill is the same prefill."""
    problem = data.draw(problems(lengths=[tokens]))
    describe(problem)
    cut = data.draw(st.integers(0, tokens))
    output, final = problem.outputs()
    state = np.zeros_like(final) if problem.initial is None else problem.initial.copy()
    for rows in (slice(0, cut), slice(cut, tokens)):
        problem.run(output, state, state, None, rows, 1)
    check_both(output, state, problem.recurrence())


@seed(SEED)
@bounded(EXAMPLES // 4)
@given(st.data(), st.integers(1, 6))
def test_decode_is_the_recurrence(data, batch):
    """One token of each of a batch, with states anywhere in a pool, and some of it padding."""
    problem = data.draw(problems(lengths=[1] * batch))
    describe(problem)
    slots = data.draw(st.permutations(range(batch + 3)))[:batch]
    slots = [-1 if data.draw(st.booleans()) and data.draw(st.booleans()) else s for s in slots]
    note(f"slots {slots}")
    pool = np.random.default_rng(1).standard_normal((batch + 3, problem.heads, 128, 128))
    pool = pool.astype(np.float32)
    before = pool.copy()
    if problem.initial is None:
        problem.initial = np.zeros((batch, problem.heads, 128, 128), np.float32)
    for i, slot in enumerate(slots):
        if slot >= 0:
            pool[slot] = problem.initial[i]
    output, _ = problem.outputs()
    dtype = data.draw(st.sampled_from([np.int32, np.int64]))
    arguments = [tensor(pool), tensor(np.array(slots, dtype)), problem.scale, tensor(output)]
    if problem.projected:
        decode_projected(*problem.inputs(), *arguments, True)
    else:
        decode(*problem.inputs(), *arguments, problem.normalize, True)
    expected, states = problem.recurrence()
    for i, slot in enumerate(slots):
        if slot < 0:
            assert not output[i].any()
            expected[i] = 0
        else:
            check("state", pool[slot].astype(np.float64), states[i], STATE_LIMIT)
    check("output", bfloat16_to_float64(output), expected, OUTPUT_LIMIT)
    for slot in set(range(batch + 3)) - set(slots):
        assert np.array_equal(pool[slot], before[slot])


@seed(SEED)
@bounded(EXAMPLES // 4)
@given(problems(), st.data())
def test_wrong_lengths_are_refused(problem, data):
    """Whatever cu_seqlens holds, it is taken or refused, and nothing is written then."""
    wrong = np.concatenate([[0], np.cumsum(problem.lengths)]).astype(np.int32)
    for _ in range(data.draw(st.integers(1, 2))):
        index = data.draw(st.integers(0, len(problem.lengths)))
        wrong[index] = data.draw(st.one_of(
            st.integers(-3, 300), st.integers(max(0, problem.tokens - 3), problem.tokens + 3),
            st.sampled_from([-2**31, 2**31 - 1])))
    note(f"cu_seqlens {wrong}")
    ends = wrong.astype(np.int64)
    good = ends[0] == 0 and ends[-1] == problem.tokens and (np.diff(ends) >= 0).all()
    output, final = problem.outputs()
    try:
        problem.run(output, final, problem.initial, wrong)
        assert good
    except ValueError as error:
        assert not good and "cu_seqlens[" in str(error)
        assert (output == 0xFFFF).all() and np.isnan(final).all()


def test_say_how_near():
    """Last: how near all of the above were."""
    print(f"seed {SEED}: worst output rms {worst['output']:.2e} (at most {OUTPUT_LIMIT:.1e}), "
          f"worst state rms {worst['state']:.2e} (at most {STATE_LIMIT:.1e})")
