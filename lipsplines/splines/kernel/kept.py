"""Compiled kernels that later processes use again.

Numba keeps machine code with an index that is a pickle: whoever can write there has their code run
by whoever reads it, as with the ``.pyc`` files of Python. Kernels are therefore kept only in a
folder that no other user can write, nor replace by a folder of theirs; elsewhere every process
compiles its own. Numba looks at one source file at a time, so the name of the folder holds a digest
of all of them: a kernel is never used with the sources of another version.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

from lipsplines.files import cache_folder

__all__ = ["VARIABLE", "compiled", "is_private", "kernel_folder"]

VARIABLE = "LIPSPLINES_KERNELS"  # of the environment: another folder, or empty for none


def kernel_folder() -> Path | None:
    """Folder for the kernels of these sources, made if need be; nothing where there is none.

    ``kernels`` in ``lipsplines.files.cache_folder``, or where the variable ``LIPSPLINES_KERNELS``
    says; an empty one says that no kernel is kept.
    """
    named = os.environ.get(VARIABLE)
    if named == "" or not hasattr(os, "getuid"):  # no owners to compare, as on Windows
        return None
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    try:
        folder = Path(named) if named else cache_folder() / "kernels"
        folder = folder.resolve() / digest.hexdigest()[:16]
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder if is_private(folder) and os.access(folder, os.W_OK) else None
    except (OSError, RuntimeError):  # a disk that is full or read only; a user without a home
        return None


def is_private(folder: Path) -> bool:
    """Whether this user alone can write a folder, and no other can put theirs in its place.

    Parameters
    ----------
    folder
        Absolute, without symbolic links. It must be of this user and writable by no other one.
        Each folder above must be of this user or of root and writable by no other one, unless its
        sticky bit lets owners alone rename what is theirs, as in ``/tmp``.
    """
    state = folder.lstat()
    if state.st_uid != os.getuid() or state.st_mode & 0o022 or not stat.S_ISDIR(state.st_mode):
        return False
    for parent in folder.parents:
        state = parent.lstat()
        if state.st_uid not in (0, os.getuid()):
            return False
        if state.st_mode & 0o022 and not state.st_mode & stat.S_ISVTX:
            return False
    return True


def compiled(function: Callable) -> Any:
    """Let Numba compile a function at its first call, and keep it where that is safe."""
    kernel = numba.njit(nogil=True, error_model="numpy")(function)
    if _FOLDER is not None:
        usual = numba.config.CACHE_DIR
        try:
            numba.config.CACHE_DIR = str(_FOLDER)  # of these functions, not of those of others
            kernel.enable_caching()
        finally:
            numba.config.CACHE_DIR = usual
    return kernel


_FOLDER = kernel_folder()
