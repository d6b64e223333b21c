# SPDX-License-Identifier: Apache-2.0
"""What tables take from the report of `./dev gpu-test`, docs/evidence/gpu-test-<GPU>.txt, and from the one before."""

import re

import evidence


class Report:
    """The report's head and the lines of each part."""

    def __init__(self, path, earlier=None):
        """A part that did not pass is looked up in the `earlier` report, if there is one."""
        self.path, self.earlier = path, earlier
        self.head, self.parts = {}, {}
        lines = None
        try:
            text = path.read_text()
        except FileNotFoundError:
            text = ""
        for line in text.splitlines():
            part = re.match(r"######## (\w+) +\d+ s  (\S+)$", line)
            if part:
                lines = []
                if part.group(1) == "passed":
                    self.parts.setdefault(part.group(2), lines)
            elif lines is None:
                key, colon, value = line.partition(": ")
                if colon:
                    self.head.setdefault(key, value)
            else:
                lines.append(line.strip())

    def of(self, part):
        """The report that has a part."""
        return self.earlier if self.earlier and part not in self.parts and part in self.earlier.parts else self

    def rows(self, part, pattern):
        """The groups of each line of a part that matches whole; None where the report lacks the part."""
        if self.of(part) is not self:
            return self.earlier.rows(part, pattern)
        if part not in self.parts:
            return None
        found = [match.groups() for match in (re.fullmatch(pattern, line) for line in self.parts[part]) if match]
        if not found:
            raise evidence.Problem(f"{self.path}: part {part} has no line like {pattern}")
        return found

    def where_from(self, part):
        if self.of(part) is not self:
            return self.earlier.where_from(part)
        device, driver = (self.head.get("device", "unknown, unknown") + ", ").split(", ")[:2]
        return (
            f"{device}, driver {driver}, {self.head.get('date', 'no date')[:10]}, commit"
            f" {self.head.get('commit', 'unknown')[:10]}: `./dev gpu-test`, part `{part}`"
        )
