"""Build the book as one PDF with XeTeX.

``python -m tools.pdf --profile quick`` expects the notebooks in ``_executed/quick/notebooks`` and
writes ``dist/lipsplines-book-<version>.pdf``.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from pathlib import Path

from lipsplines import __version__
from tools.alone import FolderError, alone
from tools.notebooks import PROFILES
from tools.stage import BuildError, build, stage

NAME = "lipsplines-book"  # of the document, as `_config.yml` has it
PROGRAMS = ("latexmk", "xelatex", "xindy")
PACKAGES = (
    "latexmk xindy tex-gyre fonts-freefont-otf texlive-xetex texlive-latex-recommended "
    "texlive-latex-extra texlive-fonts-recommended"
)


def missing_letters(log: str) -> list[str]:
    """What the log of TeX says about letters that no font has, one line for each."""
    return sorted(set(re.findall(r"^Missing character: (.+)$", log, re.MULTILINE)))


def make_pdf(root: Path, profile: str) -> Path:
    """Build the PDF from the executed notebooks and return its path.

    Raises
    ------
    BuildError
        If TeX is not installed, there is a warning or an error, or a letter is missing.
    """
    lacking = [program for program in PROGRAMS if shutil.which(program) is None]
    if lacking:
        raise BuildError(
            f"The PDF needs {', '.join(lacking)}. On Debian and Ubuntu, install the packages "
            f"{PACKAGES}."
        )
    folder = build(root, stage(root, profile, os.environ.get("GITHUB_REPOSITORY")), "pdflatex")
    log = (folder / f"{NAME}.log").read_text(encoding="utf-8", errors="replace")
    letters = missing_letters(log)
    if letters:
        raise BuildError("\n    ".join(["letters are missing in the PDF:", *letters]))
    target = root / "dist" / f"{NAME}-{__version__}.pdf"
    target.parent.mkdir(exist_ok=True)
    shutil.copy(folder / f"{NAME}.pdf", target)
    return target


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.pdf", description=__doc__)
    parser.add_argument("--profile", choices=PROFILES, default="quick")
    profile = parser.parse_args().profile
    try:
        with alone(Path.cwd() / "_build"):
            done = make_pdf(Path.cwd(), profile)
    except (BuildError, FolderError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{done.relative_to(Path.cwd())}: {done.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
