"""References of the API pages: docstrings name things in single backticks, as they read best.

A name of the library becomes a link, from wherever it is named; a parameter, or a type of another
package, stays as it is. No inventory of another project is needed.
"""

from docutils.nodes import Node
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode


def _resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: Node) -> Node | None:
    """Link to the one object whose full name ends with the name given, if there is one."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    objects = env.domains["py"].objects
    found = [name for name in objects if name == target or name.endswith(f".{target}")]
    if len(found) == 1:
        entry = objects[found[0]]
        return make_refnode(
            app.builder, node["refdoc"], entry.docname, entry.node_id, content, found[0]
        )
    # Sphinx warns of what is left: a name of the library that is not there.
    return None if target.startswith("lipsplines.") else content


def _readable(
    app: Sphinx,
    kind: str,
    name: str,
    member: object,
    options: object,
    signature: str | None,
    returned: str | None,
) -> tuple[str | None, str | None]:
    """Mend two signatures: of a module without a constructor, and of a default that is made."""
    if kind == "class" and signature and signature.startswith("(*args"):
        return "()", returned  # not the arguments of `nn.Module`
    return signature and signature.replace("<factory>", "..."), returned


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect("missing-reference", _resolve)
    app.connect("autodoc-process-signature", _readable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
