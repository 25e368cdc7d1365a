"""The end of a job's time, which is better met between two units of work than within one."""

import contextlib
import logging
import math
import os
import time
from collections.abc import Iterator

log = logging.getLogger("equiscope.boundaries")

END = "EQUISCOPE_JOB_END"
"""Variable with the time, in seconds since 1970, at which this job is ended; absent: never."""
SLACK = 1.5
"""Times the longest unit so far: what the next may take."""
MARGIN_S = 5.0
"""For Python to end in."""


class EndError(Exception):
    """The next unit would not be whole before the job's time is up."""


class Boundary:
    """Crossed between units; measures how long they take."""

    def __init__(self) -> None:
        self.end = float(os.environ.get(END, math.inf))
        self.last, self.longest_s = time.time(), 0.0

    def cross(self) -> None:
        """Go on to the next unit. Raises `EndError` where the time left may not suffice."""
        now = time.time()
        self.longest_s, self.last = max(self.longest_s, now - self.last), now
        if now + SLACK * self.longest_s + MARGIN_S > self.end:
            raise EndError


@contextlib.contextmanager
def respected() -> Iterator[None]:
    """Within it, work ends quietly at the last boundary: what is on disk counts."""
    try:
        yield
    except EndError:
        log.info("this job's time is nearly up: what is left is left to the next")
