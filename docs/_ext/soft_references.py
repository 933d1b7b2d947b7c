"""
What names in docstrings and signatures link to.

A name is documented where users import it from, which is not always where it is defined, so a reference may name
either. Types of the standard library and of dependencies are shown by name: linking them would fetch an inventory at
each build. A name between single backticks is shown as code where it names nothing that is documented.
"""

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

OURS = ("pannier", "pannier_testing")


def link_or_show(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.Element
) -> nodes.Element | None:
    """Link to the one documented object of that name, or show as code what can have no page of ours."""
    if node.get("refdomain") != "py":
        return None
    target: str = node["reftarget"]
    name = target.rpartition(".")[2]
    documented = [
        (key, entry)
        for key, entry in env.domains.python_domain.objects.items()
        if key.rpartition(".")[2] == name
        and not entry.aliased
        and entry.objtype not in ("method", "attribute", "property")
    ]
    if len(documented) == 1 and (target.partition(".")[0] in OURS or "." not in target):
        [(_, entry)] = documented
        return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, contnode, target)
    if node.get("reftype") != "obj" and target.partition(".")[0] in OURS:
        return None
    return contnode


def setup(app: Sphinx) -> dict[str, bool]:
    """Hear of each reference that leads nowhere."""
    app.connect("missing-reference", link_or_show)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
