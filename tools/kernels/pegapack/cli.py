# SPDX-License-Identifier: Apache-2.0
"""The command line, build-pack."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from .errors import BuildError

_NEEDED = {"triton": "triton", "numpy": "numpy", "elftools": "pyelftools"}
_TOOL = Path(__file__).resolve().parent.parent


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="build-pack",
        description="Compile the kernels that a declaration names, Triton's and CUDA C's, into a pack.",
        epilog="Equal inputs give equal bytes, wherever they are built. No GPU is needed.",
    )
    parser.add_argument("declaration", type=Path, help="Python file that sets PACK")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write the file form here (*.pegapack)"
    )
    parser.add_argument("--folder", type=Path, metavar="DIR", help="write the folder form here")
    parser.add_argument(
        "--targets", metavar="LIST", help="only these of the pack's targets: sm_80,sm_90"
    )
    parser.add_argument(
        "-j",
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="compile in so many processes (%(default)s)",
    )
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="keep and reuse compiled kernels here"
    )
    parser.add_argument(
        "--depfile",
        type=Path,
        metavar="FILE",
        help="write what the pack is made from here, as a Makefile's rule",
    )
    parser.add_argument(
        "--line-info",
        action="store_true",
        help="keep line information for profilers; the bytes then depend on the source's path",
    )
    parser.add_argument(
        "--table", action="store_true", help="print each kernel's registers and memory"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print errors alone")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, 1 for what failed, 2 for wrong usage, 130 after ^C."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.output is None and args.folder is None:
        parser.error("nothing to write: give -o FILE, --folder DIR or both")
    if args.depfile is not None and args.output is None:
        parser.error("--depfile needs -o")
    if args.jobs < 1:
        parser.error(f"-j {args.jobs}: expected 1 or more")
    # What ends a build from outside takes the same way as ^C, so that nothing is left behind.
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    try:
        _run(args)
    except BuildError as error:
        print(f"build-pack: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("build-pack: interrupted; nothing was written", file=sys.stderr)
        return 130
    return 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _require_packages() -> None:
    missing = [
        package for module, package in _NEEDED.items() if importlib.util.find_spec(module) is None
    ]
    if missing:
        raise BuildError(
            f"{sys.executable} has no {', '.join(missing)}; './dev kernels' makes an interpreter "
            "that has what tools/python/kernels.txt pins, build/kernels-python/bin/python3"
        )


def _targets(text: str | None) -> list[str] | None:
    from .check import TARGETS

    if text is None:
        return None
    targets = [t.strip() for t in text.split(",") if t.strip()]
    for target in targets:
        if target not in TARGETS:
            raise BuildError(
                f"--targets: unknown target '{target}'; expected some of: {', '.join(TARGETS)}"
            )
    if not targets:
        raise BuildError("--targets is empty")
    return targets


def _run(args: argparse.Namespace) -> None:
    _require_packages()
    from .build import build, load_declaration
    from .container import pack_bytes, write_file, write_folder
    from .progress import Progress
    from .target import check_targets

    targets = (args.output, args.folder, args.depfile)
    tool = sorted(p for p in _TOOL.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    pack, neighbours = load_declaration(args.declaration)
    # Before what takes long. A source that is not there is told later.
    kernels = (k.source for f in pack.functions for k in f.kernels)
    sources = [p for p in (args.declaration.parent / k for k in kernels) if p.is_file()]
    check_targets(*targets, [args.declaration, *neighbours, *sources, *tool])
    progress = Progress(args.quiet)
    try:
        built = build(
            pack,
            args.declaration,
            neighbours,
            only=_targets(args.targets),
            workers=args.jobs,
            cache=args.cache,
            line_info=args.line_info,
            started=progress.start,
            done=progress.step,
        )
    finally:
        progress.end()
    # Again: now all that was read is known, and other things may have come to be there.
    check_targets(*targets, [*built.sources, *tool])

    def told(path: Path, wrote: bool, size: int) -> None:
        if not args.quiet:
            how = "written" if wrote else "unchanged"
            print(f"{path}: {how}, {len(built.rows)} kernels, {size} bytes")

    if args.folder is not None:
        size = len(built.manifest) + sum(len(b) for b in built.blobs.values())
        told(args.folder, write_folder(args.folder, built.manifest, built.blobs), size)
    if args.output is not None:
        content = pack_bytes(built.manifest, list(built.blobs), built.blobs)
        told(args.output, write_file(args.output, content), len(content))
    if args.depfile is not None:
        inputs = " ".join(_escaped(p) for p in [*built.sources, *tool])
        write_file(args.depfile, f"{_escaped(args.output)}: {inputs}\n".encode())
    if args.table:
        _print_table(built.rows)


def _escaped(path: Path) -> str:
    return str(path).replace("$", "$$").replace("#", "\\#").replace(" ", "\\ ")


def _print_table(rows) -> None:
    head = ("function", "target", "registers", "local", "shared", "cubin")
    cells = [
        (
            r.function,
            r.target,
            str(r.registers),
            str(r.local_bytes),
            str(r.shared),
            str(r.cubin_bytes),
        )
        for r in rows
    ]
    width = [max(len(line[i]) for line in [head, *cells]) for i in range(len(head))]
    for line in [head, *cells]:
        print(
            "  ".join(
                cell.ljust(w) if i < 2 else cell.rjust(w)
                for i, (cell, w) in enumerate(zip(line, width, strict=True))
            ).rstrip()
        )
