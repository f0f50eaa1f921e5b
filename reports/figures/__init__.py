"""What is drawn, as data for Plotly."""

from __future__ import annotations
