"""How the documentation is built."""

from pathlib import Path
import sys

import audmodel


sys.path.insert(0, str(Path(__file__).resolve().parent))

project = "audmodel"
author = "The audmodel developers"
copyright = "2026, The audmodel developers"
version = release = audmodel.__version__

extensions = [
    "commands",
    "results",
    "sources",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
default_role = "any"
highlight_language = "default"
nitpicky = True
# No inventory of other projects is fetched, so that the documentation builds
# without network: only references to ourselves have to resolve.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!audmodel\b).*"),
    # Type variables
    (r"py:class", r"audmodel\.parallel\.[a-z]+\.\w+"),
]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_display_short_literal_types = True
python_maximum_signature_line_length = 68
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

# Copied examples are free of prompts and answers, and keep lines that continue.
copybutton_prompt_text = r">>> |\.\.\. |\$ |> "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True

pygments_dark_style = "github-dark"

html_theme = "furo"
html_title = f"audmodel {release}"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {
    "navigation_with_keys": True,
    "light_css_variables": {
        "color-brand-primary": "#b3382c",
        "color-brand-content": "#b3382c",
    },
    "dark_css_variables": {
        "color-brand-primary": "#f08a7f",
        "color-brand-content": "#f08a7f",
    },
}
