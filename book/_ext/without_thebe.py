"""Leave sphinx-thebe out of the pages.

Jupyter Book loads it always. This book does not use it, and its script is written twice into every
page, which a browser reports as an error.
"""

from typing import Any

from sphinx.application import Sphinx


def _drop_thebe(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    for kind in ("script_files", "css_files"):
        context[kind] = [
            file
            for file in context[kind]
            if "thebe" not in f"{file.filename} {file.attributes.get('body', '')}".lower()
        ]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect("html-page-context", _drop_thebe, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
