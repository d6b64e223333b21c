# SPDX-License-Identifier: Apache-2.0
"""How far a build is: a bar on a terminal, plain lines elsewhere. Always on standard error."""

from __future__ import annotations

import shutil
import sys
import time


class Progress:
    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._bar = sys.stderr.isatty() and not quiet
        self._total = 0
        self._count = 0
        self._shown = 0.0

    def start(self, total: int) -> None:
        self._total = total
        if self._bar:
            self._draw("")
        elif not self._quiet:
            print(
                f"compiling {total} kernel{'s' if total != 1 else ''}", file=sys.stderr, flush=True
            )

    def step(self, what: str) -> None:
        self._count += 1
        if self._bar:
            self._draw(what)
        elif not self._quiet and (
            self._count == self._total or time.monotonic() - self._shown >= 2
        ):
            # Lines at intervals: a log wants to see that it moves, not each of hundreds of kernels.
            self._shown = time.monotonic()
            print(f"[{self._count}/{self._total}] {what}", file=sys.stderr, flush=True)

    def _draw(self, what: str) -> None:
        width = shutil.get_terminal_size().columns
        full = 20 * self._count // max(self._total, 1)
        line = f"[{'#' * full}{'.' * (20 - full)}] {self._count}/{self._total} {what}"
        print("\r" + line[: width - 1].ljust(width - 1), end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Takes the bar away; may be called at any time, more than once."""
        if self._bar and self._total:
            print(
                "\r" + " " * (shutil.get_terminal_size().columns - 1) + "\r",
                end="",
                file=sys.stderr,
                flush=True,
            )
            self._bar = False
