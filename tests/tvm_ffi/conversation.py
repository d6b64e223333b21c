# SPDX-License-Identifier: Apache-2.0
"""What the Python clients share: the loaded bridge and engine, printed lines, bf16 tensors."""

import ctypes
import os

import numpy as np
import tvm_ffi

ENGINE_CALLS = "engine -> TVM FFI"
PYTHON_CALLS = "TVM FFI -> engine"


def load(with_engine=True):
    """Loads the bridge as a Python user does, and registers pega's and the engine's functions.

    Returns the names that the bridge registered.
    """
    if with_engine:
        engine = ctypes.CDLL(os.environ["PEGA_TEST_ENGINE"])
        assert engine.engine_add_to_registry() > 0
    bridge = tvm_ffi.load_module(os.environ["PEGA_TEST_BRIDGE"])
    names = [str(name) for name in bridge["pega_register"]()]
    print(f"pega {bridge['pega_version']()}: {len(names)} functions registered")
    return names


def say(direction, what, got, expected):
    """Prints one exchange and checks it."""
    print(f"{direction}  {what} = {got}")
    assert got == expected


class Bfloat16Tensor:
    """DLPack's view of bf16 bits that a numpy array of uint16 holds: numpy has no such dtype."""

    alive = {}  # by address of what DLPack was given, until its deleter runs

    class _DLManagedTensor(ctypes.Structure):
        _fields_ = [
            ("data", ctypes.c_void_p),
            ("device_type", ctypes.c_int32),
            ("device_id", ctypes.c_int32),
            ("ndim", ctypes.c_int32),
            ("dtype_code", ctypes.c_uint8),
            ("dtype_bits", ctypes.c_uint8),
            ("dtype_lanes", ctypes.c_uint16),
            ("shape", ctypes.POINTER(ctypes.c_int64)),
            ("strides", ctypes.POINTER(ctypes.c_int64)),
            ("byte_offset", ctypes.c_uint64),
            ("manager_ctx", ctypes.c_void_p),
            ("deleter", ctypes.c_void_p),
        ]

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    @staticmethod
    def _delete(address):
        del Bfloat16Tensor.alive[address]

    def __init__(self, bits):
        assert bits.dtype == np.uint16 and bits.flags.c_contiguous
        self.bits = bits
        self._shape = (ctypes.c_int64 * bits.ndim)(*bits.shape)
        self._managed = self._DLManagedTensor(
            data=bits.ctypes.data, device_type=1, ndim=bits.ndim,
            dtype_code=4, dtype_bits=16, dtype_lanes=1, shape=self._shape,
            deleter=ctypes.cast(self._delete, ctypes.c_void_p))

    def __dlpack__(self, **_):
        self.alive[ctypes.addressof(self._managed)] = self
        new = ctypes.pythonapi.PyCapsule_New
        new.restype = ctypes.py_object
        new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        return new(ctypes.addressof(self._managed), b"dltensor", None)

    def __dlpack_device__(self):
        return (1, 0)


def bfloat16_to_float64(bits):
    """The numbers that bf16 bits stand for."""
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def make_a_tril(tokens, heads, seed=0):
    """Lower triangles as the layer before the solve makes them, with noise above the diagonal.

    The noise must not matter: only the strict lower triangle may be read.
    """
    random = np.random.default_rng(seed)
    keys = random.standard_normal((tokens, heads, 128))
    keys /= np.linalg.norm(keys, axis=-1, keepdims=True)
    beta = random.uniform(0, 1, (tokens, heads))
    gate = random.uniform(-0.1, 0, (tokens, heads))
    a_tril = random.standard_normal((tokens, heads, 64)).astype(np.float32)
    for begin in range(0, tokens, 64):
        rows = slice(begin, min(begin + 64, tokens))
        count = rows.stop - rows.start
        decay = np.cumsum(gate[rows], axis=0)
        products = np.einsum("ihk,jhk->ihj", keys[rows], keys[rows])
        products *= beta[rows][:, :, None] * np.exp(decay[:, :, None] - decay.T[None])
        for i in range(count):
            a_tril[begin + i, :, :i] = products[i, :, :i]
    return a_tril


def solve_in_fp64(a_tril):
    """(I + A)^-1 chunk by chunk, by numpy's general inverse in fp64."""
    tokens, heads, _ = a_tril.shape
    inverse = np.zeros(a_tril.shape, np.float64)
    for begin in range(0, tokens, 64):
        count = min(64, tokens - begin)
        chunk = a_tril[begin : begin + count, :, :count].astype(np.float64).transpose(1, 0, 2)
        solved = np.linalg.inv(np.tril(chunk, -1) + np.eye(count))
        inverse[begin : begin + count, :, :count] = np.tril(solved).transpose(1, 0, 2)
    return inverse
