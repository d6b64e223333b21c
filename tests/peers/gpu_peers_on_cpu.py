# SPDX-License-Identifier: Apache-2.0
"""What the GPU's peers do beside what they measure, on the CPU: that is stood in for by plain torch.

    gpu_peers_on_cpu.py PEERS

Prints a line for each way of each case, with what the judge says of it, and of the same where what is
measured is called wrongly: with the other gate, the other layout of states, another sign.
"""

import ctypes
import itertools
import sys
import tempfile
import types

sys.path.insert(0, sys.argv[1])
import _common as common
import torch_cpu

import torch

torch.set_grad_enabled(False)
wrong = None  # what is wrong with the functions that stand in
reference = torch_cpu.TorchCpu()
reference.torch = torch


def on_the_cpu(make):
    def call(torch, *args):
        return make(torch, *("cpu" if arg == "cuda" else arg for arg in args))

    return call


for name in ("prefill_data", "decode_data", "solve_data"):
    setattr(common, name, on_the_cpu(getattr(common, name)))
common.Same.data = on_the_cpu(common.Same.data)
common.cuda_torch = lambda: torch
empty = torch.empty
torch.empty = lambda *args, **kwargs: empty(*args, **{**kwargs, "device": "cpu"})
torch.cuda.current_stream = lambda: types.SimpleNamespace(cuda_stream=0)
torch.cuda.synchronize = torch.cuda.empty_cache = lambda: None


def stand_in(name, **members):
    for end in (n for n, c in enumerate(name + ".") if c == "."):
        sys.modules.setdefault(name[:end], types.ModuleType(name[:end])).__path__ = []
    sys.modules[name].__dict__.update(members)
    if "." in name:
        parent, last = name.rsplit(".", 1)
        setattr(sys.modules[parent], last, sys.modules[name])


# --- what is stood in for, by what its documentation says ---


def prefill(q, k, v, g, beta, lengths):
    data = types.SimpleNamespace(q=q, k=k, v=v, g=g, beta=beta, lengths=lengths)
    outputs, finals = reference.run_prefill(data)
    return torch.cat(outputs), torch.stack(finals)


def lengths_of(starts, tokens):
    ends = [0, tokens] if starts is None else starts.tolist()
    return [b - a for a, b in itertools.pairwise(ends)]


def fla_chunk(q, k, v, g, beta, output_final_state, cu_seqlens):
    assert output_final_state and q.shape[0] == 1
    g = g.exp() if wrong == "gate" else g
    out, final = prefill(q[0], k[0], v[0], g[0], beta[0], lengths_of(cu_seqlens, q.shape[1]))
    return out[None], final.mT if wrong == "state" else final


def fla_recurrent(q, k, v, g, beta, initial_state, output_final_state):
    assert output_final_state and q.shape[1] == 1
    heads = v.shape[2]
    q, k = (common.repeated(x[:, 0], heads).float() for x in (q, k))
    g = g.exp() if wrong == "gate" else g
    states, out = common.step(initial_state, q, k, v[:, 0].float(), g[:, 0], beta[:, 0])
    return out[:, None].to(v.dtype), states.mT if wrong == "state" else states


def inverse(a_tril):
    chunks = a_tril.reshape(-1, 64, a_tril.shape[1], 64).transpose(1, 2)
    a = -chunks if wrong == "sign" else chunks
    return torch.linalg.inv(a + torch.eye(64)).transpose(1, 2).reshape(a_tril.shape).bfloat16()


def fla_solve(a, output_dtype):
    assert output_dtype == torch.bfloat16
    return inverse(a[0])[None]


def flashinfer_chunk(q, k, v, g, beta, cu_seqlens, output, output_state, output_final_state, use_cp, max_seqlen):
    """The gate is linear, the final state [V,K]."""
    assert output_final_state and max_seqlen == max(lengths_of(cu_seqlens, None))
    if use_cp and wrong == "cp":
        raise ValueError("CP is not for this")
    out, final = prefill(q, k, v, g if wrong == "gate" else g.log(), beta, lengths_of(cu_seqlens, None))
    output.copy_(out)
    output_state.copy_(final if wrong == "state" else final.mT)
    return output, output_state


def flashinfer_decode(transposed):
    def decode(q, k, v, state, A_log, a, dt_bias, b, output, backend):
        assert backend == "flashinfer" and state.is_contiguous()
        g = -A_log.exp() * torch.nn.functional.softplus(a.float() + dt_bias.float())
        out, new = fla_recurrent(q, k, v, g, b.float().sigmoid(), state.mT if transposed else state, True)
        state.copy_(new.mT if transposed else new)
        return output.copy_(out), state

    return decode


class Kernel:
    """Of Triton: kernel[grid](arguments)."""

    def __getitem__(self, grid):
        def launch(a_tril, a_inv, tokens, heads, **options):
            assert grid == (tokens // 64 * heads,) and options["num_warps"] == 2
            a_inv.flatten()[:grid[0]] = a_tril.flatten()[:grid[0]] + (1 if wrong == "sign" else 0)

        return launch


def tensor_at(address, shape, dtype):
    count = torch.Size(shape).numel()
    memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(address)
    return torch.frombuffer(memory, dtype=dtype).reshape(shape)


def cubin_launcher(kinds):
    def opened(cubin, entry, grid, block, shared, early):
        assert entry == b"solve" and cubin.startswith(b"\x7fELF") and shared == 4096 and early == 1
        assert grid[:3] == [600, 1, 1] and block[:3] == [64, 1, 1]
        return 1234

    def time(kernel, a_tril, a_inv, tokens, heads, stream, count):
        assert kernel == 1234 and not stream
        shape = (tokens, heads, 64)
        found = inverse(tensor_at(a_tril, shape, torch.float32))
        tensor_at(a_inv, shape, torch.bfloat16).copy_(found)
        return -1.0 if wrong == "launch" else 3000.0

    fields = dict(kinds._fields_)
    launcher = kinds(fields["open"](opened), None, fields["time"](time))

    class Get:
        def __call__(self):
            return types.SimpleNamespace(contents=launcher)

    return types.SimpleNamespace(bench_cubin_launcher_get=Get())


stand_in("fla", __version__="0.0")
stand_in("fla.ops.gated_delta_rule", chunk_gated_delta_rule=fla_chunk,
         fused_recurrent_gated_delta_rule=fla_recurrent)
stand_in("fla.ops.utils.solve_tril", solve_tril=fla_solve)
stand_in("triton", __version__="0.0")
stand_in("tvm_ffi", __version__="0.0")
# --- the peers ---

PREFILLS = [{"sequences": 1, "tokens": 64}, {"sequences": 3, "tokens": 10}]
DECODES = [{"batch": 1}, {"batch": 40}]
HEADS = {"key_heads": 2, "value_heads": 4}


def peer_of(file, name):
    module = types.ModuleType(file)
    path = f"{sys.argv[1]}/{file}.py"
    with open(path) as source:
        exec(compile(source.read(), path, "exec"), module.__dict__)
    return module, getattr(module, name)()


def tell(peer, part, case):
    peer.rotate_bytes = 0 if part == "prefill" else 1 << 20
    for name, way in peer.ways(part, case).items():
        if way.reason is None:
            for turn in range(3):
                way.run()
        verdict = "right" if way.reason is None else way.reason
        print(f"{part}, {wrong or 'as it is'}: {name}: {len(way.runs)} runs: {verdict}")


module, fla = peer_of("fla", "Fla")
module.TUNED_AT = 128
print("FLA", fla.open())
for wrong in (None, "gate", "state"):
    for case in PREFILLS:
        tell(fla, "prefill", case | HEADS)
    for case in DECODES:
        tell(fla, "decode", case | HEADS)
for wrong in (None, "sign"):
    tell(fla, "solve", {"tokens": 128, "value_heads": 3})

_, flashinfer = peer_of("flashinfer", "FlashInfer")
flashinfer.torch, flashinfer.chunk = torch, flashinfer_chunk
flashinfer.decodes = {"FlashInfer [V,K]": (flashinfer_decode(True), True),
                      "FlashInfer [K,V]": (flashinfer_decode(False), False)}
for wrong in (None, "gate", "state", "cp"):
    for case in PREFILLS:
        tell(flashinfer, "prefill", case | HEADS)
    if wrong != "cp":
        for case in DECODES:
            tell(flashinfer, "decode", case | HEADS)

# --- inputs that all get ---

wrong = None
for lengths in ((70,), (33, 33, 33)):
    heads = list(HEADS.values())
    given = common.prefill_data(torch, lengths, *heads, "cpu")
    truth = common.recurrence(torch, given)
    with tempfile.TemporaryDirectory() as folder:
        inputs, results = f"{folder}/inputs", f"{folder}/results"
        with open(inputs, "wb") as file:
            for one in (given.q, given.k, given.v, given.g, given.beta):
                file.write(one.contiguous().view(torch.uint8).numpy().tobytes())
        for peer in (fla, flashinfer):
            open(results, "wb").close()
            peer.same = common.Same({"sequences": len(lengths), "tokens": lengths[0], "inputs": inputs,
                                     "results": results})
            ways = peer.ways("prefill", {"sequences": len(lengths), "tokens": 64} | HEADS)
            print("same", [way.reason or way.error for way in ways.values()], peer.same.judged)
            with open(results, "rb") as file:
                for name in peer.same.judged:
                    sizes = [truth[0].numel() * 2, truth[1].numel() * 4]
                    output, state = (bytearray(file.read(size)) for size in sizes)
                    output = torch.frombuffer(output, dtype=torch.bfloat16).reshape(truth[0].shape)
                    state = torch.frombuffer(state, dtype=torch.float32).reshape(truth[1].shape)
                    errors = common.judge(output, state, truth)
                    print("same of", name, max(errors.values()) < 5e-3)
                print("left", file.read())
            peer.same = None

module, triton = peer_of("triton_launcher", "TritonLauncher")
module.load = lambda: types.SimpleNamespace(one_element=Kernel())
print("Triton", triton.open())
module, launcher = peer_of("cubin_launcher", "CubinLauncher")
module.library = lambda: "library"
ctypes.CDLL = lambda path: cubin_launcher(module.Launcher)
print("cubin_launcher", launcher.open())
case = {"tokens": 64, "value_heads": 600}
with tempfile.NamedTemporaryFile() as cubin:
    cubin.write(b"\x7fELF\0cubin")
    cubin.flush()
    told = {"cubin": cubin.name, "entry": "solve", "grid": [600, 1, 1], "block": [64, 1, 1],
            "shared": 4096, "params": [8, 8, 4, 4, 8, 8], "early": True}
    for wrong in (None, "sign", "launch"):
        if wrong != "launch":
            triton.kernel = told  # as every peer is
            tell(triton, "launch", case)
        launcher.kernel = told
        tell(launcher, "launch", case)
    wrong = None
    way = launcher.ways("launch", case)[launcher.name]
    print("host", launcher.clock.host(way, 3))
    for launcher.kernel in (None, told | {"params": [8, 8, 8]}):
        try:
            launcher.ways("launch", case)
        except common.LeftOut as reason:
            print("no kernel:", reason)
