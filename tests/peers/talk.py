# SPDX-License-Identifier: Apache-2.0
"""Peers as child processes, as `pega bench` has them."""

import importlib.util
import os
import pathlib
import subprocess
import sys

FOLDER = pathlib.Path(__file__).resolve().parent.parent.parent / "bench" / "peers"
INSTALLED = pathlib.Path(os.environ.get("PEGA_TEST_PEERS", FOLDER))
PROGRAMS = ("cubin_launcher", "fla", "flashinfer", "torch_cpu", "triton_launcher")
GPU = [name for name in PROGRAMS if name != "torch_cpu"]


def load(name):
    """A file of the peers as a module."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


Talk = load("_try").Talk


def start(program, python=sys.executable, **environment):
    path = program if isinstance(program, pathlib.Path) else FOLDER / f"{program}.py"
    names = {"PEGA_FLA", "PEGA_FLASHINFER", "PEGA_FLASHINFER_KERNELS", "PEGA_CUBIN_LAUNCHER"}
    kept = {name: value for name, value in os.environ.items() if name not in names}
    return Talk([python, "-B", str(path)], env={**kept, **environment}, stderr=subprocess.PIPE)
