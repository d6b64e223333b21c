#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# run_pytest.sh PYTHON: the tests of tools/kernels, by an interpreter that has Triton.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
if ! "$1" -c 'import triton, numpy, elftools, jsonschema, pytest
import importlib.metadata as m; m.version("nvidia-cuda-nvcc")' 2>/dev/null; then
    echo "SKIP: $1 is not there or lacks what tools/python/kernels.txt pins: run ./dev kernels"
    exit 77
fi
exec "$1" -B -m pytest -q -p no:cacheprovider "$here"
