"""What a worker process of this machine does first, before it imports anything large.

The process that started it may be gone already, killed for instance; then nobody asks for results.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

__all__ = ["compute_named", "end_with_parent"]

INTERVAL = 0.5  # seconds between two looks at the parent


def compute_named(
    index: int, name: str, group: list[dict[str, Any]], root: str, threads: int
) -> tuple[int, str | None]:
    """Compute and store a group of runs, as long as the process lives that started this one.

    Parameters
    ----------
    index
        Number of the group, which is given back.
    name
        Of the module of the experiment; see `naming.dotted_name`.
    group, root, threads
        As for `tasks.compute_and_store`, whose result is given back.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller is told, and ends its workers
    from lipsplines.runner.naming import named_experiment
    from lipsplines.runner.tasks import compute_and_store

    return index, compute_and_store(named_experiment(name), group, root, threads)


def end_with_parent(parent: int) -> None:
    """End this worker process when the process that started it is gone, killed for instance.

    A worker does this before it waits for its first task, which may never come.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(INTERVAL)
        os._exit(1)

    if os.getppid() != parent:
        os._exit(1)
    threading.Thread(target=watch, daemon=True).start()
