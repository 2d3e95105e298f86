"""Recompute the executed notebooks with nbval, reading nothing that an earlier run stored.

``python -m tools.recompute --profile smoke`` runs every cell again and compares the text outputs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from lipsplines.runner.base import LONG_PROFILES
from tools.notebooks import PROFILES, executed_path, notebook_names


def fresh_results(root: Path, folder: Path) -> None:
    """Copy the committed reference records into `folder`, and nothing else of ``results/``."""
    for profile in LONG_PROFILES:
        for reference in root.glob(f"results/*/{profile}"):
            shutil.copytree(reference, folder / reference.relative_to(root / "results"))


def recompute(root: Path, profile: str) -> int:
    """Return the exit status of pytest on the executed notebooks."""
    notebooks = [executed_path(root, profile, name) for name in notebook_names(root)]
    if not notebooks:  # pytest without a path would collect the unit tests
        return 0
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--nbval"]
    command += ["--nbval-current-env", "--nbval-sanitize-with", str(root / "tests/nbval.cfg")]
    # Two notebooks side by side, each whole: much of their time is start-up and waiting.
    command += ["--numprocesses", "auto", "--maxprocesses", "2", "--dist", "loadfile"]
    with tempfile.TemporaryDirectory(prefix="lipsplines-") as folder:
        fresh_results(root, Path(folder))
        threads = str(max(1, (os.cpu_count() or 1) // 2))
        environment = {"OMP_NUM_THREADS": threads, **os.environ, "LIPSPLINES_RESULTS": folder}
        return subprocess.run(
            [*command, *map(str, notebooks)], cwd=root, env=environment, check=False
        ).returncode


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.recompute", description=__doc__)
    parser.add_argument("--profile", choices=PROFILES, default="smoke")
    return recompute(Path.cwd(), parser.parse_args().profile)


if __name__ == "__main__":
    sys.exit(main())
