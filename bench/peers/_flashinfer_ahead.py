# SPDX-License-Identifier: Apache-2.0
"""FlashInfer's own Python for the gated delta rule where its compiler is not installed.

FlashInfer compiles its kernels with CuTe DSL when they are first called, keeps the function that the
compiler returns, and calls that from then on. Here all of its Python runs as it is but for that step:
what would be compiled is looked up in a module of the same kernels, made by tools/dsl/flashinfer_gdn.py
on another machine, by the same compiler from the same sources. The functions are TVM FFI functions in
either case, called with the same arguments. What was not compiled ahead is left out by name.

The compiler's Python package is stood in for, so that the sources that describe kernels can be read;
whatever they do with it has no effect.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import json
import pathlib
import sys
import types

from _common import LeftOut

COMPILER = "cutlass"
# Packages whose own __init__ only gathers what the whole of FlashInfer has.
GATHERERS = ("flashinfer", "flashinfer.cute_dsl")
PREFILL = "flashinfer.gdn_kernels.delta_rule_dsl."
DECODE = "flashinfer.gdn_kernels.gdn_decode_"


class Absent:
    """Anything of the compiler: has every attribute, can be called, is the same under one name."""

    def __init__(self, name):
        self.__dict__["__name__"] = name

    def __getattr__(self, name):
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        value = self.__dict__[name] = Absent(f"{self.__name__}.{name}")
        return value

    def __call__(self, *args, **kwargs):
        if len(args) == 1 and not kwargs and inspect.isroutine(args[0]):
            return args[0]  # a decorator
        return Absent(f"{self.__name__}()")

    def __getitem__(self, key):
        return self

    def __or__(self, other):
        return self

    __ror__ = __or__

    def __mro_entries__(self, bases):
        return ()

    def __repr__(self):
        return f"<{self.__name__}, not installed>"


class AbsentModule(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        value = Absent(f"{self.__name__}.{name}")
        setattr(self, name, value)
        return value


class StandIn(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the compiler's package and every module in it."""

    def find_spec(self, name, path, target=None):
        if name.split(".")[0] != COMPILER:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return AbsentModule(spec.name)

    def exec_module(self, module):
        pass


def needed():
    """Whether the compiler is missing."""
    return importlib.util.find_spec(COMPILER) is None


def without_gathering(folder):
    """FlashInfer's modules without all of FlashInfer."""
    for name in GATHERERS:
        module = types.ModuleType(name)
        module.__path__ = [str(pathlib.Path(folder, *name.split(".")[1:]))]
        sys.modules[name] = module


class Kernels:
    """The module of kernels, and which of them FlashInfer wants."""

    def __init__(self, path, version):
        import tvm_ffi

        path = pathlib.Path(path)
        if not path.is_file():
            raise LeftOut(f"there is no {path}: ./dev artifacts flashinfer:gdn makes it")
        self.made = json.loads(path.with_suffix(".json").read_text())
        if self.made["flashinfer-python"] != version:
            raise LeftOut(f"{path} was made of FlashInfer {self.made['flashinfer-python']}, and"
                          f" {version} is installed")
        self.module = tvm_ffi.load_module(str(path))

    def function(self, name):
        try:
            return self.module[name]
        except (AttributeError, RuntimeError):
            raise LeftOut(f"FlashInfer's kernel {name} was not compiled ahead") from None

    def name_of(self, kernel):
        """What tools/dsl/flashinfer_gdn.py names the prefill's kernels by; only what it compiles."""
        import cutlass
        import torch

        kind = type(kernel).__name__
        wanted = {
            "needs_alpha": True,
            "needs_beta": kind != "CPDeltaRulePrefillSm90",
            "needs_checkpointing": False,
            "use_state_indices": False,
            "store_final_state": True,
            "dtype": cutlass.BFloat16,
            "initial_state_dtype": cutlass.Float32,
            "state_dtype": cutlass.Float32,
            "cu_seqlens_dtype": torch.int64,
        }
        for name, value in wanted.items():
            got = getattr(kernel, name, value)
            if got is not value and got != value:
                raise LeftOut(f"FlashInfer's {kind} with {name} {got} was not compiled ahead")
        initial = int(getattr(kernel, "needs_initial_state", False))
        names = {
            "_FullyFusedDeltaRuleSm90": f"fi_prefill_{int(getattr(kernel, 'needs_init_state', 0))}",
            "CPDeltaRuleTPrecomputeSm90": "fi_cp_t",
            "CPDeltaRuleMNPrecomputeSm90": "fi_cp_mn",
            "CPDeltaRuleFixupHmmaSm90": f"fi_cp_fixup_hmma_{initial}",
            "CPDeltaRuleFixupSimtSm90":
                f"fi_cp_fixup_row{getattr(kernel, 'rows_per_cta', 0)}_{initial}",
            "CPDeltaRulePrefillSm90": f"fi_cp_prefill_{initial}",
        }
        if kind not in names:
            raise LeftOut(f"FlashInfer's {kind} was not compiled ahead")
        return names[kind]


def install(kernels_path):
    """Lets flashinfer's modules be imported; the version in words."""
    found = importlib.util.find_spec("flashinfer")
    if found is None:
        raise LeftOut("No module named 'flashinfer'")
    without_gathering(found.submodule_search_locations[0])
    sys.meta_path.insert(0, StandIn())
    from flashinfer.version import __version__ as version

    kernels = Kernels(kernels_path, version)
    cache = importlib.import_module(PREFILL + "custom_compile_cache")

    def cached_compile(kernel, *args, compile_options=None, **kwargs):
        compiled = kernels.function(kernels.name_of(kernel))
        key = kernel._get_compile_key(), cache._compile_options_key(compile_options)
        cache._in_mem_compile_cache[key] = compiled
        return compiled

    def build_and_load(module, kernel, compile_step, extra_key_files=()):
        return kernels.function(f"{module}_{kernel}")

    for name in ("delta_rule_sm90", "delta_rule_cp_sm90"):
        module = importlib.import_module(PREFILL + name)
        if not hasattr(module, "cached_compile"):
            raise LeftOut(f"FlashInfer {version} compiles its prefill otherwise than is known here")
        module.cached_compile = cached_compile
    for name in ("pretranspose", "nontranspose"):
        module = importlib.import_module(DECODE + name)
        if not hasattr(module, "build_and_load_cute_dsl_kernel"):
            raise LeftOut(f"FlashInfer {version} compiles its decode otherwise than is known here")
        module.build_and_load_cute_dsl_kernel = build_and_load
    return f"{version}, its kernels compiled ahead by CuTe DSL {kernels.made['nvidia-cutlass-dsl']}"
