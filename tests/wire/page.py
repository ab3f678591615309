"""The page under test: `docs/PROTOCOL.md`, its sections, sentences and vectors.

Owns nothing but the text. What always holds: a vector is what the page says now, and a sentence that a test quotes stands there word
for word, under the section that the test names.
"""

from __future__ import annotations

import re
from pathlib import Path

PATH = Path(__file__).resolve().parents[2] / "docs" / "PROTOCOL.md"
TEXT = PATH.read_text(encoding="utf-8")


def _plain(text: str) -> str:
    return " ".join(text.split())


def section(title: str) -> str:
    """What stands under the heading `title`, in one line, sections below it included."""
    found = re.search(rf"^(#+) {re.escape(title)}$", TEXT, re.MULTILINE)
    if found is None:
        raise KeyError(f"docs/PROTOCOL.md has no section {title!r}")
    rest = TEXT[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return _plain(rest[: end.start()] if end else rest)


def says(title: str, sentence: str) -> bool:
    """Whether the section has this sentence, whatever its line breaks."""
    return _plain(sentence) in section(title)


def _blocks() -> list[str]:
    return re.findall(r"^```text\n(.*?)^```", TEXT[TEXT.index("\n## Vectors\n") :], re.MULTILINE | re.DOTALL)


def rows() -> dict[str, str]:
    """The table at the beginning of the vectors: what it is of, and its value."""
    vectors = TEXT[TEXT.index("\n## Vectors\n") :]
    return {of: value for of, value in re.findall(r"^\| (.+) \| `(.+)` \|$", vectors, re.MULTILINE)}


def bare() -> list[bytes]:
    """Vectors without a label, in their order."""
    return [bytes.fromhex(block) for block in _blocks() if re.fullmatch(r"[0-9a-f]+\n", block)]


def labelled() -> dict[str, list[bytes]]:
    """Vectors with a label: its row's columns."""
    found: dict[str, list[bytes]] = {}
    for line in (line for block in _blocks() for line in block.splitlines()):
        words = re.fullmatch(r"(\S.*?)((?: +[0-9a-f]{2,})+)", line)
        if words and not re.fullmatch("[0-9a-f]+", line):
            if words[1] in found:
                raise ValueError(f"two vectors of {words[1]}")
            found[words[1]] = [bytes.fromhex(word) for word in words[2].split()]
    return found


def lines() -> int:
    """Lines of vectors in fenced blocks: each is to be tested."""
    return sum(len(block.splitlines()) for block in _blocks())
