# SPDX-License-Identifier: Apache-2.0
"""What a cubin says of a kernel: parameters, registers, memory. Read from the ELF file alone."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from .errors import BuildError

_EM_CUDA = 190
_RESERVED_SHARED = 1024  # CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK

# Formats and attributes of the entries in .nv.info sections.
_FORMAT_SIZED = 4  # u16 size, then so many bytes; the other formats hold 2 bytes in place
_FRAME_SIZE = 0x11
_REQNTID = 0x10
_KPARAM_INFO = 0x17
_MAX_THREADS = 0x05
_CTA_PER_CLUSTER = 0x3D
_PARAM_CBANK = 0x0A
_MIN_STACK_SIZE = 0x12
_REGCOUNT = 0x2F
_KPARAM_INFO_V2 = 0x45


@dataclass(frozen=True)
class CubinParam:
    offset: int
    size: int


@dataclass(frozen=True)
class CubinKernel:
    """A kernel of a cubin."""

    entry: str
    compute_capability: int
    params: tuple[CubinParam, ...]  # by ordinal
    param_base: (
        int  # where parameters begin in the constant bank; alignment counts from the bank's start
    )
    registers: int  # a thread
    local_bytes: int  # a thread: stack frame, spills among it
    static_shared: int  # as the driver counts it: without what the hardware reserves
    block: tuple[int, int, int] | None  # what the launch must be, where it is fixed
    max_threads: int | None = None  # of a block, where the code was made for so many
    cluster: tuple[int, int, int] | None = None  # as block


def read_kernel(cubin: bytes, entry: str, what: str) -> CubinKernel:
    """Reads the kernel `entry`; `what` names the cubin in errors."""
    try:
        return _read(cubin, entry, what)
    except (ELFError, struct.error, UnicodeDecodeError) as error:
        raise BuildError(f"{what}: the cubin cannot be read: {error}") from error


def _read(cubin: bytes, entry: str, what: str) -> CubinKernel:
    elf = ELFFile(io.BytesIO(cubin))
    if elf["e_machine"] not in (_EM_CUDA, "EM_CUDA"):
        raise BuildError(f"{what}: expected an ELF file for CUDA, got machine {elf['e_machine']}")
    own = elf.get_section_by_name(f".nv.info.{entry}")
    if own is None:
        names = sorted(
            s.name[len(".nv.info.") :]
            for s in elf.iter_sections()
            if s.name.startswith(".nv.info.")
        )
        raise BuildError(
            f"{what}: no kernel '{entry}' in the cubin; it has: {', '.join(names) or 'none'}"
        )

    params: dict[int, CubinParam] = {}
    block = max_threads = cluster = None
    param_base = 0
    for attribute, payload in _entries(own.data()):
        if attribute == _KPARAM_INFO:
            _, ordinal, offset, flags = struct.unpack("<IHHI", payload)
            params[ordinal] = CubinParam(offset, flags >> 18)
        elif attribute == _KPARAM_INFO_V2:
            raise BuildError(
                f"{what}: '{entry}' describes its parameters by KPARAM_INFO_V2, which this "
                "tool does not read; it is used past 4096 bytes of parameters"
            )
        elif attribute == _REQNTID:
            block = struct.unpack("<III", payload)
        elif attribute == _MAX_THREADS:
            x, y, z = struct.unpack("<III", payload)
            max_threads = x * y * z
        elif attribute == _CTA_PER_CLUSTER:
            cluster = struct.unpack("<III", payload)
        elif attribute == _PARAM_CBANK:
            _, param_base, _ = struct.unpack("<IHH", payload)
    if sorted(params) != list(range(len(params))):
        raise BuildError(f"{what}: '{entry}' has gaps in its parameter table: {sorted(params)}")

    symbol = _symbol_index(elf, entry, what)
    by_symbol: dict[int, int] = {}
    common = elf.get_section_by_name(".nv.info")
    for attribute, payload in _entries(common.data() if common is not None else b""):
        if attribute in (_REGCOUNT, _FRAME_SIZE, _MIN_STACK_SIZE):
            index, value = struct.unpack("<II", payload)
            if index == symbol:
                by_symbol[attribute] = value
    if _REGCOUNT not in by_symbol:
        raise BuildError(f"{what}: the cubin does not say how many registers '{entry}' uses")

    capability = _compute_capability(elf)
    shared = elf.get_section_by_name(f".nv.shared.{entry}")
    static_shared = shared["sh_size"] if shared is not None else 0
    if capability >= 90:
        # There the section begins with what the hardware keeps for itself of each block.
        static_shared = max(0, static_shared - _RESERVED_SHARED)
    return CubinKernel(
        entry=entry,
        compute_capability=capability,
        params=tuple(params[i] for i in range(len(params))),
        param_base=param_base,
        registers=by_symbol[_REGCOUNT],
        local_bytes=max(by_symbol.get(_FRAME_SIZE, 0), by_symbol.get(_MIN_STACK_SIZE, 0)),
        static_shared=static_shared,
        block=block,
        max_threads=max_threads,
        cluster=cluster,
    )


def _entries(data: bytes):
    """(attribute, payload) of each entry of a .nv.info section."""
    at = 0
    while at + 4 <= len(data):
        form, attribute, value = struct.unpack_from("<BBH", data, at)
        at += 4
        if form == _FORMAT_SIZED:
            yield attribute, data[at : at + value]
            at += value
        else:
            yield attribute, struct.pack("<H", value)


def _symbol_index(elf: ELFFile, entry: str, what: str) -> int:
    table = elf.get_section_by_name(".symtab")
    if isinstance(table, SymbolTableSection):
        for index, symbol in enumerate(table.iter_symbols()):
            if symbol.name == entry and symbol["st_info"]["type"] == "STT_FUNC":
                return index
    raise BuildError(f"{what}: the cubin has no function symbol '{entry}'")


def _compute_capability(elf: ELFFile) -> int:
    """e_flags hold it in the low byte up to CUDA 12's ELF ABI (7), in the second byte since (8)."""
    flags = elf["e_flags"]
    abi = elf["e_ident"]["EI_ABIVERSION"]
    return (flags >> 8) & 0xFF if abi >= 8 else flags & 0xFF
