"""Check a built book: pages are there, load nothing from elsewhere, no cell failed or stays raw."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tools.notebooks import notebook_names, toc_files
from tools.plain import left_raw

LOADING = {
    "audio": ("src",),
    "embed": ("src",),
    "iframe": ("src",),
    "img": ("src", "srcset"),
    "image": ("href", "xlink:href"),
    "input": ("src",),
    "object": ("data",),
    "script": ("src",),
    "source": ("src", "srcset"),
    "track": ("src",),
    "video": ("src", "poster"),
}
LOADING_LINKS = {"stylesheet", "icon", "preload", "prefetch", "modulepreload", "preconnect"}
RAW_OBJECT = re.compile(r"<[A-Za-z_][\w.]*\.\w+ object(?: at 0x[0-9a-f]+)?>")
CSS_URL = re.compile(r"""(?:url\(\s*["']?|@import\s+["'])([^"')\s;]+)""")
EXTERNAL = re.compile(r"^(?:[a-z]+:)?//", re.IGNORECASE)


class Page(HTMLParser):
    """Collects what a browser loads when it opens a page, and failed outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.traceback = False
        self.objects: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the addresses that this element makes a browser load."""
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if values.get(name)}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        for name in LOADING.get(tag, ()):
            if name in values:
                parts = values[name].split(",") if name == "srcset" else [values[name]]
                self.loaded += [part.split()[0] for part in parts if part.strip()]
        if tag == "link" and LOADING_LINKS & set(values.get("rel", "").lower().split()):
            self.loaded.append(values.get("href", ""))
        self.loaded += CSS_URL.findall(values.get("style", ""))
        self.traceback |= "traceback" in values.get("class", "").split()
        self._in_style = tag == "style"

    def handle_data(self, data: str) -> None:
        """Look into style sheets that stand in the page, and for objects shown as they are."""
        if self._in_style:
            self.loaded += CSS_URL.findall(data)
        else:
            self.objects += RAW_OBJECT.findall(data)

    def handle_endtag(self, tag: str) -> None:
        """Leave a style sheet."""
        self._in_style = False


def _check_loaded(html: Path, file: Path, loaded: list[str]) -> list[str]:
    problems = []
    for address in dict.fromkeys(loaded):
        if EXTERNAL.match(address):
            problems.append(f"{file.relative_to(html)} loads {address} from elsewhere")
            continue
        parts = urlsplit(address)
        if parts.scheme or not parts.path:
            continue  # data: and the like
        base = html if parts.path.startswith("/") else file.parent
        if not (base / unquote(parts.path).lstrip("/")).exists():
            problems.append(f"{file.relative_to(html)} loads {address}, which is missing")
    return problems


def _check_links(html: Path, pages: dict[Path, Page]) -> list[str]:
    """Links inside the book that lead to no file, or to no place on a page."""
    problems = []
    for file, page in pages.items():
        for address in dict.fromkeys(page.links):
            parts = urlsplit(address)
            if parts.scheme or EXTERNAL.match(address):
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            place = unquote(parts.fragment)
            if not target.exists():
                problems.append(f"{file.relative_to(html)} links to {address}, which is missing")
            elif place and target in pages and place not in pages[target].anchors:
                problems.append(f"{file.relative_to(html)} links to {address}, no such place there")
    return problems


def check(root: Path, html: Path) -> list[str]:
    """Return what is wrong with the book in the folder `html`, one sentence each."""
    problems = [
        f"the page {page} of _toc.yml was not built"
        for page in toc_files(root)
        if not (html / f"{page}.html").exists()
    ]
    html = html.resolve()
    files = [file for file in html.rglob("*.html") if file.relative_to(html).parts[0] != "_static"]
    pages = {}
    for file in sorted(files):  # the theme leaves templates in _static
        text = file.read_text(encoding="utf-8")
        page = pages[file] = Page()
        page.feed(text)
        problems += _check_loaded(html, file, page.loaded)
        if page.traceback:
            problems.append(f"{file.relative_to(html)} shows a traceback")
        problems += [f"{file.relative_to(html)} shows {raw}" for raw in page.objects]
        if str(root.resolve()) in text:
            problems.append(f"{file.relative_to(html)} names a folder of this machine, {root}")
    problems += _check_links(html, pages)
    for file in sorted(html.rglob("*.css")):
        styles = re.sub(r"/\*.*?\*/", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
        problems += _check_loaded(html, file, CSS_URL.findall(styles))
    for name in notebook_names(root):
        download = html / "_sources" / "notebooks" / f"{name}.ipynb"
        if not download.exists():
            problems.append(f"{name} cannot be downloaded as a notebook")
            continue
        notebook = json.loads(download.read_text(encoding="utf-8"))
        if not any(cell.get("outputs") for cell in notebook["cells"]):
            problems.append(f"the notebook {name} to download holds no outputs")
        problems += [f"the notebook {name} to download shows {raw}" for raw in left_raw(notebook)]
    return problems
