#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""stand_ins.py TORCH_LIB OUT: libraries that let torch be imported where CUDA's are not installed.

torch's wheel names cuBLAS, cuDNN, NCCL and others as libraries it needs, 1.7 GB to fetch, and a compiler
that imports torch to describe tensors calls none of them. For each that is missing this makes a library of
its name in OUT with the symbols that torch wants of it; calling one ends the process with its name. OUT goes
into LD_LIBRARY_PATH of what compiles, and of nothing else: no computation of torch runs with it.

Needs pyelftools and a C compiler (CC, or cc).
"""

import os
import pathlib
import subprocess
import sys

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

# What is stood in for. The runtime library is not among them: the wheel's constructors call it.
LIBRARIES = ("libcublas.", "libcublasLt.", "libcudnn.", "libcufft.", "libcufile.", "libcupti.", "libcusolver.",
             "libcusparse.", "libcusparseLt.", "libnccl.", "libnvrtc.", "libnvshmem_host.")


class Library:
    """What one shared library needs, defines and wants."""

    def __init__(self, path):
        self.needed, self.defined, self.wanted, self.weak = [], set(), {}, set()
        with open(path, "rb") as stream:
            elf = ELFFile(stream)
            for section in elf.iter_sections():
                if isinstance(section, DynamicSection):
                    self.needed = [t.needed for t in section.iter_tags("DT_NEEDED")]
            symbols = elf.get_section_by_name(".dynsym")
            versions = elf.get_section_by_name(".gnu.version")
            files = {}  # index of a version: which file is to have it, and its name
            section = elf.get_section_by_name(".gnu.version_r")
            if isinstance(section, GNUVerNeedSection):
                for file, entries in section.iter_versions():
                    for entry in entries:
                        files[entry["vna_other"]] = (file.name, entry.name)
            for index, symbol in enumerate(symbols.iter_symbols()):
                if not symbol.name:
                    continue
                if symbol["st_shndx"] != "SHN_UNDEF":
                    self.defined.add(symbol.name)
                elif symbol["st_info"]["bind"] != "STB_WEAK":
                    version = versions.get_symbol(index)["ndx"] if versions else 0
                    self.wanted[symbol.name] = files.get(version)


def make(out, name, symbols):
    """A library `name` with symbols, a dict from a symbol to its version's name or None."""
    by_version = {}
    for symbol, version in symbols.items():
        by_version.setdefault(version, []).append(symbol)
    text = ["extern int puts(const char *); extern void abort(void);"]
    for symbol in sorted(symbols):
        text.append(f'void {symbol}(void) {{ puts("{symbol}: {name} is a stand-in"); abort(); }}')
    source, script = out / f"{name}.c", out / f"{name}.map"
    source.write_text("\n".join(text) + "\n")
    lines = []
    for version, members in sorted(by_version.items(), key=lambda item: item[0] or ""):
        if version is not None:
            lines.append(f"{version} {{ global: {' '.join(f'{m};' for m in sorted(members))} }};")
    script.write_text("\n".join(lines) + "\n")
    command = [os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O0", "-w", "-fno-builtin", f"-Wl,-soname,{name}"]
    if lines:
        command.append(f"-Wl,--version-script={script}")
    subprocess.run([*command, "-o", str(out / name), str(source)], check=True)
    source.unlink()
    script.unlink()


def main():
    folder, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    libraries = {path.name: Library(path) for path in sorted(folder.glob("*.so*"))}
    missing = {}
    for library in libraries.values():
        for name in library.needed:
            if name not in libraries and name.startswith(LIBRARIES):
                missing.setdefault(name, {})
    defined = set().union(*(library.defined for library in libraries.values()))
    for library in libraries.values():
        mine = [name for name in library.needed if name in missing]
        for symbol, where in library.wanted.items():
            if where is not None and where[0] in missing:
                missing[where[0]][symbol] = where[1]
            elif where is None and symbol not in defined and mine and not symbol.startswith("_Z"):
                # Of no version: whichever library has it will do.
                if not symbol.startswith(("Py", "_Py")):
                    missing[mine[0]].setdefault(symbol, None)
    for name, symbols in sorted(missing.items()):
        make(out, name, symbols)
    print(f"made {len(missing)} stand-ins in {out}: {' '.join(sorted(missing))}")


if __name__ == "__main__":
    main()
