"""`python -m cnncodes`, for bare checkouts and for torchrun."""

from cnncodes.cli import run

if __name__ == "__main__":
    run()
