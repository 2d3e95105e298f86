"""Pack the built book into one file for reading without a network.

``python -m tools.archive`` writes ``dist/lipsplines-book-<version>.zip`` from ``_build/html``.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

from lipsplines import __version__
from tools.alone import FolderError, alone

EARLIEST = (1980, 1, 1, 0, 0, 0)  # that a zip file can name: equal books give equal files


class MissingBook(Exception):
    """There is no built book."""


def pack(html: Path, target: Path) -> Path:
    """Write the folder of a built book into a zip file, under one folder, and return its path.

    Raises
    ------
    MissingBook
        If there is no built book.
    """
    if not (html / "index.html").is_file():
        raise MissingBook(f"There is no built book in {html}; run make book first.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(path for path in html.rglob("*") if path.is_file()):
            name = f"{target.stem}/{path.relative_to(html).as_posix()}"
            archive.writestr(
                zipfile.ZipInfo(name, EARLIEST), path.read_bytes(), zipfile.ZIP_DEFLATED
            )
    return target


def main() -> int:
    """Run the command line; return the exit status."""
    try:
        with alone(Path("_build")):
            done = pack(Path("_build/html"), Path(f"dist/lipsplines-book-{__version__}.zip"))
    except (MissingBook, FolderError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{done}: {done.stat().st_size / 1e6:.1f} MB; unpack it and open index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
