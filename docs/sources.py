"""Links to the source of what users import, wherever it is defined."""

import importlib
import inspect
import re
import sys

from sphinx.application import Sphinx


def module_with_source(_: Sphinx, public: str | None, attribute: str) -> str | None:
    """Module that defines something, which names the public module as its own."""
    if public is None:
        return None
    name = attribute.partition(".")[0]
    value = getattr(importlib.import_module(public), name, None)
    if inspect.isfunction(value):
        return str(value.__globals__["__name__"])
    for path, module in sys.modules.items():
        if path.startswith("audmodel") and vars(module).get(name) is value:
            definition = rf"^class {name}\b"
            if re.search(definition, inspect.getsource(module), flags=re.MULTILINE):
                return path
    return None


def setup(app: Sphinx) -> dict[str, bool]:
    """Ask for the module whenever a link to its source is made."""
    app.setup_extension("sphinx.ext.viewcode")
    app.connect("viewcode-follow-imported", module_with_source)
    return {"parallel_read_safe": True}
