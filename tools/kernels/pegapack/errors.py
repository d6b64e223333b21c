# SPDX-License-Identifier: Apache-2.0
"""The one kind of failure that this tool shows to people."""


class BuildError(Exception):
    """What failed and where, what was expected and what was got, and what to do about it."""
