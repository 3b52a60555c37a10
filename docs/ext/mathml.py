"""Formulas as MathML, which browsers draw by themselves: nothing is loaded from elsewhere."""

from docutils import nodes
from docutils.utils.math import pick_math_environment
from docutils.utils.math.latex2mathml import tex2mathml


def visit_math(self, node):
    """A formula in a line."""
    self.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def visit_displaymath(self, node):
    """A formula of its own."""
    tex = node.astext()
    if pick_math_environment(tex) == "align*":
        tex = rf"\begin{{aligned}}{tex}\end{{aligned}}"
    self.body.append(tex2mathml(tex, as_block=True))
    raise nodes.SkipNode


def setup(app):
    """The renderer ``mathml``."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_displaymath, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
