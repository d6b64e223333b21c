# SPDX-License-Identifier: Apache-2.0
"""The gated delta rule from Python on a GPU: torch's CUDA tensors through tvm_ffi, beside FLA.

The bridge, which PEGA_TEST_BRIDGE names, is loaded as any artifact is. PEGA_TEST_FLA names a folder
with FLA, whose kernels then run on the same inputs. Run by itself.
Ends with 77 and a line "SKIP: reason" where torch, tvm_ffi or a GPU is not to be had.
"""

import os
import sys

# Another interpreter than the project's (one with torch) borrows what it lacks from these folders.
sys.path.extend(filter(None, [os.environ.get("PEGA_TEST_SITE_PACKAGES"),
                              os.environ.get("PEGA_TEST_FLA")]))
try:
    import pytest
except ImportError as missing:
    print(f"SKIP: {sys.executable} has no pytest ({missing}): install it there, or name in "
          "PEGA_TORCH_PYTHON a Python that has torch and pytest")
    sys.exit(77)

PREFIX = "pegainfer.qwen35.gated_delta_rule_"
SLEEP = 200_000_000  # cycles: about a tenth of a second, far longer than any prefill here
# Relative rms: what FLA's own kernels are off by on an H100.
OUTPUT_LIMIT = 3.8e-3
STATE_LIMIT = 3.0e-3
IMPLEMENTATIONS = [None, "triton_chunked", "triton_fused", "cuda_recurrent"]


def why_not() -> str | None:
    """Why nothing here can run, or None."""
    try:
        import torch
        import tvm_ffi
    except ImportError as error:
        return f"this Python, {sys.version.split()[0]}, has not what is needed: {error}"
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    if "PEGA_TEST_BRIDGE" not in os.environ:
        return "PEGA_TEST_BRIDGE does not name libpega_tvm_ffi.so"
    print(f"torch {torch.__version__}, tvm_ffi {tvm_ffi.__version__}, "
          f"python {sys.version.split()[0]}, {torch.cuda.get_device_name(0)}")
    return None


if __name__ != "__main__":  # pytest imports this file, once main() knows that it can
    import torch
    import tvm_ffi

    bridge = tvm_ffi.load_module(os.environ["PEGA_TEST_BRIDGE"])
    names = [str(name) for name in bridge["pega_register"]()]
    prefill = tvm_ffi.get_global_func(PREFIX + "prefill")
    prefill_projected = tvm_ffi.get_global_func(PREFIX + "prefill_projected")
    prefill_workspace = tvm_ffi.get_global_func(PREFIX + "prefill_workspace")
    decode = tvm_ffi.get_global_func(PREFIX + "decode")
    decode_projected = tvm_ffi.get_global_func(PREFIX + "decode_projected")


# ---- inputs and the answer ----


class Inputs:
    """q, k of length 1, v normal, all bf16; g in [gate, 0], beta in (0, 1), fp32."""

    def __init__(self, lengths, heads=(16, 32), gate=-0.1, seed=1, state=0.0):
        generator = torch.Generator("cuda").manual_seed(seed)
        options = {"generator": generator, "device": "cuda"}
        self.lengths, self.tokens = lengths, sum(lengths)
        self.key_heads, self.value_heads = heads
        normalize = torch.nn.functional.normalize

        def unit():
            rows = torch.randn(self.tokens, self.key_heads, 128, **options)
            return normalize(rows, dim=-1).bfloat16()

        self.q, self.k = unit(), unit()
        self.v = torch.randn(self.tokens, self.value_heads, 128, **options).bfloat16()
        self.g = gate * torch.rand(self.tokens, self.value_heads, **options)
        self.beta = torch.rand(self.tokens, self.value_heads, **options)
        shape = (len(lengths), self.value_heads, 128, 128)
        self.initial = state * torch.randn(shape, **options) if state else None
        ends = torch.tensor(lengths, dtype=torch.int64).cumsum(0)
        self.cu_seqlens = torch.cat([torch.zeros(1, dtype=torch.int64), ends]).cuda()

    def rows(self):
        return self.q, self.k, self.v, self.g, self.beta

    def outputs(self):
        """An output and a final state with NaN all over."""
        final = torch.full((len(self.lengths), self.value_heads, 128, 128), float("nan"),
                           device="cuda")
        return torch.full_like(self.v, float("nan")), final


def recurrence(inputs, scale=128**-0.5):
    """The rule in fp64, token by token: output and final state."""
    groups = inputs.value_heads // inputs.key_heads
    q = inputs.q.double().repeat_interleave(groups, 1)
    k = inputs.k.double().repeat_interleave(groups, 1)
    v, beta, decay = inputs.v.double(), inputs.beta.double(), inputs.g.double().exp()
    output = torch.empty_like(v)
    final = torch.zeros(len(inputs.lengths), inputs.value_heads, 128, 128, dtype=torch.float64,
                        device="cuda")
    if inputs.initial is not None:
        final.copy_(inputs.initial)
    token = 0
    for length, state in zip(inputs.lengths, final):
        for t in range(token, token + length):
            state *= decay[t, :, None, None]
            u = beta[t, :, None] * (v[t] - torch.einsum("hkv,hk->hv", state, k[t]))
            state += k[t, :, :, None] * u[:, None, :]
            output[t] = scale * torch.einsum("hkv,hk->hv", state, q[t])
        token += length
    return output, final


def rms(got, expected):
    """sqrt(mean (got - expected)^2) / sqrt(mean expected^2); NaN counts as infinitely far."""
    error = float((got.double() - expected).norm() / expected.norm())
    return error if error == error else float("inf")


def run(inputs, implementation=None, cu_seqlens=None):
    output, final = inputs.outputs()
    if cu_seqlens is None and len(inputs.lengths) > 1:
        cu_seqlens = inputs.cu_seqlens
    prefill(*inputs.rows(), inputs.initial, cu_seqlens, None, output, final, None, implementation)
    torch.cuda.synchronize()
    return output, final


# ---- beside FLA ----


def load_fla():
    """FLA's module of the rule, each of its kernels with two settings instead of dozens.

    Which setting is fastest is not asked here, and trying all takes minutes.
    """
    import fla.ops.gated_delta_rule as gated_delta_rule

    seen = set()
    for name, module in list(sys.modules.items()):
        if not name.startswith("fla."):
            continue
        for kernel in list(vars(module).values()):
            while kernel is not None and id(kernel) not in seen:
                seen.add(id(kernel))
                configs = getattr(kernel, "configs", None)
                if isinstance(configs, list) and len(configs) > 2:
                    configs[1:] = configs[-1:]
                kernel = getattr(kernel, "fn", None)
    return gated_delta_rule


@pytest.fixture(scope="module")
def fla():
    try:
        return load_fla()
    except ImportError as error:
        print(f"SKIP: FLA beside ours: {error} (PEGA_TEST_FLA names a folder that has it)")
        pytest.skip(str(error))


def run_fla(fla, inputs):
    q, k, v, g, beta = (tensor[None] for tensor in inputs.rows())
    cu_seqlens = inputs.cu_seqlens if len(inputs.lengths) > 1 else None
    output, final = fla.chunk_gated_delta_rule(
        q, k, v, g, beta, scale=128**-0.5, initial_state=inputs.initial, output_final_state=True,
        cu_seqlens=cu_seqlens)
    torch.cuda.synchronize()
    return output[0], final


def compare(fla, inputs, what):
    expected, expected_final = recurrence(inputs)
    theirs, their_final = run_fla(fla, inputs)
    line = (f"{what:<34} FLA: output rms {rms(theirs, expected):.2e}, "
            f"final state rms {rms(their_final, expected_final):.2e};")
    for implementation in IMPLEMENTATIONS:
        ours, our_final = run(inputs, implementation)
        errors = rms(ours, expected), rms(our_final, expected_final)
        print(f"{line} {implementation or 'chosen':<14} {errors[0]:.2e}, {errors[1]:.2e}")
        line = " " * len(line)
        assert errors[0] <= OUTPUT_LIMIT
        assert errors[1] <= STATE_LIMIT
        # Two answers, each as near to the true one as it has to be.
        assert rms(ours, theirs.double()) <= 2 * OUTPUT_LIMIT
        assert rms(our_final, their_final.double()) <= 2 * STATE_LIMIT


@pytest.mark.parametrize("gate", [-0.1, -10.0])
@pytest.mark.parametrize("tokens", [64, 256, 1000])
def test_beside_fla(fla, tokens, gate):
    for seed in (1, 2):
        inputs = Inputs([tokens], gate=gate, seed=seed)
        compare(fla, inputs, f"g in [{gate}, 0] T={tokens} seed {seed}")


@pytest.mark.parametrize("heads", [(16, 32), (4, 8), (2, 2)])
def test_batches_beside_fla(fla, heads):
    inputs = Inputs([63, 1, 65, 128, 200], heads=heads, seed=3, state=0.3)
    compare(fla, inputs, f"5 sequences, HK={heads[0]} HV={heads[1]}")


def test_decode_beside_fla(fla):
    """FLA's token-by-token kernel, a batch of sequences of one token each, on the same states."""
    inputs = Inputs([1] * 8, seed=4, state=0.3)
    expected, expected_final = recurrence(inputs)
    q, k, v, g, beta = (tensor[None] for tensor in inputs.rows())
    theirs, their_final = fla.fused_recurrent_gated_delta_rule(
        q, k, v, g=g, beta=beta, scale=128**-0.5, initial_state=inputs.initial.clone(),
        output_final_state=True, cu_seqlens=inputs.cu_seqlens)
    states, ours = inputs.initial.clone(), inputs.outputs()[0]
    decode(*inputs.rows(), states, None, None, ours)
    torch.cuda.synchronize()
    print(f"decode, 8 sequences: FLA: output rms {rms(theirs[0], expected):.2e}, state rms "
          f"{rms(their_final, expected_final):.2e}; ours {rms(ours, expected):.2e}, "
          f"{rms(states, expected_final):.2e}")
    assert rms(ours, expected) <= OUTPUT_LIMIT
    assert rms(states, expected_final) <= STATE_LIMIT
    assert rms(ours, theirs[0].double()) <= 2 * OUTPUT_LIMIT


# ---- torch as a client ----


def test_registered():
    for name in ("prefill", "prefill_projected", "prefill_workspace", "decode", "decode_projected"):
        assert PREFIX + name in names


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_prefill(implementation, dtype):
    inputs = Inputs([65, 0, 1, 130], heads=(2, 6), seed=5, state=0.3)
    output, final = run(inputs, implementation, inputs.cu_seqlens.to(getattr(torch, dtype)))
    expected, expected_final = recurrence(inputs)
    assert rms(output, expected) <= OUTPUT_LIMIT
    assert rms(final, expected_final) <= STATE_LIMIT
    assert torch.equal(final[1], inputs.initial[1])


def test_in_place_and_left_out():
    inputs = Inputs([100], heads=(2, 4), seed=6, state=0.3)
    expected, expected_final = recurrence(inputs)
    output, _ = inputs.outputs()
    state = inputs.initial.clone()
    prefill(*inputs.rows(), state, None, None, output, state)
    torch.cuda.synchronize()
    assert rms(output, expected) <= OUTPUT_LIMIT and rms(state, expected_final) <= STATE_LIMIT
    output.fill_(float("nan"))
    prefill(*inputs.rows(), inputs.initial, None, 1.0, output)
    torch.cuda.synchronize()
    assert rms(output, recurrence(inputs, scale=1.0)[0]) <= OUTPUT_LIMIT


def project(inputs):
    """Projections from which the rule's prepare makes these inputs' q, k and v, and other gates."""
    generator = torch.Generator("cuda").manual_seed(9)
    options = {"generator": generator, "device": "cuda"}
    rows = [tensor.flatten(1) for tensor in (3 * inputs.q, 0.5 * inputs.k, inputs.v)]
    shape = (inputs.tokens, inputs.value_heads)
    a, b = (torch.randn(shape, **options).bfloat16() for _ in range(2))
    dt_bias = torch.randn(inputs.value_heads, **options).bfloat16()
    a_log = torch.log(0.1 * torch.rand(inputs.value_heads, **options))
    inputs.g = (-a_log.double().exp()
                * torch.nn.functional.softplus(a.double() + dt_bias.double())).float()
    inputs.beta = b.double().sigmoid().float()
    for name in ("q", "k"):
        scaled = (3.0 if name == "q" else 0.5) * getattr(inputs, name)
        length = (scaled.double().square().sum(-1, keepdim=True) + 1e-12).sqrt()
        setattr(inputs, name, (scaled.double() / length).bfloat16())
    return torch.cat(rows, 1).contiguous(), b, a, dt_bias, a_log


def test_projected_then_decode():
    """A prompt by its projections, then one token: the same as a prompt that is longer by one."""
    inputs = Inputs([101], heads=(4, 8), seed=7)
    qkv, b, a, dt_bias, a_log = project(inputs)
    expected, expected_final = recurrence(inputs)
    output, pool = inputs.outputs()[0], torch.zeros(3, 8, 128, 128, device="cuda")
    slot = torch.tensor([1], device="cuda")
    prefill_projected(qkv[:100], b[:100], a[:100], dt_bias, a_log, None, None, None, output[:100],
                      pool[1:2])
    decode_projected(qkv[100:], b[100:], a[100:], dt_bias, a_log, pool, slot, None, output[100:])
    torch.cuda.synchronize()
    assert rms(output, expected) <= OUTPUT_LIMIT
    assert rms(pool[1:2], expected_final) <= STATE_LIMIT
    assert not pool[0].any() and not pool[2].any()


def test_refused():
    inputs = Inputs([64], heads=(2, 4), seed=8, state=0.3)
    output, final = inputs.outputs()
    q, k, v, g, beta = inputs.rows()
    with pytest.raises(TypeError, match="'v'.*bfloat16.*float32"):
        prefill(q, k, v.float(), g, beta, None, None, None, output, final)
    with pytest.raises(ValueError, match="'final_state'.*contiguous"):
        prefill(q, k, v, g, beta, None, None, None, output, final.transpose(2, 3))
    with pytest.raises(ValueError, match="'output' and 'v' overlap"):
        prefill(q, k, v, g, beta, None, None, None, v, final)
    with pytest.raises(ValueError, match="cpu"):
        prefill(q.cpu(), k, v, g, beta, None, None, None, output, final)
    with pytest.raises(KeyError, match="(?=.*triton_chunked)(?=.*cuda_recurrent)"):
        prefill(q, k, v, g, beta, None, None, None, output, final, None, "fastest")
    with pytest.raises(ValueError, match="g\\[.*linear"):  # alpha, as others have it
        prefill(q, k, v, g.exp(), beta, None, None, None, output, final, None, None, None, True)
    with pytest.raises(ValueError, match="'k' has length.*normalize"):
        prefill(q, 2 * k, v, g, beta, None, None, None, output, final, None, None, None, True)
    assert output.isnan().all() and final.isnan().all()
    prefill(q, k, v, g, beta, None, None, None, output, final, None, None, None, True)
    assert not output.isnan().any()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_current_stream(implementation):
    """Behind a sleep the stream brings the data: a call on another stream sees the old one."""
    old, new = (Inputs([130], heads=(2, 4), seed=seed) for seed in (10, 11))
    held = Inputs([130], heads=(2, 4), seed=10)
    expected_old, expected_new = recurrence(old)[0], recurrence(new)[0]
    assert rms(run(held, implementation)[0], expected_old) <= OUTPUT_LIMIT  # prepared
    output, final = held.outputs()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        torch.cuda._sleep(SLEEP)
        for name in ("q", "k", "v", "g", "beta"):
            getattr(held, name).copy_(getattr(new, name))
        prefill(*held.rows(), None, None, None, output, final, None, implementation)
        assert not side.query()  # the call did not wait
    side.synchronize()
    assert rms(output, expected_new) <= OUTPUT_LIMIT
    assert rms(output, expected_old) > 0.1


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_graph(implementation):
    first, second = (Inputs([65, 0, 135], heads=(2, 4), seed=seed, state=0.3) for seed in (12, 13))
    held = Inputs([65, 0, 135], heads=(2, 4), seed=12, state=0.3)
    run(held, implementation)  # prepared
    size = prefill_workspace(held.tokens, 3, 2, 4, tvm_ffi.device("cuda", 0), False, False,
                             implementation)
    workspace = torch.full((size,), 255, dtype=torch.uint8, device="cuda") if size else None
    output, final = held.outputs()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        prefill(*held.rows(), held.initial, held.cu_seqlens, None, output, final, None,
                implementation, workspace)
    assert output.isnan().all() and final.isnan().all()  # captured, not run
    for data in (first, second):
        for name in ("q", "k", "v", "g", "beta", "initial"):
            getattr(held, name).copy_(getattr(data, name))
        output.fill_(float("nan"))
        graph.replay()
        torch.cuda.synchronize()
        expected, expected_final = recurrence(data)
        assert rms(output, expected) <= OUTPUT_LIMIT
        assert rms(final, expected_final) <= STATE_LIMIT


def test_graph_of_steps():
    """A decode step, captured once and replayed for each token."""
    inputs = Inputs([20], heads=(2, 4), seed=14)
    expected, expected_final = recurrence(inputs)
    step = Inputs([1], heads=(2, 4), seed=14)
    states = torch.zeros(2, 4, 128, 128, device="cuda")
    slots = torch.tensor([1], dtype=torch.int32, device="cuda")
    output = step.outputs()[0]
    decode(*step.rows(), states, slots, None, output)  # prepared
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        decode(*step.rows(), states, slots, None, output)
    states.zero_()
    outputs = torch.empty_like(inputs.v)
    for t in range(20):
        for name in ("q", "k", "v", "g", "beta"):
            getattr(step, name).copy_(getattr(inputs, name)[t : t + 1])
        graph.replay()
        outputs[t : t + 1].copy_(output)
    torch.cuda.synchronize()
    assert rms(outputs, expected) <= OUTPUT_LIMIT
    assert rms(states[1:], expected_final) <= STATE_LIMIT
    assert not states[0].any()


def main() -> int:
    reason = why_not()
    if reason is not None:
        print(f"SKIP: {reason}")
        return 77
    return int(pytest.main(["-q", "-s", "-p", "no:cacheprovider", "--no-header", __file__]))


if __name__ == "__main__":
    sys.exit(main())
