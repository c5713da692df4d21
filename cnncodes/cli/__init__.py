"""The command line: one small file per command; parsing, progress and printing only."""

from __future__ import annotations

import sys


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code: 0 good, 1 a clear error, 2 wrong usage, 3 some images could not be read."""
    from cnncodes.cli.app import build_app
    from cnncodes.cli.console import escape_unknown_letters, print_error
    from cnncodes.core.errors import CnnCodesError

    escape_unknown_letters()
    try:
        build_app()(args=arguments, prog_name="cnncodes", standalone_mode=True)
    except CnnCodesError as error:
        print_error(error.problem, error.remedy)
        return error.exit_code
    except BrokenPipeError:  # `cnncodes ... | head`
        sys.stderr.close()
        return 0
    except OSError as error:  # a place that cannot be written, a disk that fills up meanwhile
        place = f"'{error.filename}': " if error.filename else ""
        print_error(
            f"{place}{error.strerror or error}.",
            "Look whether the place is there, may be written by you, and has room.",
        )
        return 1
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0
    return 0


def run() -> None:
    """Entry point of the `cnncodes` script."""
    sys.exit(main())
