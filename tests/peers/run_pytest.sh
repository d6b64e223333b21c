#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# run_pytest.sh PYTHON protocol|torch: the tests of the peers; those of `torch` need a Python that has it.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
if [ "$2" = torch ] && ! "${PEGA_TORCH_PYTHON:-$1}" -c 'import torch' 2>/dev/null; then
    echo "SKIP: ${PEGA_TORCH_PYTHON:-$1} has no torch: name a Python that has in PEGA_TORCH_PYTHON"
    exit 77
fi
# Small cases: more threads than processors that are free would only wait for each other.
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
exec "$1" -B -m pytest -q -p no:cacheprovider "$here/test_$2.py"
