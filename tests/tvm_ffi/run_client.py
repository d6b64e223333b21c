# SPDX-License-Identifier: Apache-2.0
"""Runs a client written in Python under pytest, showing its lines.

    run_client.py FILE [--need MODULE]...

Ends with 77 and a line "SKIP: reason" where a needed module is not to be had. Another interpreter
than the project's (one with torch) borrows what it lacks, pytest above all, from the folder that
PEGA_TEST_SITE_PACKAGES names.
"""

import importlib
import os
import sys


class Quiet:
    """Leaves the lines to the client: no dot for each test that passed."""

    def pytest_report_teststatus(self, report):
        if report.when == "call" and report.passed:
            return "passed", "", ""
        return None


def main() -> int:
    arguments = sys.argv[1:]
    needed = [arguments[i + 1] for i, word in enumerate(arguments) if word == "--need"]
    sys.path.extend(filter(None, [os.environ.get("PEGA_TEST_SITE_PACKAGES")]))
    for name in ["pytest", "numpy", "tvm_ffi", *needed]:
        try:
            importlib.import_module(name)
        except ImportError as error:
            print(f"SKIP: {sys.executable} has no usable {name}: {error}")
            return 77
    import pytest  # noqa: PLC0415 (only now is it known to be there)

    # What is needed is imported by now, its pytest plugin too: pytest warns of that.
    options = ["-q", "-s", "-p", "no:cacheprovider", "--no-header",
               "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    return int(pytest.main([*options, arguments[0]], plugins=[Quiet()]))


if __name__ == "__main__":
    sys.exit(main())
