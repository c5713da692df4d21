"""The help fits a terminal of 80 columns: whole sentences, few options first, and no command or option twice."""

from __future__ import annotations

import re

import pytest

from cnncodes.cli.app import COMMANDS, GROUPS, HEADINGS

NAMES = [name for name, _ in COMMANDS] + [f"{group} {name}" for group, _, subs in GROUPS for name, _ in subs]
LISTS = ["", *(group for group, _, _ in GROUPS)]


@pytest.fixture
def sections(run, monkeypatch):
    """The parts of a command's help by their headings, as lines."""
    monkeypatch.setenv("COLUMNS", "80")

    def read(command: str) -> dict[str, list[str]]:
        parts = re.split(r"^(\S[^\n]*):\n", run(*command.split(), "--help").out, flags=re.MULTILINE)
        return {
            heading: [line for line in text.splitlines() if line]
            for heading, text in zip(parts[1::2], parts[2::2], strict=True)
        }

    return read


@pytest.mark.parametrize("command", LISTS)
def test_every_command_is_listed_with_a_whole_sentence(sections, command) -> None:
    shown = sections(command)
    headings = list(HEADINGS) if command == "" else ["Commands"]
    lines = [line for heading in headings for line in shown[heading]]
    listed = dict(line.split(maxsplit=1) for line in lines)
    expected = [name for name in LISTS[1:] + NAMES if name.startswith(command) and name != command]
    assert set(listed) == {
        name.removeprefix(command).strip() for name in expected if command or " " not in name
    }
    for name, summary in listed.items():
        assert re.fullmatch(r"[A-Z].*\.", summary) and "..." not in summary and len(summary) < 60, name


@pytest.mark.parametrize("command", NAMES)
def test_at_most_ten_options_stand_first(sections, command) -> None:
    shown = sections(command)
    assert set(shown) <= {"Arguments", "Options", "More options"}
    first = [line for line in shown["Options"] if line.startswith("  -") and "--help" not in line]
    assert len(first) <= 10
    assert max(len(line) for lines in shown.values() for line in lines) <= 80
