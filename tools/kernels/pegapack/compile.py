# SPDX-License-Identifier: Apache-2.0
"""Runs compilations in worker processes and gathers what they return, in the order of the jobs."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from .errors import BuildError
from .nvcc import CudaCompiled, CudaJob, compile_cuda, find_toolkit
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
    """A thread that feeds one process with Triton's kernels, and runs nvcc itself."""

    def __init__(
        self,
        env: dict[str, str],
        scratch: Path,
        cache: Path | None,
        jobs: queue.SimpleQueue,
        results: queue.SimpleQueue,
    ) -> None:
        super().__init__(daemon=True)
        self._env = env
        self._scratch = scratch
        self._cache = cache
        self._jobs = jobs
        self._results = results
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None  # under _lock, as are the two below
        self._nvcc: subprocess.Popen | None = None
        self._stopped = False

    def run(self) -> None:
        process = None
        while True:
            try:
                index, job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if isinstance(job, CudaJob):
                self._compile_cuda(index, job)
                continue
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

    def _compile_cuda(self, index: int, job: CudaJob) -> None:
        try:
            answer = compile_cuda(job, find_toolkit(), self._scratch, self._cache, self._run_nvcc)
        except (BuildError, OSError) as error:
            answer = str(error)
        if not self._stopped:
            result = Failed(answer) if isinstance(answer, str) else answer
            self._results.put((index, result))

    def _run_nvcc(self, command: Sequence[str], folder: Path) -> tuple[int, str]:
        with self._lock:
            if self._stopped:
                return -signal.SIGKILL, ""
            # nvcc runs compilers of its own: a group, so that all of them end with it.
            self._nvcc = subprocess.Popen(
                command,
                cwd=folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        said, _ = self._nvcc.communicate()
        with self._lock:
            status = self._nvcc.returncode
            self._nvcc = None
        return status, said.decode("utf-8", "replace")

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
                # It runs assemblers of its own: a group, so that all of them end with it.
                start_new_session=True,
            )
            return self._process

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._process is not None and self._process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
            if self._nvcc is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._nvcc.pid, signal.SIGKILL)


def compile_all(
    jobs: Sequence[Job | CudaJob],
    *,
    workers: int,
    cache: Path | None,
    line_info: bool,
    done: Callable[[Job | CudaJob], None],
) -> list[Compiled | CudaCompiled]:
    """Compiles every job; `done` is called for each, on this thread. The first failure ends all."""
    if any(isinstance(job, CudaJob) for job in jobs):
        find_toolkit()  # what is missing is told before anything is compiled
    scratch = Path(tempfile.mkdtemp(prefix="pega-kernels-"))
    waiting: queue.SimpleQueue = queue.SimpleQueue()
    results: queue.SimpleQueue = queue.SimpleQueue()
    for item in enumerate(jobs):
        waiting.put(item)
    env = _environment(scratch, cache, line_info)
    threads = [
        _Worker(env, scratch, cache, waiting, results)
        for _ in range(max(1, min(workers, len(jobs))))
    ]
    compiled: dict[int, Compiled | CudaCompiled] = {}
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
