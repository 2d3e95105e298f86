"""Write the notebooks that a built book hands out in plain Markdown.

Chapters are written in MyST, whose roles and directives only Sphinx understands: JupyterLab, VS
Code and Colab show them raw. The pages are built from them as they are; afterwards the downloads
alone get the numbers and names that the pages show, quotations, and lines that open.
"""

from __future__ import annotations

import ast
import html as markup
import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pybtex.database import parse_file

TOKEN = re.compile(
    r"""
    ^(?P<indent>[ ]*)(?P<fence>(?P<mark>[:`~])(?P=mark){2,})(?!(?P=mark))(?P<info>[^\n]*)
        \n(?P<body>.*?)(?:^[ ]*(?P=fence)(?P=mark)*[ ]*$|\Z)
    | (?P<code>\\.|(?P<ticks>`+)(?!`)(?:(?!\n[ ]*\n).)+?(?<!`)(?P=ticks)(?!`))
    | \{(?P<role>[a-z][\w:-]*)\}`(?P<content>[^`]*)`
    | \$\$(?P<display>.+?)\$\$(?:[ ]*\((?P<label>[\w-]+)\))?
    | (?P<inline>\$(?:[^$\n]|\n(?![ ]*\n))+\$)
    | (?<!!)\[(?P<text>[^\[\]]*)\]\((?P<target>[^()\s]*)\)
    | ^\((?P<place>[\w-]+)\)=[ ]*\n*
    """,
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)
RAW = re.compile(  # what a front end shows raw, but for the groups, which it shows as code
    r"""
    (?P<code>^[> ]*(?P<fence>`{3,}|~{3,})(?![`~]|[ ]*\{).*?^[> ]*(?P=fence)[`~]*[ ]*$)
    | ^[> ]*(?::{3,}|`{3,}|~{3,})[^\n]*
    | (?P<ticks>`+)(?!`)(?:(?!\n[ ]*\n).)+?(?<!`)(?P=ticks)(?!`)
    | \{[a-z][\w:-]*\}`[^`]*`
    | ^[> ]*\([\w-]+\)=[ ]*$
    | \$\$[ ]*\([\w-]+\)[ ]*$
    """,
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)
OPTIONS = re.compile(r"\s*((?::[\w-]+:.*(?:\n|\Z))*)")
LIVE = "*The web page of this chapter has an interactive figure here.*"


@dataclass(frozen=True)
class Shown:
    """What the pages show in place of labels and keys.

    Attributes
    ----------
    numbers
        For each label of a theorem, an equation or a figure, such as ``Theorem 3`` or ``(4)``.
    citations
        For each key of the references its authors and its year.
    folder
        Folder of the notebooks, from which they name other files.
    """

    numbers: dict[str, str]
    citations: dict[str, tuple[str, str]]
    folder: Path


def shown(root: Path, html: Path) -> Shown:
    """Collect the numbers from the pages in `html`, the authors from the references in `root`."""
    numbers = {}
    for page in sorted((html / "notebooks").glob("*.html")):
        text = page.read_text(encoding="utf-8")
        for number in re.finditer(r'class="(?:caption-number|eqno)">([^<]+)', text):
            label = text[: number.start()].rpartition(' id="')[2].partition('"')[0]
            numbers[label.removeprefix("equation-")] = number[1].strip()
    references = root / "book" / "references.bib"
    entries = parse_file(str(references)).entries if references.exists() else {}
    citations = {}
    for key, entry in entries.items():
        names = [
            " ".join(map(str, person.rich_prelast_names + person.rich_last_names))
            for person in entry.persons.get("author") or entry.persons.get("editor", [])
        ]
        authors = " and ".join(names) if len(names) < 3 else f"{names[0]} et al."
        citations[key] = (authors, entry.fields.get("year", ""))
    return Shown(numbers, citations, root / "notebooks")


def plain(text: str, shown: Shown) -> str:
    """Return Markdown without roles and directives, for a text that has them."""

    def replaced(match: re.Match[str]) -> str:
        if match["fence"]:
            found = re.fullmatch(r" *\{([\w:-]+)\} *(.*)", match["info"])
            if not found:
                return match[0]
            body = textwrap.dedent(match["body"])
            written = _directive(found[1], plain(found[2].strip(), shown), body, shown)
            return textwrap.indent(written, match["indent"])
        if match["role"]:
            return _role(match["role"], match["content"], shown)
        if match["display"] and match["label"]:
            return f"$${_tagged(match['display'], match['label'], shown)}$$"
        if match["target"] is not None:
            return _link(plain(match["text"], shown), match["target"])
        return "" if match["place"] else match[0]

    return TOKEN.sub(replaced, text)


def _tagged(formula: str, label: str | None, shown: Shown) -> str:
    """The formula with the number that its page shows."""
    number = shown.numbers.get(label or "")
    end = formula[len(formula.rstrip()) :]
    return f"{formula.rstrip()} \\tag{{{number.strip('()')}}}{end}" if number else formula


def _link(text: str, target: str) -> str:
    """A link to another notebook or to the network, and the text alone of one into the book."""
    path = target.partition("#")[0]
    text = text or Path(path).stem.replace("_", " ")
    return f"[{text}]({target})" if "://" in target or path.endswith(".ipynb") else text


def _role(name: str, content: str, shown: Shown) -> str:
    if name == "math":
        return f"${content}$"
    if name.startswith("cite"):
        keys = [key.strip() for key in content.split(",")]
        cited = [shown.citations.get(key, (key, "")) for key in keys]
        if name.startswith("cite:t"):
            return ", ".join(f"{who} ({year})" if year else who for who, year in cited)
        return f"({'; '.join(', '.join(filter(None, parts)) for parts in cited)})"
    titled = re.fullmatch(r"(.*?)\s*<([^<>]+)>", content, re.DOTALL)
    text, label = titled.groups() if titled else ("", content)
    if name == "term":
        return text or label
    number = shown.numbers.get(label, label.replace("-", " "))
    return text.replace("%s", number.rpartition(" ")[2]) or number


def _directive(name: str, title: str, body: str, shown: Shown) -> str:
    found = OPTIONS.match(body)
    options = dict(re.findall(r"^:([\w-]+): *(.*)$", found[1], re.MULTILINE)) if found else {}
    body = body[found.end() :].strip("\n") if found else body
    if name == "raw":  # scripts stay with the pages
        return LIVE if "<script" in body else body if title == "html" else ""
    if name == "only" and title == "html":
        return ""
    if name == "literalinclude":
        path, language = shown.folder / title, options.get("language", "")
        return f"```{language}\n{_code(path, options.get('pyobject'))}\n```"
    if name in ("code", "code-block"):
        return f"```{title}\n{body}\n```"
    if name == "math":
        return f"$$\n{_tagged(body, options.get('label'), shown)}\n$$"
    body = plain(body, shown)
    if name == "only":
        return body
    if name in ("dropdown", "prf:proof"):
        summary = title if name == "dropdown" else f"Proof {title}".strip()
        state = " open" if "open" in options else ""
        # Not every front end sets formulas there.
        summary = re.sub(r"\$([^$\\]+)\$", r"\1", summary)
        summary = markup.escape(summary, quote=False)
        return f"<details{state}>\n<summary>{summary}</summary>\n\n{body}\n\n</details>"
    kind = name.rpartition(":")[2].capitalize()
    if name.startswith("prf:"):
        number = shown.numbers.get(options.get("label", ""), kind)
        title = f"{number} ({title})." if title else f"{number}."
    return _quoted(f"**{title or kind}**\n\n{body}")


def _quoted(text: str) -> str:
    """A quotation; its formulas have a line each, lest a front end takes ``>`` for part of them."""

    def joined(match: re.Match[str]) -> str:
        formula = match["display"] or match["inline"]
        return re.sub(r"\s*\n\s*", " ", match[0]) if formula else match[0]

    return textwrap.indent(TOKEN.sub(joined, text), "> ", lambda line: True).replace("> \n", ">\n")


def _code(path: Path, name: str | None) -> str:
    """The code in a file, or the function or class of this name in it."""
    text = path.read_text(encoding="utf-8").strip("\n")
    for node in ast.walk(ast.parse(text)) if name else ():
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            return "\n".join(text.splitlines()[first - 1 : node.end_lineno])
    return text


def _texts(notebook: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """The Markdown of a notebook: for each the dictionary and the key under which it stands."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            yield cell, "source"
        for output in cell.get("outputs", []):
            if "text/markdown" in output.get("data", {}):
                yield output["data"], "text/markdown"


def _captioned(cell: dict[str, Any], shown: Shown) -> list[dict[str, Any]]:
    """A cell, and the caption of its figure, which its page takes from what no front end shows."""
    figure = cell["metadata"].get("mystnb", {}).get("figure", {})
    if not figure.get("caption"):
        return [cell]
    number = shown.numbers.get(figure.get("name", ""), "Figure")
    text = {"cell_type": "markdown", "id": f"{cell['id'][:55]}-caption", "metadata": {}}
    return [cell, {**text, "source": f"**{number}.** {figure['caption']}"}]


def rewrite(root: Path, html: Path) -> None:
    """Rewrite the downloads of the book in the folder `html`, and nothing else."""
    names = shown(root, html)
    for path in sorted((html / "_sources" / "notebooks").glob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        notebook["cells"] = [own for cell in notebook["cells"] for own in _captioned(cell, names)]
        for holder, key in _texts(notebook):
            holder[key] = plain("".join(holder[key]), names).strip("\n")
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False), encoding="utf-8")


def left_raw(notebook: dict[str, Any]) -> list[str]:
    """Return the roles, directives and labels that readers of a notebook would see raw."""
    return [
        found[0].strip()
        for holder, key in _texts(notebook)
        for found in RAW.finditer("".join(holder[key]))
        if not found["code"] and not found["ticks"]
    ]
