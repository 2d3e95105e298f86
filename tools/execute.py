"""Execute the notebooks of the table of contents with papermill, each only when it is out of date.

``python -m tools.execute --profile quick [--force]`` writes ``_executed/quick/notebooks/*.ipynb``.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import logging
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.alone import FolderError, alone, told
from tools.notebooks import (
    PROFILES,
    damaged_records,
    executed_path,
    fingerprint,
    is_notebook,
    notebook_names,
    provenance,
    seal,
)
from tools.progress import Progress


class NotebookError(Exception):
    """A notebook that could not be executed; the message says all that a reader needs."""


def _git(root: Path, *arguments: str) -> str:
    try:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def describe_run(root: Path, profile: str, name: str) -> dict[str, Any]:
    """Return the provenance of a run that starts now."""
    versions = {"python": platform.python_version()}
    for package in ("lipsplines", "torch", "numpy"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    has_affinity = hasattr(os, "sched_getaffinity")  # Linux: what this process may use
    return {
        "fingerprint": fingerprint(root, profile, name),
        "profile": profile,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions,
        "processors": len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "commit": _git(root, "rev-parse", "--short=10", "HEAD"),
        "modified": bool(_git(root, "status", "--porcelain", "--untracked-files=no")),
    }


def _is_parameters(cell: dict[str, Any]) -> bool:
    return "parameters" in cell.get("metadata", {}).get("tags", [])


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotebookError(f"{path.name} is in _toc.yml but not in {path.parent.name}/") from None
    except (OSError, ValueError, RecursionError) as error:
        raise NotebookError(f"{path.name} is not a notebook: {error}") from None
    if not is_notebook(content):
        raise NotebookError(f"{path.name} is not a notebook: it has no cells with their sources")
    return content


def execute(root: Path, profile: str, name: str) -> None:
    """Execute one notebook and put the result in place, whole or not at all.

    Raises
    ------
    NotebookError
        If a cell raised, the kernel died, or there is no such notebook. What was executed until
        then lies in ``_executed/<profile>/failed/``; an earlier good result stays where it is.
    """
    source = root / "notebooks" / f"{name}.ipynb"
    cells = [cell for cell in _read(source)["cells"] if cell["cell_type"] == "code"]
    takes_profile = any(_is_parameters(cell) for cell in cells)
    progress = Progress(name, len(cells))

    import nbformat  # slow to import, and not needed when all notebooks are current
    import papermill
    from papermill.engines import NBClientEngine, papermill_engines
    from papermill.exceptions import PapermillExecutionError

    class ReportingEngine(NBClientEngine):
        """Papermill's own engine, which also says where it is."""

        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> Any:
            start = nb_man.cell_start

            def reporting_start(cell: Any, *arguments: Any, **keywords: Any) -> Any:
                injected = "injected-parameters" in cell.metadata.get("tags", [])
                if cell.cell_type == "code" and not injected:
                    progress.advance(cell.source)
                return start(cell, *arguments, **keywords)

            nb_man.cell_start = reporting_start
            return super().execute_managed_notebook(nb_man, kernel_name, **options)

    papermill_engines.register("reporting", ReportingEngine)
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # failures are reported below
    final = executed_path(root, profile, name)
    partial = root / "_executed" / profile / "failed" / f"{name}.ipynb"
    for folder in (final.parent, partial.parent):
        folder.mkdir(parents=True, exist_ok=True)
    run = describe_run(root, profile, name)
    try:
        notebook = papermill.execute_notebook(
            source,
            partial,
            parameters={"profile": profile} if takes_profile else {},
            engine_name="reporting",
            kernel_name="python3",  # this environment's, whatever name the author's had
            language="python",
            progress_bar=False,
            cwd=source.parent,
            extra_arguments=["--IPKernelApp.log_level=CRITICAL"],  # cells report errors
        )
    except Exception as error:
        place = f"in code cell {progress.cell} of {len(cells)}: {progress.first_line}"
        if progress.cell == 0:
            place = "before its first cell"
        if isinstance(error, PapermillExecutionError):
            reason = f"{error.ename}: {error.evalue}"
        else:
            reason = f"{type(error).__name__}: {error}"
        progress.close(f"failed after {progress.seconds:.1f} s")
        text = f"{name} failed {place}\n    {reason}"
        if partial.exists():
            text += f"\n    executed until there: {partial.relative_to(root)}"
        raise NotebookError(text) from error
    run["seconds"] = round(progress.seconds, 1)
    notebook.metadata.papermill.update(  # paths of this machine are of no use to a reader
        input_path=f"notebooks/{name}.ipynb", output_path=str(final.relative_to(root))
    )
    nbformat.write(notebook, partial)
    seal(partial, run)
    partial.replace(final)
    progress.close(f"done in {run['seconds']} s")


def execute_all(root: Path, profile: str, force: bool = False, jobs: int = 1) -> list[str]:
    """Execute what is out of date; return one message for each notebook that failed.

    If a reference record is damaged nothing is executed, and the messages name the records. With
    more than one job, so many notebooks are executed side by side, each by a process of its own.
    """
    failures, outdated = [], []
    for name in notebook_names(root):
        known = provenance(executed_path(root, profile, name)).get("fingerprint")
        source = root / "notebooks" / f"{name}.ipynb"
        if not force and source.is_file() and known == fingerprint(root, profile, name):
            print(f"{name}: unchanged, not executed again ({profile})", flush=True)
        else:
            outdated.append(name)
    if outdated and (damaged := damaged_records(root)):
        advice = "restore it (git checkout, if it was committed) or delete it"
        return [f"damaged record {text}\n    {advice}" for text in damaged]
    if jobs > 1 and len(outdated) > 1:
        cores = max(1, (os.cpu_count() or 1) // jobs)
        with ThreadPoolExecutor(jobs) as pool:
            found = pool.map(lambda name: _apart(root, profile, name, cores), outdated)
            return list(filter(None, found))
    for name in outdated:
        try:
            execute(root, profile, name)
        except NotebookError as error:
            failures.append(str(error))
    return failures


def _apart(root: Path, profile: str, name: str, cores: int) -> str:
    """Execute a notebook in a process of its own; return the message of its failure, or nothing.

    It uses so many cores, as processes of experiments or as threads of PyTorch, unless the
    environment says otherwise: those of several notebooks would wait for each other.
    """
    command = [sys.executable, "-m", "tools.execute", "--profile", profile, "--only", name]
    here = str(Path(__file__).parents[1])
    paths = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    limits = dict.fromkeys(("LOKY_MAX_CPU_COUNT", "OMP_NUM_THREADS"), str(cores))
    environment = {**limits, **os.environ, "PYTHONPATH": paths}
    message: list[str] = []
    with subprocess.Popen(
        command,
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout:
            if message or line.startswith("error: "):
                message.append(line)
            else:
                print(line, end="", flush=True)
    if process.returncode == 0:
        return ""
    text = "".join(message).strip().removeprefix("error: ")
    return text or f"{name} ended with status {process.returncode}"


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.execute", description=__doc__)
    parser.add_argument("--profile", choices=PROFILES, default="quick")
    parser.add_argument("--force", action="store_true", help="execute unchanged notebooks too")
    parser.add_argument("--jobs", type=int, default=1, help="notebooks side by side (default 1)")
    parser.add_argument("--only", metavar="NAME", help="execute this notebook, whatever its state")
    options = parser.parse_args()
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # a debugger's warning, not ours
    for variable in ("LIPSPLINES_RESULTS", "LIPSPLINES_DATA"):  # kernels run in notebooks/
        if os.environ.get(variable):
            os.environ[variable] = str(Path(os.environ[variable]).resolve())
    try:
        if options.only:
            execute(Path.cwd(), options.profile, options.only)
            return 0
        with alone(Path.cwd() / "_executed"):
            failures = execute_all(Path.cwd(), options.profile, options.force, options.jobs)
    except (NotebookError, FolderError) as error:
        failures = [str(error)]
    except OSError as error:
        failures = [told(error)]
    except ModuleNotFoundError as error:
        print(
            f"error: the environment lacks {error.name}; make it anew: make clean && make book",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        if not options.only:
            print("\ninterrupted; finished notebooks are kept", file=sys.stderr)
        return 130
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
