"""What a person sees: results on standard output, progress and notes on standard error. The door to rich."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from io import TextIOWrapper
from typing import IO, Any

from rich import progress
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cnncodes.cli import options
from cnncodes.core.words import one_line, printable, quoted

FIRST_UNREADABLE = 5  # listed on the screen; --json and files have all


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Newer versions of rich would end the program here; see :func:`_reader_may_leave`."""
        raise BrokenPipeError


# Names are shown as they are: no [markup], no :emoji:.
_stderr = _Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)
# Tables are never cut: a terminal wraps a line that is too long for it, a file keeps it.
_stdout = _Console(highlight=False, soft_wrap=True, width=400, markup=False, emoji=False)


def escape_unknown_letters() -> None:
    r"""Let standard output and error write ``\xfc`` for a letter that their encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class Reporter(options.Group):
    """Prints for one command, as `--json` and `--quiet` ask."""

    def __init__(self, json: options.Json = False, quiet: options.Quiet = False) -> None:
        self.as_json = json  # standard output will be one document, so nothing else is printed there
        self.quiet = quiet  # no notes, no progress, no next command

    def note(self, text: str) -> None:
        """A line for people, on standard error."""
        if not self.quiet:
            with _reader_may_leave(_stderr.file):
                _stderr.print(printable(text))

    def warn(self, text: str) -> None:
        """A line that is never suppressed, on standard error."""
        with _reader_may_leave(_stderr.file):
            _stderr.print(printable(text), style="yellow")

    def result(self, text: str = "") -> None:
        """A line of the result, on standard output."""
        if not self.as_json:
            with _reader_may_leave(_stdout.file):
                _stdout.print(printable(text))

    def unreadable(self, problems: Mapping[str, str], rest: str = "--json lists all") -> None:
        """Images that could not be read, with their reasons; the command then ends with exit code 3."""
        for name, problem in list(problems.items())[:FIRST_UNREADABLE]:
            self.warn(f"unreadable: {quoted(name)}: {problem}")
        if len(problems) > FIRST_UNREADABLE:
            self.warn(f"unreadable: {len(problems) - FIRST_UNREADABLE:,} more; {rest}")
        if problems:
            self.exit_code = 3

    def document(self, record: Any = None, /, **entries: Any) -> None:
        """The JSON document, if one is asked for: a record, entries, or both."""
        if self.as_json:
            value = plain(record) if not entries else plain(record or {}) | plain(entries)
            text = json.dumps(_finite(value), indent=2, default=str, allow_nan=False)
            with _reader_may_leave(_stdout.file):
                print(text, flush=True)

    @property
    def has_bars(self) -> bool:
        """Whether progress is shown as bars; a file or a pipe gets lines instead, where a command has some."""
        return not self.quiet and _stderr.is_terminal

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """A table on standard output; numbers align right, absent values show as a dash."""
        if self.as_json:
            return
        cells = [[_cell(value) for value in row] for row in rows]
        table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
        table.header_style = "bold"
        for place, column in enumerate(columns):
            numeric = all(_is_number(row[place]) for row in cells)
            table.add_column(column, justify="right" if numeric else "left", no_wrap=True)
        for row in cells:
            table.add_row(*row)
        with _stdout.capture() as lines:
            _stdout.print(table)
        with _reader_may_leave(_stdout.file):
            _stdout.file.write("".join(line.rstrip() + "\n" for line in lines.get().splitlines()))
            _stdout.file.flush()

    def next(self, command: str) -> None:
        """The next sensible command, on standard error."""
        self.note(f"next: {command}")

    @contextmanager
    def progress(self, what: str, total: int, unit: str = "") -> Iterator[Callable[[float, str], None]]:
        """A bar with rate and remaining time; gives ``update(done, extra text)``. No bar without a terminal.

        Without a unit there is nothing to count: the extra text says how far it is.
        """
        if not self.has_bars:
            yield lambda done, extra: None
            return
        text = progress.TextColumn
        columns = (
            text("{task.description}", markup=False),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            *((text("{task.completed:,.0f}/{task.total:,.0f}"), _Rate(unit)) if unit else ()),
            text("{task.fields[extra]}", markup=False),
            progress.TimeRemainingColumn(),
        )
        with progress.Progress(*columns, console=_stderr, transient=True) as bar:
            task = bar.add_task(printable(what), total=total, extra="")
            yield lambda done, extra: bar.update(task, completed=done, extra=extra)

    @contextmanager
    def steps(
        self, unit: str = "images", units: Mapping[str, str] | None = None
    ) -> Iterator[Callable[[str, float, int, str], None]]:
        """A bar for each step, one after the other; gives ``update(step, done, of how many, extra text)``.

        ``units`` names what some steps count in place of ``unit``.
        """
        with ExitStack() as stack:
            bars: dict[str, Callable[[float, str], None]] = {}

            def update(step: str, done: float, total: int, word: str) -> None:
                if step not in bars:
                    stack.close()
                    bars.clear()
                    counts = (units or {}).get(step, unit) if total else ""
                    bars[step] = stack.enter_context(self.progress(step, total, counts))
                bars[step](done, word)

            yield update


class _Rate(progress.ProgressColumn):
    """`86 images/s`, over the last seconds."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: progress.Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} {self.unit}/s")


def print_error(problem: str, remedy: str) -> None:
    """The two sentences of an error, on standard error."""
    with _reader_may_leave(_stderr.file):
        _stderr.print("error:", style="bold red", end=" ")
        _stderr.print(f"{printable(problem)}\n{printable(remedy)}")


@contextmanager
def _reader_may_leave(stream: IO[str]) -> Iterator[None]:
    """`cnncodes run photos | head -1`: when the reader is gone nothing more is said, but the work goes on to its end."""
    try:
        yield
    except BrokenPipeError:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), stream.fileno())


def plain(value: Any) -> Any:
    """What JSON can hold of records, lists and mappings of them."""
    if hasattr(value, "to_json"):
        text = value.to_json()
        return json.loads(text) if isinstance(text, str) else text
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def _finite(value: Any) -> Any:
    """The value with null for NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return one_line(str(value))


def _is_number(text: str) -> bool:
    return text == "-" or text.replace(",", "").replace(".", "").replace("-", "").rstrip(" %MBGk").isdigit()
