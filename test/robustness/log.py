"""The log of what clients and faults did, as JSON lines on one clock.

A line is written when something starts and another when it has ended, so that
what a killed process was doing can be seen.
"""

import json
import os
import time
from pathlib import Path
from typing import Any, Iterator


def now() -> float:
    """Returns the seconds of a clock that all processes of the machine share."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


class Log:
    """A file to which one process appends, a line at a time and unbuffered."""

    def __init__(self, path: Path):
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, **facts: Any) -> float:
        """Writes a line, and returns its time."""
        moment = now()
        os.write(self.file, json.dumps({"t": moment, **facts}, default=str).encode() + b"\n")
        return moment


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """Reads the lines of a file.  A process can be killed while it writes the last one."""
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            return
