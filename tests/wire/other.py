"""The implementation in Rust, asked about single inputs.

Owns a process of `tests/fuzz/src/bin/wire.rs`, whose path the environment gives as `CUBED_WIRE`. What always holds: one answer for
each question, in order.
"""

from __future__ import annotations

import os
import subprocess
from typing import Iterable

PATH = os.environ.get("CUBED_WIRE", "")


def ask(word: str, questions: Iterable[bytes]) -> list[str]:
    """What it says to each of `questions`."""
    lines = "".join(f"{word} {question.hex()}\n" for question in questions)
    done = subprocess.run([PATH], input=lines, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"after {len(done.stdout.splitlines())} answers: {done.stderr}")
    answers = done.stdout.splitlines()
    if len(answers) != lines.count("\n"):
        raise AssertionError(f"{len(answers)} answers to {lines.count(chr(10))} questions")
    return answers


def accepted(questions: list[bytes]) -> list[dict[str, int]]:
    """Which of its decoders take a beginning of each, and how many bytes of it."""
    pairs = ([pair.split("=") for pair in line.split(",") if pair] for line in ask("decoders", questions))
    return [{name: int(taken) for name, taken in row} for row in pairs]


class Node:
    """A node that remembers what it was told, and its public key."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([PATH], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.key = b""
        self.tell(b"\0")

    def tell(self, datagram: bytes) -> list[bytes]:
        """What it answers."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"tell {datagram.hex()}\n")
        self._process.stdin.flush()
        key, *answers = map(bytes.fromhex, self._process.stdout.readline().strip().split(","))
        self.key = key
        return [answer for answer in answers if answer]

    def close(self) -> None:
        """Ends its process."""
        self._process.communicate()
