"""Say which cell of a notebook is running, and since when."""

from __future__ import annotations

import sys
import threading
import time


class Progress:
    """The progress of one notebook, as one line on a terminal, else as a line now and then.

    Parameters
    ----------
    name
        Name of the notebook.
    cells
        Number of its code cells.
    interval
        Seconds between two lines; by default 1 on a terminal, where the line is rewritten, else 30.
    """

    def __init__(self, name: str, cells: int, interval: float | None = None) -> None:
        self.name, self.cells, self.cell, self.first_line = name, cells, 0, ""
        self.start = time.monotonic()
        self._terminal = sys.stdout.isatty()
        self._interval = interval or (1.0 if self._terminal else 30.0)
        self._ended = threading.Event()
        self._print(f"{cells} cells")
        self._ticker = threading.Thread(target=self._tick, daemon=True)
        self._ticker.start()

    @property
    def seconds(self) -> float:
        """Seconds since the notebook was begun."""
        return time.monotonic() - self.start

    def _print(self, text: str, end: str = "") -> None:
        if self._terminal:
            print(f"\r\033[K{self.name}: {text}", end=end, flush=True)
        else:
            print(f"{self.name}: {text}", flush=True)

    def _tick(self) -> None:
        while not self._ended.wait(self._interval):
            self._print(f"cell {self.cell}/{self.cells}, {self.seconds:.0f} s")

    def advance(self, source: str) -> None:
        """Note that the code cell `source` begins."""
        self.cell += 1
        self.first_line = next((line.strip() for line in source.splitlines() if line.strip()), "")
        if self._terminal:
            self._print(f"cell {self.cell}/{self.cells}, {self.seconds:.0f} s")

    def close(self, text: str) -> None:
        """Say how the notebook ended."""
        self._ended.set()
        self._ticker.join()  # its line must not follow the last one
        self._print(text, end="\n")
