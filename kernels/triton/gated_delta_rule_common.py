# SPDX-License-Identifier: Apache-2.0
"""What several kernels of the gated delta rule share (docs/functions.md)."""

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


@triton.jit
def wait_for_previous(EARLY: tl.constexpr):
    """Before anything in memory is touched: what the kernels ahead wrote is there, all of it."""
    if EARLY:
        gdc_wait()


@triton.jit
def allow_next(EARLY: tl.constexpr):
    """The kernel behind may begin once all programs came here or ended; it waits like this one."""
    if EARLY:
        gdc_launch_dependents()


@triton.jit
def cumulative_gates(g):
    """The prefix sum of a chunk's log gates, along the first axis.

    A gate below -128 counts as -128: e^-128 is 0 in float32 all the same, sums stay finite, and so
    the difference of two of them is never a NaN, not for gates of minus infinity either.
    """
    return tl.cumsum(tl.maximum(g, -128.0), 0)


@triton.jit
def decay(g_cumsum, keep):
    """exp(G_i - G_j) where `keep`, which implies i >= j; 0 elsewhere, where it could overflow."""
    difference = g_cumsum[:, None] - g_cumsum[None, :]
    return tl.where(keep, tl.exp(tl.where(keep, difference, 0.0)), 0.0)


@triton.jit
def high_and_low(x):
    """x as the sum of two bfloat16: twice the bits of one."""
    high = x.to(tl.bfloat16)
    return high, (x - high.to(tl.float32)).to(tl.bfloat16)


@triton.jit
def clamped_seqlen(cu_seqlens, index, words, num_tokens):
    """cu_seqlens[index], kept in [0, num_tokens]: what is wrong there leads nowhere else.

    `words` is 1 for int32 and 2 for int64, of which the low half is read: it says all that an
    offset of fewer than 2^31 tokens has.
    """
    at = tl.load(cu_seqlens + index.to(tl.int64) * words)
    return tl.minimum(tl.maximum(at, 0), num_tokens)


@triton.jit
def sequence_of_slot(slot, cu_seqlens, has_cu_seqlens, words, num_tokens, num_sequences):
    """Chunk slots: (first token of the chunk, tokens from there to the sequence's end).

    Sequence s owns the slots from cu_seqlens[s] / 64 + s on: no plan has to be made and read, and
    at most one slot a sequence is left empty (then the tokens are 0 or fewer).
    """
    begin = 0
    end = num_tokens
    sequence = 0
    if has_cu_seqlens:
        last = num_sequences - 1
        while sequence < last:
            middle = sequence + (last - sequence + 1) // 2
            start = clamped_seqlen(cu_seqlens, middle, words, num_tokens) // 64 + middle
            sequence = tl.where(start <= slot, middle, sequence)
            last = tl.where(start <= slot, last, middle - 1)
        sequence = sequence.to(tl.int32)
        begin = clamped_seqlen(cu_seqlens, sequence, words, num_tokens)
        end = clamped_seqlen(cu_seqlens, sequence + 1, words, num_tokens)
    chunk = slot - (begin // 64 + sequence)
    # An offset that does not fit, a slot before the first sequence's: nothing to do.
    left = tl.where(chunk < 0, 0, end.to(tl.int64) - begin - chunk.to(tl.int64) * 64)
    first = begin + chunk.to(tl.int64) * 64
    return first, left
