"""The Python examples of a page as one program: ``python -m tools.snippets README.md``."""

from __future__ import annotations

import re
import sys
from pathlib import Path


def snippets(text: str) -> list[str]:
    """The blocks of Python, in order."""
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


if __name__ == "__main__":
    print("\n".join(snippets(Path(sys.argv[1]).read_text(encoding="utf-8"))), end="")
