# SPDX-License-Identifier: Apache-2.0
"""Words that the parts of the declaration share: parameters, sizes, conditions."""

from dataclasses import replace

from pegapack import Arg, Memory, Options, Output, Uniform, integer, pointer

CHUNK = 64
DIM = 128  # of keys and of values
INT32_MAX = 2**31 - 1
MAX_HEADS = 2**16  # with it, offsets within a chunk are 32-bit

NAME = "pegainfer.triton_cubin.qwen35.gated_delta_rule_"
HEADS_FIT = "num_value_heads % num_key_heads == 0"
QKV_FITS = "qkv_dim >= (2 * num_key_heads + num_value_heads) * 128"
BITS_FIT = "cu_seqlens_bits == 32 or cu_seqlens_bits == 64"
ONE_OR_LISTED = "cu_seqlens_ptr != 0 or num_sequences == 1"

# With wgmma or tcgen05, and without: there both factors of every product lie in registers. Not
# measured there; the options are those that fit the shared memory and spill least.
WGMMA = ("sm_90", "sm_100", "sm_103")
PLAIN_MMA = ("sm_80", "sm_86", "sm_89", "sm_120")
TWO_STAGES = {t: {"num_stages": 2} for t in PLAIN_MMA}

# Without programmatic dependent launch, and with it: it came with sm_90.
ALL_IN_TURN = ("sm_80", "sm_86", "sm_89")
BEGIN_EARLY = ("sm_90", "sm_100", "sm_103", "sm_120")


def early(options, *, options_for=None, constexprs=None, how=1):
    """Parts of a Kernel that is launched before the one ahead has ended, on targets that can.

    Every program of it waits before it touches memory (docs/packs.md). The constexpr EARLY says to
    the kernel how, 0 not at all. `options_for` changes more fields of the options.
    """
    changes = {target: {"launch_pdl": False} for target in ALL_IN_TURN}
    for target, fields in (options_for or {}).items():
        changes[target] = {**changes.get(target, {}), **fields}
    return {
        "options": replace(options, launch_pdl=True),
        "options_for": changes,
        "constexprs": {**(constexprs or {}), "EARLY": how},
        "constexprs_for": {target: {"EARLY": 0} for target in ALL_IN_TURN},
    }


def array(name, doc, dtype, shape=None, *, output=False, null=None):
    """A pointer to an array; `null` says what 0 means where it is allowed."""
    return pointer(
        name,
        doc if null is None else f"{doc}; 0: {null}",
        dtype=None if shape is None else dtype,
        shape=shape,
        nonnull=null is None,
        output=output,
        alignment=16,
    )


def tokens(name="num_tokens"):
    return integer(name, "tokens", min=0, max=INT32_MAX)


def key_heads():
    return integer("num_key_heads", "key heads", min=1, max=MAX_HEADS)


def value_heads(doc="value heads"):
    return integer("num_value_heads", doc, min=0, max=MAX_HEADS)


def options(num_warps, num_stages=1, **rest):
    return Options(num_warps=num_warps, num_stages=num_stages, enable_fp_fusion=True, **rest)


def bf16(value):
    return Arg("*bf16", value, divisible_by_16=True)


def fp32(value):
    return Arg("*fp32", value, divisible_by_16=True)


def i32(value):
    return Arg("i32", value)


def uniform(dtype, shape, seed, low, high):
    return Memory(dtype, shape, fill=Uniform(seed=seed, low=low, high=high))


def unit(shape, seed):
    """Rows of 128 with lengths of about 1, as normalised keys and queries have."""
    return uniform("bfloat16", shape, seed, -0.153, 0.153)


def bf16_output(shape, atol, rtol=2**-7):
    return Output("bfloat16", shape, atol=atol, rtol=rtol)


def fp32_output(shape, atol, rtol=0.0):
    return Output("float32", shape, atol=atol, rtol=rtol)
