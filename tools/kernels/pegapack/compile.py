# SPDX-License-Identifier: Apache-2.0
"""Runs compilations in worker processes and gathers what they return, in the order of the jobs."""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from .errors import BuildError
from .worker import Compiled, Failed, Job, receive, send

_TOOL = Path(__file__).resolve().parent.parent

# All that a worker inherits: the compiler reads dozens of variables, and each would be an input.
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT")


def _environment(scratch: Path, cache: Path | None, line_info: bool) -> dict[str, str]:
    env = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    env.update(
        LC_ALL="C.UTF-8",
        PYTHONHASHSEED="0",
        HOME=str(scratch),
        TMPDIR=str(scratch),
        TRITON_HOME=str(scratch),
        TRITON_CACHE_DIR=str(cache if cache is not None else scratch / "cache"),
        # Line information holds the source's absolute path.
        TRITON_DISABLE_LINE_INFO="0" if line_info else "1",
    )
    return env


class _Worker(threading.Thread):
    """A thread that feeds one process."""

    def __init__(
        self, env: dict[str, str], jobs: queue.SimpleQueue, results: queue.SimpleQueue
    ) -> None:
        super().__init__(daemon=True)
        self._env = env
        self._jobs = jobs
        self._results = results
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None  # under _lock, as is _stopped
        self._stopped = False

    def run(self) -> None:
        process = None
        while True:
            try:
                index, job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if process is None:
                process = self._start()
            if process is None:
                return
            try:
                send(cast(BinaryIO, process.stdin), job)
                answer = receive(cast(BinaryIO, process.stdout))
            except OSError:
                answer = None
            if answer is None:
                if self._stopped:
                    return
                status = process.wait()
                how = f"signal {-status}" if status < 0 else f"exit status {status}"
                answer = Failed(f"the compiler's process ended ({how})")
                process = None
            self._results.put((index, answer))
        if process is not None:
            process.communicate()  # no more jobs: it ends

    def _start(self) -> subprocess.Popen | None:
        # Its sys.path begins with the current folder, which is nobody's business here.
        code = f"import sys; sys.path[0] = {str(_TOOL)!r}; import pegapack.worker as w; w.main()"
        with self._lock:
            if self._stopped:
                return None
            self._process = subprocess.Popen(
                [sys.executable, "-s", "-B", "-c", code],
                env=self._env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            return self._process

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._process is not None and self._process.poll() is None:
                self._process.kill()


def compile_all(
    jobs: Sequence[Job],
    *,
    workers: int,
    cache: Path | None,
    line_info: bool,
    done: Callable[[Job], None],
) -> list[Compiled]:
    """Compiles every job; `done` is called for each, on this thread. The first failure ends all."""
    scratch = Path(tempfile.mkdtemp(prefix="pega-kernels-"))
    waiting: queue.SimpleQueue = queue.SimpleQueue()
    results: queue.SimpleQueue = queue.SimpleQueue()
    for item in enumerate(jobs):
        waiting.put(item)
    env = _environment(scratch, cache, line_info)
    threads = [_Worker(env, waiting, results) for _ in range(max(1, min(workers, len(jobs))))]
    compiled: dict[int, Compiled] = {}
    try:
        for thread in threads:
            thread.start()
        while len(compiled) < len(jobs):
            index, answer = results.get()
            if isinstance(answer, Failed):
                raise BuildError(f"{jobs[index].what}: {answer.message}")
            compiled[index] = answer
            done(jobs[index])
    finally:
        for thread in threads:
            thread.stop()
        for thread in threads:
            thread.join(timeout=10)
        shutil.rmtree(scratch, ignore_errors=True)
    return [compiled[i] for i in range(len(jobs))]
