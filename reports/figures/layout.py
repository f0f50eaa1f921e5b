"""The layout that figures over time share."""

from __future__ import annotations

from ..material import Window
from .encode import Json

LEFT_MARGIN_PX, RIGHT_MARGIN_PX = 178, 24
_FONT = {
    "family": "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif",
    "size": 12,
    "color": "#26323d",
}
GRID = "#e6e9ed"


def layout_over_time(height_px: int, window: Window, y_axis: Json) -> Json:
    """Return the layout of a figure whose x axis is the window, in seconds."""
    span = window.duration_ns / 1e9
    return {
        "height": height_px,
        "margin": {"l": LEFT_MARGIN_PX, "r": RIGHT_MARGIN_PX, "t": 6, "b": 26, "pad": 0},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "#ffffff",
        "font": _FONT,
        "showlegend": False,
        "hovermode": "closest",
        "hoverdistance": 2,
        "dragmode": "zoom",
        "xaxis": {
            "range": [0, span],
            "minallowed": 0,
            "maxallowed": span,
            "ticksuffix": " s",
            "gridcolor": GRID,
            "zeroline": False,
            "tickfont": {"size": 11},
            "linecolor": "#c9d0d8",
            "showline": True,
            "nticks": 12,
        },
        "yaxis": {
            "fixedrange": True,
            "zeroline": False,
            "showgrid": False,
            "tickfont": {"size": 11},
        }
        | y_axis,
    }
