"""The command, standing still until a signal ends it: `python held.py BATCHES WORDS...`

It holds when so many batches of an extraction are written and called done, and says `held` on stderr, so that a test can
send its signal at a moment that it knows instead of after some seconds.
"""

from __future__ import annotations

import signal
import sys
import time
from typing import Any

from cnncodes.cli import main
from cnncodes.codes.rows import RowWriter

left, mark = int(sys.argv[1]), RowWriter.mark


def held(writer: RowWriter, *arguments: Any) -> None:
    global left
    if not left:
        writer.sync()
        print("held", file=sys.stderr, flush=True)  # noqa: T201
        while True:  # not one long sleep: a signal just before it would be noticed after it only
            time.sleep(0.1)
    left -= 1
    mark(writer, *arguments)


if __name__ == "__main__":  # not in the worker processes that the command starts
    # A suite that was started in the background ignores Ctrl-C, and its children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    RowWriter.mark = held  # type: ignore[method-assign]
    sys.exit(main(sys.argv[2:]))
