#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check_scripts.sh: shellcheck on every shell script of the project.
set -eu
cd "$(dirname "$0")/.."
shellcheck dev .ci/run
find . \( -path ./build -o -path ./.git \) -prune -o -name '*.sh' -exec shellcheck {} +
echo "shell scripts: ok"
