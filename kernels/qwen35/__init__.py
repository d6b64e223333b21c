# SPDX-License-Identifier: Apache-2.0
"""Parts of the declaration kernels/qwen35.py."""
