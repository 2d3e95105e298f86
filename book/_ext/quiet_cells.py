"""Bars over folded code say what they hide, and neighbours share one.

A bar of MyST-NB says *Show code cell source*, whatever the code makes. Here it says whether that is
a figure, a table, or numbers in the text. Of cells that follow each other without a word between
them, the first bar opens the code of all. The notebook to download is left as it is.
"""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

USUAL = "Show code cell {type}"  # where a notebook does not say it better itself
SET_UP, FIGURE, TABLE, TEXT = "the set-up", "the figure", "the table", "the text below"


def kind(cell: nodes.Element) -> str:
    """What the code of a cell makes."""
    source, *outputs = cell.children
    if any(line.startswith(("import ", "from ")) for line in source.astext().splitlines()[:1]):
        return SET_UP
    for output in outputs:
        if any(output.findall(nodes.figure)) or any(output.findall(nodes.image)):
            return FIGURE
        raw = "".join(node.astext() for node in output.findall(nodes.raw))
        if any(f'class="{drawing}"' in raw for drawing in ("film", "wipe", "diagram")):
            return FIGURE
        if any(output.findall(nodes.table)):
            return TABLE
    return TEXT if outputs else SET_UP


def label(kinds: list[str]) -> str:
    """The words of a bar over cells of these kinds.

    >>> label(["the table", "the text below", "the table"])
    'Code of the tables and the text below'
    """
    counted = {k: kinds.count(k) for k in dict.fromkeys(kinds)}
    plural = {FIGURE: "the figures", TABLE: "the tables"}
    names = [plural.get(k, k) if count > 1 else k for k, count in counted.items()]
    *most, last = names
    return f"Code of {', '.join(most)} and {last}" if most else f"Code of {last}"


def is_folded(node: nodes.Node | None) -> bool:
    """Whether this is a cell whose code alone is folded, under the usual words."""
    return (
        isinstance(node, nodes.container)
        and node.get("nb_element") == "cell_code"
        and node.get("hide_mode") == "input"
        and node.get("prompt_show") == USUAL
        and bool(node.children)
        and node.children[0].get("nb_element") == "cell_code_source"
    )


class QuietCells(SphinxPostTransform):
    """Merge and label, before MyST-NB folds."""

    default_priority = 150
    formats = ("html",)

    def run(self, **options: object) -> None:
        """Walk over the cells in order."""
        cells = [node for node in self.document.findall(nodes.container) if is_folded(node)]
        for cell in cells:
            if not is_folded(cell):
                continue  # it has joined the one before
            kinds = [kind(cell)]
            following = cell.next_node(descend=False, siblings=True)
            while is_folded(following):
                kinds.append(kind(following))
                after = following.next_node(descend=False, siblings=True)
                source = following.children[0]
                following.remove(source)
                cell.children[0].extend(source.children)
                following["hide_mode"] = None
                if not following.children:
                    following.parent.remove(following)
                following = after
            cell["prompt_show"] = label(kinds)
            cell["prompt_hide"] = "Hide the code"


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.add_post_transform(QuietCells)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
