"""Several tasks at a time in threads, each with one thread of linear algebra."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def run_in_threads(tasks: Iterable[Callable[[], None]], jobs: int) -> None:
    """Call every task, ``jobs`` at a time (-1: all cores); the first error is raised.

    The tasks' elementwise work runs on one core each, which the threads of a matrix library cannot help; so
    with more than one job these are limited to one thread, and the cores are shared out by task.
    """
    from joblib import Parallel, delayed, effective_n_jobs
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    tasks = list(tasks)
    jobs = min(effective_n_jobs(jobs), len(tasks))
    if jobs <= 1:
        for task in tasks:
            task()
        return
    with threadpool_limits(limits=1, user_api="blas"):
        Parallel(n_jobs=jobs, prefer="threads")(delayed(task)() for task in tasks)
