"""Several tasks at a time in threads, each with one thread of linear algebra."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def run_in_threads(tasks: Iterable[Callable[[], None]], jobs: int) -> None:
    """Call every task, ``jobs`` at a time (-1: all cores); the first error is raised.

    Each task has one thread of linear algebra, also with one job: the matrices are small, and the threads
    of numpy's and scipy's own libraries wait for each other (factorising 700 x 700 took 29 ms with two, 3 ms
    with one). So the cores are shared out by task, and the result does not depend on ``jobs``.
    """
    from joblib import Parallel, delayed
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(limits=1, user_api="blas"):
        Parallel(n_jobs=jobs, require="sharedmem")(delayed(task)() for task in tasks)
