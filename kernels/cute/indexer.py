# SPDX-License-Identifier: Apache-2.0
"""The DeepSeek V4 indexer's score for sm_90a, in CuTe DSL.

    dots[t * H + h, c] = sum_d q[t, h, d] * kv[c, d]                  IndexerDots
    scores[t, c] = sum_h w[t, h] * max(dots[t * H + h, c], 0)         IndexerScore

H = 8 heads, D = 128; q and kv bfloat16, everything else float32, sums in float32. t and c are any size.

Both kernels are persistent and specialised by warp: one warp brings tiles in by TMA, two warpgroups
multiply and write.
"""

from cuda.bindings.driver import CUstream
import cutlass
import cutlass.cute as cute
import cutlass.utils.hopper_helpers as hopper
from cutlass import BFloat16, Float32, Int32, Int64, const_expr
from cutlass._mlir import ir
from cutlass._mlir.dialects import llvm
from cutlass.cute.ffi import ffi
from cutlass.cute.nvgpu import cpasync, warpgroup
from cutlass.utils import SmemAllocator

HEADS = 8
DIM = 128
WARPGROUP = 128
CONSUMERS = 2  # warpgroups
THREADS = WARPGROUP * (1 + CONSUMERS)
PRODUCER_REGISTERS = 40
CONSUMER_REGISTERS = 232
K_BLOCK = 64  # bfloat16 in the 128 bytes of a swizzled row


def k_major(rows, columns):
    """Shared memory of `rows` x `columns` bfloat16 as both TMA and WGMMA want it."""
    atom = warpgroup.make_smem_layout_atom(warpgroup.SmemLayoutAtomKind.K_SW128, BFloat16)
    return cute.tile_to_shape(atom, (rows, columns), (0, 1))


def k_major_stages(rows, columns, stages):
    atom = warpgroup.make_smem_layout_atom(warpgroup.SmemLayoutAtomKind.K_SW128, BFloat16)
    return cute.tile_to_shape(atom, (rows, columns, stages), (0, 1, 2))


def mma(groups, columns):
    """The product of `groups` warpgroups, 64 rows each."""
    return hopper.make_trivial_tiled_mma(
        BFloat16, BFloat16, warpgroup.OperandMajorMode.K, warpgroup.OperandMajorMode.K, Float32,
        (groups, 1, 1), (64, columns))


def partition(atom, source, tile, rows):
    """Tiles of `rows` x D of the TMA tensor `source`, and where they go."""
    source = cute.local_tile(source, (rows, DIM), (None, 0))
    return cpasync.tma_partition(atom, 0, cute.make_layout(1), cute.group_modes(tile, 0, 2),
                                 cute.group_modes(source, 0, 2))


@cute.jit
def init_barriers(full, empty, number: cutlass.Constexpr):
    """`number` barriers that TMA fills, and as many that the consumers' warps give back."""
    if cute.arch.thread_idx()[0] == 0:
        for i in cutlass.range_constexpr(number):
            cute.arch.mbarrier_init(full + i, 1)
            cute.arch.mbarrier_init(empty + i, CONSUMERS * WARPGROUP // 32)
    cute.arch.mbarrier_init_fence()
    cute.arch.sync_threads()


@cute.jit
def expect(barrier, size: cutlass.Constexpr):
    with cute.arch.elect_one():
        cute.arch.mbarrier_arrive_and_expect_tx(barrier, size)


@cute.jit
def give_back(barrier):
    with cute.arch.elect_one():
        cute.arch.mbarrier_arrive(barrier)


class IndexerDots:
    """dots[t * H + h, c]: q's rows are the M of the product, kv's the N.

    What bounds it is writing. All blocks write at neighbouring tiles of the same rows at the same time:
    a block's next tile is as many further as there are blocks, those of kv numbered fastest. Both
    operands come with each tile, out of L2.
    """

    ROWS = 128
    COLUMNS = 128
    STAGES = 2
    BYTES = (ROWS + COLUMNS) * DIM * 2

    @cute.jit
    def launch(self, q, kv, dots, blocks, stream):
        """q [rows, D], kv [c, D], dots [rows, c]."""
        load = cpasync.CopyBulkTensorTileG2SOp()
        tile = (self.ROWS, DIM)
        q_atom, q_map = cpasync.make_tiled_tma_atom(load, q, k_major(*tile), tile)
        tile = (self.COLUMNS, DIM)
        kv_atom, kv_map = cpasync.make_tiled_tma_atom(load, kv, k_major(*tile), tile)
        q_tiles = cute.ceil_div(q.shape[0], self.ROWS)
        kv_tiles = cute.ceil_div(kv.shape[0], self.COLUMNS)
        self.kernel(q_atom, q_map, kv_atom, kv_map, dots, mma(CONSUMERS, self.COLUMNS), q_tiles,
                    kv_tiles).launch(grid=(min(blocks, q_tiles * kv_tiles), 1, 1),
                                     block=(THREADS, 1, 1), stream=stream)

    @cute.kernel
    def kernel(self, q_atom: cute.CopyAtom, q_map: cute.Tensor, kv_atom: cute.CopyAtom,
               kv_map: cute.Tensor, dots: cute.Tensor, tiled_mma: cute.TiledMma,
               q_tiles: Int32, kv_tiles: Int32):
        memory = SmemAllocator()
        q_layout = k_major_stages(self.ROWS, DIM, self.STAGES)
        kv_layout = k_major_stages(self.COLUMNS, DIM, self.STAGES)
        out_layout = self.out_layout()
        full = memory.allocate_array(Int64, self.STAGES, byte_alignment=8)
        empty = memory.allocate_array(Int64, self.STAGES, byte_alignment=8)
        q_tile = memory.allocate_tensor(BFloat16, q_layout.outer, 1024, q_layout.inner)
        kv_tile = memory.allocate_tensor(BFloat16, kv_layout.outer, 1024, kv_layout.inner)
        outs = [memory.allocate_tensor(Float32, out_layout.outer, 1024, out_layout.inner)
                for _ in range(CONSUMERS)]
        init_barriers(full, empty, self.STAGES)
        group = cute.arch.make_warp_uniform(cute.arch.thread_idx()[0] // WARPGROUP)
        if group == 0:
            cute.arch.setmaxregister_decrease(PRODUCER_REGISTERS)
            if cute.arch.make_warp_uniform(cute.arch.warp_idx()) == 0:
                self.bring(q_atom, q_map, q_tile, kv_atom, kv_map, kv_tile, full, empty, q_tiles,
                           kv_tiles)
        else:
            cute.arch.setmaxregister_increase(CONSUMER_REGISTERS)
            if group == 1:
                self.multiply(q_tile, kv_tile, full, empty, dots, outs[0], 0, tiled_mma, q_tiles,
                              kv_tiles)
            else:
                self.multiply(q_tile, kv_tile, full, empty, dots, outs[1], 1, tiled_mma, q_tiles,
                              kv_tiles)

    def out_layout(self):
        """A warpgroup's 64 x 128 sums, swizzled as TMA does it: few bank conflicts both ways."""
        atom = warpgroup.make_smem_layout_atom(warpgroup.SmemLayoutAtomKind.K_SW128, Float32)
        return cute.tile_to_shape(atom, (64, self.COLUMNS), (0, 1))

    @cute.jit
    def bring(self, q_atom, q_map, q_tile, kv_atom, kv_map, kv_tile, full, empty, q_tiles, kv_tiles):
        cpasync.prefetch_descriptor(q_atom)
        cpasync.prefetch_descriptor(kv_atom)
        q_to, q_from = partition(q_atom, q_map, q_tile, self.ROWS)
        kv_to, kv_from = partition(kv_atom, kv_map, kv_tile, self.COLUMNS)
        block, _, _ = cute.arch.block_idx()
        blocks, _, _ = cute.arch.grid_dim()
        stage = Int32(0)
        phase = Int32(1)
        for tile in cutlass.range(block, q_tiles * kv_tiles, blocks, unroll=1):
            m = tile // kv_tiles
            n = tile - m * kv_tiles
            cute.arch.mbarrier_wait(empty + stage, phase)
            expect(full + stage, self.BYTES)
            cute.copy(q_atom, q_from[None, m], q_to[None, stage], tma_bar_ptr=full + stage)
            cute.copy(kv_atom, kv_from[None, n], kv_to[None, stage], tma_bar_ptr=full + stage)
            stage += 1
            if stage == self.STAGES:
                stage = Int32(0)
                phase = phase ^ 1

    @cute.jit
    def multiply(self, q_tile, kv_tile, full, empty, dots, out, group: cutlass.Constexpr, tiled_mma,
                 q_tiles, kv_tiles):
        thread = cute.arch.thread_idx()[0] - WARPGROUP
        part = tiled_mma.get_slice(thread)
        a = tiled_mma.make_fragment_A(part.partition_A(q_tile))
        b = tiled_mma.make_fragment_B(part.partition_B(kv_tile))
        sums = cute.make_rmem_tensor(
            tiled_mma.partition_shape_C((self.ROWS, self.COLUMNS)), Float32)
        block, _, _ = cute.arch.block_idx()
        blocks, _, _ = cute.arch.grid_dim()
        stage = Int32(0)
        phase = Int32(0)
        for tile in cutlass.range(block, q_tiles * kv_tiles, blocks, unroll=1):
            m = tile // kv_tiles
            n = tile - m * kv_tiles
            cute.arch.mbarrier_wait(full + stage, phase)
            warpgroup.fence()
            for k in cutlass.range_constexpr(DIM // 16):
                tiled_mma.set(warpgroup.Field.ACCUMULATE, k != 0)
                cute.gemm(tiled_mma, sums, a[None, None, k, stage], b[None, None, k, stage], sums)
            warpgroup.commit_group()
            warpgroup.wait_group(0)
            give_back(empty + stage)
            stage += 1
            if stage == self.STAGES:
                stage = Int32(0)
                phase = phase ^ 1
            self.write(sums, dots, out, m * self.ROWS + group * 64, n * self.COLUMNS)

    @cute.jit
    def write(self, sums, dots, out, first_row, first_column):
        """A warp has 16 rows of the sums in pieces of its threads: through shared memory, which no other
        warp touches, they become rows of 32 neighbours, whatever c is."""
        # Said so that the compiler sees that it is not negative: else it makes branches of the stores.
        thread = cute.arch.thread_idx()[0] % WARPGROUP
        lane = thread % 32
        first = thread // 32 * 16
        cute.arch.sync_warp()
        cute.autovec_copy(sums, mma(1, self.COLUMNS).get_slice(thread).partition_C(out))
        cute.arch.sync_warp()
        row = first_row + first
        column = first_column + lane
        for r in cutlass.range_constexpr(16):
            if row + r < dots.shape[0]:
                for j in cutlass.range_constexpr(self.COLUMNS // 32):
                    if column + j * 32 < dots.shape[1]:
                        dots[row + r, column + j * 32] = out[first + r, lane + j * 32]


class IndexerScore:
    """scores[t, c]: kv's rows are the M of the product, q's heads of 32 tokens the N.

    A thread of a warpgroup has columns 8 j + 2 (lane % 4) + {0, 1} of the product. Token and head go
    to columns so that all heads of a token are one thread's: the sum over heads needs no other thread.
    In blocks of 32 columns, those of 4 tokens, column 8 (head / 2) + 2 (token % 4) + head % 2.

    What bounds it is multiplying. A block takes a run of neighbouring tiles, those of one tile of q
    following each other: q is brought in once a run, kv, which all blocks share, comes out of L2. The
    warpgroups take turns: one multiplies while the other adds up and writes.
    """

    TOKENS = 32
    COLUMNS = TOKENS * HEADS
    ROWS = 128

    STAGES = 4
    Q_BYTES = COLUMNS * DIM * 2
    KV_BYTES = ROWS * DIM * 2

    @cute.jit
    def launch(self, q, kv, weights, scores, blocks, stream):
        """q [t, H, D], kv [c, D], weights [t, H], scores [t, c]."""
        load = cpasync.CopyBulkTensorTileG2SOp()
        t = q.shape[0]
        box = ((2, 4, 4), K_BLOCK)
        q_view = cute.make_tensor(
            q.iterator, cute.make_layout(((2, t, HEADS // 2), DIM),
                                         stride=((DIM, HEADS * DIM, 2 * DIM), 1)))
        q_atom, q_map = cpasync.make_tiled_tma_atom(load, q_view, k_major(32, K_BLOCK), box)
        tile = (self.ROWS, DIM)
        kv_atom, kv_map = cpasync.make_tiled_tma_atom(load, kv, k_major(*tile), tile)
        q_tiles = cute.ceil_div(t, self.TOKENS)
        kv_tiles = cute.ceil_div(kv.shape[0], self.ROWS)
        self.kernel(q_atom, q_map, kv_atom, kv_map, weights, scores, mma(CONSUMERS, self.COLUMNS), q_tiles,
                    kv_tiles).launch(grid=(min(blocks, q_tiles * kv_tiles), 1, 1),
                                     block=(THREADS, 1, 1), stream=stream)

    @cute.kernel
    def kernel(self, q_atom: cute.CopyAtom, q_map: cute.Tensor, kv_atom: cute.CopyAtom,
               kv_map: cute.Tensor, weights: cute.Tensor, scores: cute.Tensor,
               tiled_mma: cute.TiledMma, q_tiles: Int32, kv_tiles: Int32):
        memory = SmemAllocator()
        q_layout = k_major(self.COLUMNS, DIM)
        kv_layout = k_major_stages(self.ROWS, DIM, self.STAGES)
        # The last barrier is q's.
        full = memory.allocate_array(Int64, self.STAGES + 1, byte_alignment=8)
        empty = memory.allocate_array(Int64, self.STAGES + 1, byte_alignment=8)
        shares = memory.allocate_tensor(
            Float32, cute.make_layout((HEADS, self.TOKENS, CONSUMERS)), 128)
        q_tile = memory.allocate_tensor(BFloat16, q_layout.outer, 1024, q_layout.inner)
        kv_tile = memory.allocate_tensor(BFloat16, kv_layout.outer, 1024, kv_layout.inner)
        init_barriers(full, empty, self.STAGES + 1)
        group = cute.arch.make_warp_uniform(cute.arch.thread_idx()[0] // WARPGROUP)
        if group == 0:
            cute.arch.setmaxregister_decrease(PRODUCER_REGISTERS)
            if cute.arch.make_warp_uniform(cute.arch.warp_idx()) == 0:
                self.bring(q_atom, q_map, q_tile, kv_atom, kv_map, kv_tile, full, empty, q_tiles,
                           kv_tiles)
        else:
            cute.arch.setmaxregister_increase(CONSUMER_REGISTERS)
            self.multiply(q_tile, kv_tile, shares[None, None, group - 1], full, empty, weights,
                          scores, group - 1, tiled_mma, q_tiles, kv_tiles)

    @cute.jit
    def range_of_block(self, q_tiles, kv_tiles):
        """The block's run of tiles, numbered with those of kv fastest: as even as it can be."""
        block, _, _ = cute.arch.block_idx()
        blocks, _, _ = cute.arch.grid_dim()
        tiles = q_tiles * kv_tiles
        share = tiles // blocks
        rest = tiles - share * blocks
        first = block * share + min(block, rest)
        last = first + share
        if block < rest:
            last += 1
        return first, last

    @cute.jit
    def bring(self, q_atom, q_map, q_tile, kv_atom, kv_map, kv_tile, full, empty, q_tiles, kv_tiles):
        cpasync.prefetch_descriptor(q_atom)
        cpasync.prefetch_descriptor(kv_atom)
        q_boxes = cute.local_tile(q_tile, (32, K_BLOCK), (None, None))
        q_from = cute.local_tile(q_map, ((2, 4, 4), K_BLOCK), ((0, None, 0), None))
        q_to, q_from = cpasync.tma_partition(
            q_atom, 0, cute.make_layout(1), cute.group_modes(q_boxes, 0, 2),
            cute.group_modes(q_from, 0, 2))
        kv_to, kv_from = partition(kv_atom, kv_map, kv_tile, self.ROWS)
        first, last = self.range_of_block(q_tiles, kv_tiles)
        stage = Int32(0)
        phase = Int32(1)
        q_phase = Int32(1)
        for m in cutlass.range(first // kv_tiles, (last + kv_tiles - 1) // kv_tiles, unroll=1):
            cute.arch.mbarrier_wait(empty + self.STAGES, q_phase)
            q_phase = q_phase ^ 1
            expect(full + self.STAGES, self.Q_BYTES)
            self.copy_q(q_atom, q_from, q_to, m, full + self.STAGES)
            start = max(first - m * kv_tiles, 0)
            stop = min(last - m * kv_tiles, kv_tiles)
            for n in cutlass.range(start, stop, unroll=1):
                cute.arch.mbarrier_wait(empty + stage, phase)
                expect(full + stage, self.KV_BYTES)
                cute.copy(kv_atom, kv_from[None, n], kv_to[None, stage], tma_bar_ptr=full + stage)
                stage += 1
                if stage == self.STAGES:
                    stage = Int32(0)
                    phase = phase ^ 1

    def copy_q(self, q_atom, q_from, q_to, tile, bar):
        """4 tokens and 64 of K each time. What lies behind the last token arrives as zeros."""
        for quad in range(self.TOKENS // 4):
            for half in range(DIM // K_BLOCK):
                cute.copy(q_atom, q_from[None, tile * (self.TOKENS // 4) + quad, half],
                          q_to[None, quad, half], tma_bar_ptr=bar)

    @cute.jit
    def multiply(self, q_tile, kv_tile, shares, full, empty, weights, scores, group, tiled_mma,
                 q_tiles, kv_tiles):
        thread = cute.arch.thread_idx()[0] - WARPGROUP
        lane = thread % 32
        row = thread // 32 * 16 + lane // 4
        part = tiled_mma.get_slice(thread)
        a = tiled_mma.make_fragment_A(part.partition_A(kv_tile))
        b = tiled_mma.make_fragment_B(part.partition_B(q_tile))
        sums = cute.make_rmem_tensor(
            tiled_mma.partition_shape_C((self.ROWS, self.COLUMNS)), Float32)
        results = cute.make_rmem_tensor((2, self.TOKENS // 4), Float32)
        t = scores.shape[0]
        c = scores.shape[1]
        if group == 1:
            cute.arch.barrier_arrive(barrier_id=3, number_of_threads=CONSUMERS * WARPGROUP)

        first, last = self.range_of_block(q_tiles, kv_tiles)
        stage = Int32(0)
        phase = Int32(0)
        q_phase = Int32(0)
        for m in cutlass.range(first // kv_tiles, (last + kv_tiles - 1) // kv_tiles, unroll=1):
            tokens = t - m * self.TOKENS
            cute.arch.barrier(barrier_id=1 + group, number_of_threads=WARPGROUP)
            for i in cutlass.range_constexpr(self.TOKENS * HEADS // WARPGROUP):
                at = i * WARPGROUP + thread % WARPGROUP
                value = Float32(0)
                if at // HEADS < tokens:
                    value = weights[m * self.TOKENS + at // HEADS, at % HEADS]
                shares[at % HEADS, at // HEADS] = value
            cute.arch.barrier(barrier_id=1 + group, number_of_threads=WARPGROUP)
            cute.arch.mbarrier_wait(full + self.STAGES, q_phase)
            q_phase = q_phase ^ 1
            start = max(first - m * kv_tiles, 0)
            stop = min(last - m * kv_tiles, kv_tiles)
            for n in cutlass.range(start, stop, unroll=1):
                cute.arch.mbarrier_wait(full + stage, phase)
                cute.arch.barrier(barrier_id=3 + group, number_of_threads=CONSUMERS * WARPGROUP)
                warpgroup.fence()
                for k in cutlass.range_constexpr(DIM // 16):
                    tiled_mma.set(warpgroup.Field.ACCUMULATE, k != 0)
                    cute.gemm(tiled_mma, sums, a[None, None, k, stage], b[None, None, k], sums)
                    if const_expr(k == DIM // 32 - 1 or k == DIM // 16 - 1):
                        warpgroup.commit_group()
                # Half way, it is the other's turn.
                warpgroup.wait_group(1)
                if group == 0 or m * kv_tiles + n + 1 < last:
                    cute.arch.barrier_arrive(
                        barrier_id=4 - group, number_of_threads=CONSUMERS * WARPGROUP)
                warpgroup.wait_group(0)
                give_back(empty + stage)
                stage += 1
                if stage == self.STAGES:
                    stage = Int32(0)
                    phase = phase ^ 1
                # All sums before all stores: a warp has its unit to itself, and hides latency alone.
                for quad in cutlass.range_constexpr(self.TOKENS // 4):
                    share = cute.make_rmem_tensor((HEADS,), Float32)
                    cute.autovec_copy(shares[None, quad * 4 + lane % 4], share)
                    for i in cutlass.range_constexpr(2):
                        score = Float32(0)
                        for h in cutlass.range_constexpr(HEADS):
                            dot = sums[(h % 2, i, quad * 4 + h // 2), 0, 0]
                            score += share[h] * cute.arch.fmax(dot, Float32(0), nan=True)
                        results[i, quad] = score
                column = n * self.ROWS + row
                token = m * self.TOKENS + lane % 4
                to = cute.make_tensor(
                    scores.iterator + (token * scores.stride[0] + column),
                    cute.make_layout((2, self.TOKENS // 4), stride=(8, 4 * scores.stride[0])))
                if tokens >= self.TOKENS and c - n * self.ROWS >= self.ROWS:
                    for quad in cutlass.range_constexpr(self.TOKENS // 4):
                        for i in cutlass.range_constexpr(2):
                            to[i, quad] = results[i, quad]
                else:
                    for quad in cutlass.range_constexpr(self.TOKENS // 4):
                        for i in cutlass.range_constexpr(2):
                            if quad * 4 + lane % 4 < tokens and column + 8 * i < c:
                                to[i, quad] = results[i, quad]
            give_back(empty + self.STAGES)


def multiprocessors():
    """How many the current device has, asked when the host function is called."""
    i32 = ir.IntegerType.get_signless(32)
    pointer = llvm.PointerType.get()
    device, count = (llvm.alloca(pointer, Int32(1).ir_value(), i32) for _ in range(2))
    llvm.store(Int32(0).ir_value(), device)
    llvm.store(Int32(1).ir_value(), count)
    ffi(name="_cudaGetDevice", params_types=[pointer], return_type=i32)(device)
    attribute = 16  # cudaDevAttrMultiProcessorCount
    ffi(name="_cudaDeviceGetAttribute", params_types=[pointer, i32, i32], return_type=i32)(
        count, Int32(attribute), Int32(llvm.load(i32, device)))
    return Int32(llvm.load(i32, count))


@cute.jit
def indexer_dots(q: cute.Tensor, kv: cute.Tensor, dots: cute.Tensor, stream: CUstream):
    """q [t, H, D], kv [c, D], dots [t, H, c]."""
    rows = q.shape[0] * HEADS
    c = kv.shape[0]
    if rows > 0 and c > 0:
        blocks = multiprocessors()
        q_rows = cute.make_tensor(q.iterator, cute.make_layout((rows, DIM), stride=(DIM, 1)))
        out = cute.make_tensor(dots.iterator, cute.make_layout((rows, c), stride=(Int64(c), 1)))
        IndexerDots().launch(q_rows, kv, out, blocks, stream)


@cute.jit
def indexer_scores(q: cute.Tensor, kv: cute.Tensor, weights: cute.Tensor, scores: cute.Tensor,
                   stream: CUstream):
    """q [t, H, D], kv [c, D], weights [t, H], scores [t, c]."""
    if q.shape[0] > 0 and kv.shape[0] > 0:
        IndexerScore().launch(q, kv, weights, scores, multiprocessors(), stream)
