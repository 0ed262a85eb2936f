"""Sphinx configuration of the documentation site, which `make docs` builds; every warning is an error."""

import re
from importlib.metadata import version as installed

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

project = "ser-pipeline"
author = "The ser-pipeline developers"
project_copyright = "2026, the ser-pipeline developers"
release = version = installed("ser-pipeline")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click", "sphinx_copybutton"]
myst_enable_extensions = ["dollarmath", "html_image"]
myst_heading_anchors = 3
default_role = "code"

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False

html_theme = "pydata_sphinx_theme"
html_title = "ser-pipeline"
html_show_sourcelink = False
html_math_renderer = "mathml"
html_static_path = ["theme"]
html_css_files = ["site.css"]
html_sidebars = {"**": ["globaltoc.html"]}
html_theme_options = {
    "navbar_center": [],
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_version_warning_banner": False,
}
OPTION = re.compile(r"(?<![`\w-])--[a-z][a-z-]*(?![^`]*`(?:[^`]*`[^`]*`)*[^`]*$)")
"""An option in a line of help, outside of backticks."""

copybutton_exclude = ".linenos, .gp, .go"


def formula(translator, node):
    """Write a formula as MathML, which browsers render without scripts or network access."""
    translator.body.append(tex2mathml(node.astext(), as_block=isinstance(node, nodes.math_block)))
    raise nodes.SkipNode


def examples(app, context, lines):
    """Show the examples of a command's help as a code block."""
    said = [line.removeprefix("| ") for line in lines]
    typed = [line for line in said if line.startswith("  ser-pipeline ")]
    lines[:] = [OPTION.sub(r"`\g<0>`", line) for line in said if line not in typed]
    if typed:
        lines += ["", ".. code-block:: sh", "", *typed, ""]


def options(app, context, lines):
    """Show the options that an option's help text mentions as code."""
    lines[:] = [line if ".. option::" in line else OPTION.sub(r"`\g<0>`", line) for line in lines]


def setup(app):
    """Register `formula` as the math renderer, and `examples` and `options` for the help of commands."""
    app.connect("sphinx-click-process-description", examples)
    app.connect("sphinx-click-process-options", options)
    app.add_html_math_renderer("mathml", inline_renderers=(formula, None), block_renderers=(formula, None))
