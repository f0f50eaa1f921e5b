"""What a page shows, as data: its template, the values for it, and the figures for its script."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .. import palette
from ..figures.encode import Json
from ..figures.layout import LEFT_MARGIN_PX, RIGHT_MARGIN_PX
from ..material import Window


@dataclass(frozen=True)
class Content:
    """A page: ``heading`` names the run; ``values`` are those of ``template`` alone."""

    template: str
    heading: str
    data: Json
    values: Mapping[str, object]


def script_data(window: Window, figures: Mapping[str, Json], **more: object) -> Json:
    """Return what the page's script reads; figures without data are left out."""
    return {
        "span": window.duration_ns / 1e9,
        "margin": [LEFT_MARGIN_PX, RIGHT_MARGIN_PX],
        "outlines": [palette.CHOSEN_COLOUR, palette.SAME_FETCH_COLOUR],
        "figures": {name: figure for name, figure in figures.items() if figure},
        **more,
    }
