# SPDX-License-Identifier: Apache-2.0
"""Lets FLA compile ahead what it tunes over, several cases at a time.

    PYTHON bench/peers/_warm.py [SECONDS]

FLA compiles dozens of variants of each kernel one after the other when it first meets a number of heads, which takes a
minute or more; Triton keeps them on disk. Here a process a case does that, all at the same time. What they measure of
variants meanwhile is not kept: the peer measures for itself, in `pega bench`, what it finds compiled. Prints the seconds of
each case; cases that are not done within SECONDS (else 200) are given up.
"""

import concurrent.futures
import pathlib
import sys
import time

from _try import Talk

ONE, SEVERAL = {"sequences": 1, "tokens": 8192}, {"sequences": 8, "tokens": 512}
CASES = [
    ("prefill", {**ONE, "key_heads": 16, "value_heads": 32}),
    ("prefill", {**SEVERAL, "key_heads": 16, "value_heads": 32}),
    ("prefill", {**ONE, "key_heads": 16, "value_heads": 48}),
    ("prefill", {**ONE, "key_heads": 16, "value_heads": 64}),
    ("prefill", {**ONE, "key_heads": 4, "value_heads": 8}),
    ("solve", {"tokens": 8192, "value_heads": 32}),
    ("decode", {"batch": 8, "key_heads": 16, "value_heads": 32}),
]


def words(part, case):
    return " ".join([part, *(f"{key}={value}" for key, value in case.items())])


def warm(talk, part, case):
    """What came of a case, in words."""
    start = time.monotonic()
    try:
        for request in ({"do": "hello"}, {"do": "prepare", "part": part, "case": case}):
            answer = talk.ask(request)
            if "left_out" in answer:
                return f"left out: {answer['left_out']}"
    except (EOFError, OSError, ValueError) as error:
        return f"ended: {error}"
    return f"{time.monotonic() - start:.0f} s"


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 200
    program = str(pathlib.Path(__file__).resolve().parent / "fla.py")
    talks = [Talk([sys.executable, program]) for _ in CASES]
    with concurrent.futures.ThreadPoolExecutor(len(CASES)) as pool:
        told = [pool.submit(warm, talk, *case) for talk, case in zip(talks, CASES)]
        concurrent.futures.wait(told, seconds)
        for talk, one in zip(talks, told):
            if not one.done():
                talk.process.kill()
    for talk, case, one in zip(talks, CASES, told):
        print(f"FLA, {words(*case)}: {one.result()}")
        talk.process.kill()
        talk.process.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
