"""The directive for a code block that no test runs: it says why, and renders like any other code block."""

from typing import ClassVar

from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.directives.code import CodeBlock


class NotRun(CodeBlock):
    """A code block with a `because` that a reader of the source, and of the test's report, can judge."""

    option_spec: ClassVar = {**CodeBlock.option_spec, "because": directives.unchanged_required}


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("not-run", NotRun)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
