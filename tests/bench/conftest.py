# SPDX-License-Identifier: Apache-2.0
"""Says what was skipped as the other tests do, so that the summary of a run counts it."""


def pytest_terminal_summary(terminalreporter):
    for report in terminalreporter.stats.get("skipped", []):
        terminalreporter.write_line(f"SKIP: {report.longrepr[2].removeprefix('Skipped: ')}")
