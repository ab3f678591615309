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
