"""Stop a process for a while, as a debugger does."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

__all__ = ["stop_process"]


def stop_process(pid: int) -> None:
    """Stop a process, and return when it has stopped: a thread of a busy one can answer once more before."""
    os.kill(pid, signal.SIGSTOP)
    status = Path(f"/proc/{pid}/stat")
    if not status.exists():  # another system than Linux
        time.sleep(0.5)
        return
    while status.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "T":
        time.sleep(0.001)
