"""Start-up: whole processes that import the library, print its help, or take a first step.

``python benchmarks/startup.py`` starts the processes in turn and stores the table in
``benchmarks/results/startup.json``. Each counts from its start to its end. What an import spends
in which package is read from ``python -X importtime``, as the smallest of several runs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from timing import machine, package_versions, times_in_turn

from lipsplines.splines.kernel.kept import VARIABLE

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results" / "startup.json"
STEP = "x = torch.randn(10, 10, requires_grad=True); module(x).sum().backward()"
ALL = "from lipsplines import *"

# Name -> arguments of Python.
PROCESSES: dict[str, Sequence[str]] = {
    "python": ("-c", "pass"),
    "import torch": ("-c", "import torch"),
    "import lipsplines": ("-c", "import lipsplines"),
    "all public names": ("-c", ALL),
    "help": ("-m", "lipsplines", "--help"),
    "first step, ReLU": ("-c", f"import torch; module = torch.nn.ReLU(); {STEP}"),
    "first step, spline": ("-c", f"import torch; {ALL}; module = LinearSpline(10); {STEP}"),
}
FRESH = "first step ever, spline"  # the same, with nothing compiled by an earlier process


def start(arguments: Sequence[str], compiled: Path | None = None) -> dict[str, float]:
    """Milliseconds of one process; ``compiled``: the folder of what an earlier one compiled."""
    environment = os.environ | ({VARIABLE: str(compiled)} if compiled else {})
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return {"process": 1e3 * (time.perf_counter() - begin)}


def start_afresh() -> dict[str, float]:
    """A first step in a process that finds nothing compiled."""
    with tempfile.TemporaryDirectory() as folder:
        times = start(PROCESSES["first step, spline"], Path(folder))
        if not any(Path(folder).rglob("*.nbc")):
            raise RuntimeError(
                "Nothing was compiled anew: the library keeps its kernels elsewhere."
            )
        return times


def import_times(text: str) -> dict[str, float]:
    """Milliseconds by package, of the report of ``-X importtime``; ``"other"``: all others."""
    found = {"torch": 0.0, "numpy": 0.0, "lipsplines": 0.0, "other": 0.0}
    for line in text.splitlines():
        if line.startswith("import time:") and "self [us]" not in line:
            own, _, name = line.removeprefix("import time:").split("|")
            package = name.strip().partition(".")[0]
            found[package if package in found else "other"] += float(own) / 1e3
    return found


def profile(code: str, repeats: int) -> dict[str, float]:
    """`import_times` of a line of code: of the run with the smallest total."""
    command = [sys.executable, "-X", "importtime", "-c", code]
    options: dict[str, Any] = {"cwd": ROOT, "capture_output": True, "text": True, "check": True}
    runs = [import_times(subprocess.run(command, **options).stderr) for _ in range(repeats)]
    return min(runs, key=lambda run: sum(run.values()))


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=12)
    options = parser.parse_args()
    runs = {name: lambda a=arguments: start(a) for name, arguments in PROCESSES.items()}
    rows = times_in_turn(runs | {FRESH: start_afresh}, options.repeats, 120.0, warm_up=1)
    result = {
        "repeats": options.repeats,
        **machine(),
        "versions": package_versions("lipsplines", "torch", "numpy", "numba"),
        "rows": rows,
        "imports": {code: profile(code, 3) for code in ("import torch", ALL)},
    }
    for name, row in rows.items():
        print(f"{name:26} {row['process_min_ms']:7.0f} ({row['process_median_ms']:7.0f}) ms")
    for code, found in result["imports"].items():
        print(code, {name: round(value) for name, value in found.items()})
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
