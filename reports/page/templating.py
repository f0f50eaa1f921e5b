"""HTML from ``templates``: every string that a template prints is made visible and escaped.

Nothing to remember there: strings go through ``visible`` and Jinja's escaping, unless they are
``Markup``, which only our own scripts, style sheet and JSON are.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from ..escape import visible


def source(name: str) -> str:
    """Return the text of a file of ``templates``."""
    return (files(__name__.rpartition(".")[0]) / "templates" / name).read_text(encoding="utf-8")


def render(template: str, values: Mapping[str, object]) -> str:
    """Return a template with its values filled in. Raises UndefinedError where one is missing."""
    return environment().get_template(template).render(values)


@cache
def environment() -> Environment:
    """The environment of all templates."""
    made = Environment(
        loader=FunctionLoader(source),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["cut"] = visible
    return made


def _shown(value: object) -> object:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
