# SPDX-License-Identifier: Apache-2.0
"""FlashInfer's own Python with kernels compiled ahead, up to the driver that is not there.

    flashinfer_calls.py PEERS KERNELS

Every call that the peer makes goes through FlashInfer to the kernels of the module KERNELS, which check
what they are given, tensor by tensor, before they ask for a driver. The tensors lie in the CPU's memory and
say that they are a GPU's: where there is a GPU, nothing of this may run.
"""

import ctypes
import sys
import types

sys.path.insert(0, sys.argv[1])
import _common as common
import _flashinfer_ahead as ahead

# The file is named as the package is.
FlashInfer = __import__("flashinfer").FlashInfer
del sys.modules["flashinfer"]
sys.path.pop(0)

import torch

HEADS = (16, 32)
DEVICE = "NVIDIA H100 80GB HBM3"
HEADER = 24  # bytes of an object before what is of its kind
seen = []


def on_a_gpu(tensor):
    """The tensor as if in a GPU's memory, as well aligned as there."""
    import tvm_ffi

    value = tvm_ffi.from_dlpack(tensor)
    handle = value.__chandle__()
    address = getattr(handle, "value", handle)
    data = ctypes.c_uint64.from_address(address + HEADER)
    device = ctypes.c_int32.from_address(address + HEADER + 8)
    assert device.value == 1, "not the layout of a tensor that is known here"
    data.value = (data.value + 511) // 512 * 512
    device.value = 2
    return value


def watched(self, name):
    function = found(self, name)

    def call(*args):
        given = [on_a_gpu(arg) if isinstance(arg, torch.Tensor) else arg for arg in args]
        try:
            function(*given)
            outcome = "returned"
        except Exception as error:
            outcome = common.why(error)
        seen.append((name, outcome))

    return call


def as_on_an_h100():
    """What FlashInfer asks of the device."""
    cuda = torch.cuda
    cuda.current_stream = lambda *args, **kwargs: types.SimpleNamespace(cuda_stream=0)
    cuda.get_device_capability = lambda *args: (9, 0)
    answers = {
        "get_device_sm_count": lambda device: 132,
        "get_compute_capability": lambda device: (9, 0),
        "get_device_name": lambda device: DEVICE,
    }
    for name, module in list(sys.modules.items()):
        if name.startswith("flashinfer."):
            for function, answer in answers.items():
                if hasattr(module, function):
                    setattr(module, function, answer)
    target = sys.modules["flashinfer.gdn_kernels.device_target"].GdnDeviceTarget
    here = target(0, "sm_90a", 9, 0, 132, False)
    for name in ("pretranspose", "nontranspose"):
        sys.modules[f"flashinfer.gdn_kernels.gdn_decode_{name}"].gdn_device_target = lambda device: here


def expect(what, run, *kernels):
    seen.clear()
    run()
    names = [name for name, _ in seen]
    assert len(names) == len(kernels) and all(map(str.startswith, names, kernels)), f"{what}: {names}"
    for name, outcome in seen:
        assert "cudaErrorInsufficientDriver" in outcome, f"{what}, {name}: {outcome}"
    print(f"{what}: {', '.join(name[:40] for name in names)}")


if torch.cuda.is_available():
    print("SKIP: there is a GPU here, and this test's tensors only say that they are one's")
    sys.exit(77)
torch.set_grad_enabled(False)
found, ahead.Kernels.function = ahead.Kernels.function, watched
print(ahead.install(sys.argv[2]))
from flashinfer import gdn_decode, gdn_prefill

as_on_an_h100()
peer = FlashInfer()
peer.torch, peer.chunk = torch, gdn_prefill.chunk_gated_delta_rule
empty = torch.empty
torch.empty = lambda *args, **kwargs: empty(*args, **{**kwargs, "device": "cpu"})
for lengths in ((70,), (64, 5, 70), (512,)):
    data = common.prefill_data(torch, lengths, *HEADS, "cpu")
    for times in range(2):  # the second call takes what the first has kept
        expect(f"prefill of {lengths}", peer.prefill_run(data, False), "fi_prefill_0")
        expect(f"prefill of {lengths}, context-parallel", peer.prefill_run(data, True), "fi_cp_t",
               "fi_cp_mn", "fi_cp_fixup_hmma_0", "fi_cp_prefill_0")
data = common.prefill_data(torch, (70,), 4, 8, "cpu")
expect("prefill with 8 heads", peer.prefill_run(data, True), "fi_cp_t", "fi_cp_mn",
       "fi_cp_fixup_row4_0", "fi_cp_prefill_0")
for batch in (1, 8, 64):
    data = common.decode_data(torch, batch, *HEADS, "cpu")
    size = "small" if batch < 32 else "big"
    for times in range(2):
        expect(f"decode of {batch}, states [V,K]",
               peer.decode_run(data, gdn_decode.gated_delta_rule_decode_pretranspose, data.sets[0]),
               "gdn_decode_pretranspose_decode_sm_90a_1_16_32_")
        expect(f"decode of {batch}, states [K,V]",
               peer.decode_run(data, gdn_decode.gated_delta_rule_decode, data.sets[0]),
               f"gdn_decode_nontranspose_sm_90a_{size}_1_16_32_")
data = common.decode_data(torch, 1, 4, 8, "cpu")
try:
    peer.decode_run(data, gdn_decode.gated_delta_rule_decode, data.sets[0])()
    sys.exit("a decode with other heads found a kernel")
except common.LeftOut as error:
    assert "was not compiled ahead" in str(error), error
