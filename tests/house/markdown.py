"""Reads the project's Markdown: fenced blocks, inline commands, headings and links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
NOT_RUN = re.compile(r"<!--\s*not run:(.*?)-->\s*$", re.DOTALL)
FENCE = re.compile(
    r"^(?P<fence>```+|~~~+)(?P<language>[^\n]*)\n(?P<text>.*?)^(?P=fence)[ \t]*$", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    """One fenced block: language, text, the line it begins on, and why it is not run (None: it is)."""

    language: str
    text: str
    line: int
    not_run: str | None


def pages() -> list[Path]:
    """Every Markdown file of the repository, README first."""
    found = [
        *REPOSITORY.glob("*.md"),
        *(p for part in ("docs", "benchmarks", "examples") for p in (REPOSITORY / part).rglob("*.md")),
    ]
    return sorted(found, key=lambda path: (path.name != "README.md" or path.parent != REPOSITORY, path))


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, in order.

    A block right after the comment ``<!-- not run: reason -->`` is left alone; without a reason it is an error.
    """
    found = []
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        comment = NOT_RUN.search(text[: match.start()].rstrip())
        reason = comment[1].strip() if comment else None
        if reason == "":
            raise ValueError(f"line {line}: <!-- not run: --> needs a reason")
        found.append(Block(match["language"].strip(), match["text"], line, reason))
    return found


def commands(console: str) -> list[str]:
    """What a person types in a ``console`` block: lines after ``$ ``, with their continuations."""
    joined = re.sub(r"\\\n[> ]*", " ", console)
    return [line[2:].strip() for line in joined.splitlines() if line.startswith("$ ")]


def inline_commands(text: str) -> list[str]:
    """Commands in the running text and in tables: `cnncodes info codes.h5`."""
    return re.findall(r"`(cnncodes [^`]+)`", FENCE.sub("", text))


def anchors(text: str) -> set[str]:
    """Anchors that GitHub gives to the headings of a page."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6}[ \t]+(.+?)[ \t]*#*$", FENCE.sub("", text), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        base = re.sub(r"[^\w\- ]", "", words).strip().replace(" ", "-")
        name, number = base, 0
        while name in found:
            number += 1
            name = f"{base}-{number}"
        found.add(name)
    return found | set(re.findall(r"<a (?:name|id)=\"([^\"]+)\"", text))


def links(text: str) -> list[str]:
    """Targets of all links and pictures of a page, reference links too."""
    prose = re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))
    inline = re.findall(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)", prose)
    return inline + re.findall(r"^\[[^\]]+\]:\s*(\S+)", prose, re.MULTILINE)


def link_problem(page: Path, target: str) -> str | None:
    """Why a link leads nowhere; None if it is good. Nothing outside the repository is asked for."""
    if re.match(r"[a-z][a-z0-9+.-]*:", target):
        if re.fullmatch(r"https?://[\w.-]+\.[a-z]{2,}(:\d+)?(/[^\s<>\"]*)?|mailto:\S+@\S+", target):
            return None
        return "not an address"
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    if not file.is_relative_to(REPOSITORY) and page.is_relative_to(REPOSITORY):
        return "outside the repository"
    if not file.exists():
        return "no such file"
    if anchor and file.suffix == ".md" and anchor not in anchors(file.read_text(encoding="utf-8")):
        return f"no heading #{anchor}"
    return None
