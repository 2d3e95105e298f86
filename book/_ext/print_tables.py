"""Tables of the PDF: no empty heads, and columns of long tables in the page.

LaTeX breaks no line in a column of a table that is longer than a page, unless it has a width.
"""

from docutils import nodes
from sphinx.addnodes import tabular_col_spec
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

LONG = 30  # rows from which on Sphinx lets a table go over pages
NARROWEST, WIDEST = 15, 40


def column_widths(table: nodes.table) -> list[int]:
    """Letters in the longest cell of each column, within limits."""
    rows = [[cell.astext() for cell in row] for row in table.findall(nodes.row)]
    number = max(map(len, rows))
    cells = [[row[k] for row in rows if len(row) == number] for k in range(number)]
    return [min(max(NARROWEST, *map(len, column)), WIDEST) for column in cells]


class PrintTables(SphinxPostTransform):
    """Make tables ready for LaTeX."""

    default_priority = 10
    formats = ("latex",)

    def run(self, **options: object) -> None:
        """Drop empty heads and give columns of long tables their share of the line."""
        for table in list(self.document.findall(nodes.table)):
            for head in list(table.findall(nodes.thead)):
                if not head.astext().strip():
                    head.parent.remove(head)
            if len(list(table.findall(nodes.row))) > LONG:
                widths = column_widths(table)
                ragged = r">{\raggedright\arraybackslash}"
                spec = "".join(rf"{ragged}\X{{{width}}}{{{sum(widths)}}}" for width in widths)
                position = table.parent.index(table)
                table.parent.insert(position, tabular_col_spec(spec=spec))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.add_post_transform(PrintTables)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
