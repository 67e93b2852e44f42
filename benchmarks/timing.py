"""Interleaved timing of alternatives inside one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def medians(jobs: dict[str, Callable[[], object]], repeats: int = 7) -> dict[str, float]:
    """Return the median seconds of each job; the jobs take turns, so that drift of the machine hits all alike."""
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    for job in jobs.values():
        job()
    for _ in range(repeats):
        for name, job in jobs.items():
            started = time.perf_counter()
            job()
            taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in taken.items()}
