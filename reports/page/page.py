"""The page: one HTML file that opens from disk, needs no network, and holds everything."""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from importlib.resources import files
from pathlib import Path

from markupsafe import Markup

from .. import palette
from ..escape import as_script_json
from ..findings.rules import parts
from ..material import Material, RunLike, gather
from ..numbers.statistics import Statistics, compute
from .content import Content
from .log_page import page_of_log
from .run_page import page_of_run
from .templating import render, source

#: the style sheet's names of colours that have a meaning
_TONES = (
    ("failed", palette.FAILED_COLOUR),
    ("good", palette.GOOD_COLOUR),
    ("chosen", palette.CHOSEN_COLOUR),
)


def write_page(run: RunLike | Material, path: Path) -> Path:
    """Write the page of ``run``, or of what was gathered of it, to ``path``; return ``path``.

    It is written beside ``path`` and renamed, so that there is a whole page or none.

    Raises OSError where it cannot be written.
    """
    text = render_page(run if isinstance(run, Material) else gather(run))
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    beside = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def render_page(material: Material) -> str:
    """Return the page as HTML."""
    statistics = compute(material)
    if statistics.imported is not None:
        return _assembled(statistics, page_of_log(material, statistics, statistics.imported))
    return _assembled(statistics, page_of_run(material, statistics))


def _assembled(statistics: Statistics, content: Content) -> str:
    plotly, script = _plotly_script(), source("page.js")
    found, reasons = parts(statistics)
    return render(
        content.template,
        {
            "heading": content.heading,
            "findings": found,
            "reasons": reasons,
            "version": statistics.cvmprof_version,
            "tones": _TONES,
            "css": Markup(source("page.css")),
            "script_hashes": f"{_hash_of(plotly)} {_hash_of(script)}",
            "plotly": Markup(plotly),
            "data": Markup(as_script_json(content.data)),
            "script": Markup(script),
            **content.values,
        },
    )


def _plotly_script() -> str:
    text = (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    return text.replace("</script", "<\\/script")


def _hash_of(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
