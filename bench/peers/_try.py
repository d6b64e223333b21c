# SPDX-License-Identifier: Apache-2.0
"""Speaks with a peer of `pega bench` by hand.

    PYTHON bench/peers/_try.py torch_cpu cpu op=prefill sequences=1 tokens=512 key_heads=16 \\
        value_heads=32 threads=2 [how=wall] [samples=5]
    PYTHON bench/peers/_try.py fla prefill sequences=1 tokens=8192 key_heads=16 value_heads=32 how=graph

Prints every answer; ends with 1 where the last measurement was left out.
"""

import json
import pathlib
import subprocess
import sys


class Talk:
    """A peer that was started."""

    def __init__(self, command, **options):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, **options)

    def ask(self, request):
        line = request if isinstance(request, str) else json.dumps(request)
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise EOFError(f"the peer ended with {self.process.wait()}")
        return json.loads(answer)

    def end(self):
        """The peer's exit status."""
        self.process.stdin.close()
        status = self.process.wait()
        self.process.stdout.close()
        return status


def main():
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    peer, part, *words = sys.argv[1:]
    case = {}
    for word in words:
        name, _, value = word.partition("=")
        case[name] = int(value) if value.isdecimal() else value
    how, samples = case.pop("how", "wall"), case.pop("samples", 5)
    rotate = {"rotate_bytes": case.pop("rotate_bytes")} if "rotate_bytes" in case else {}
    talk = Talk([sys.executable, str(pathlib.Path(__file__).resolve().parent / f"{peer}.py")])

    def show(**request):
        answer = talk.ask(request)
        print(json.dumps(request), "\n   ", json.dumps(answer))
        return answer

    show(do="hello")
    failed = False
    for name in show(do="prepare", part=part, case=case, **rotate).get("names", [None]):
        failed = "us" not in show(do="measure", name=name, how=how, samples=samples)
    show(do="drop")
    return int(talk.end() != 0 or failed)


if __name__ == "__main__":
    sys.exit(main())
