"""How far apart colours are, also for people who are colour-blind: computed, not judged by eye."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]

#: linear RGB as it is seen, at full severity: Machado, Oliveira and Fernandes 2009, table 1
SEEN_BY = {
    "everybody else": np.eye(3),
    "protanopes": np.array([
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ]),
    "deuteranopes": np.array([
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ]),
    "tritanopes": np.array([
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ]),
}  # fmt: skip
# linear RGB to Oklab: Ottosson 2020
_TO_CONES = np.array([
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
])  # fmt: skip
_TO_LAB = np.array([
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
])  # fmt: skip


def linear(colour: str) -> Vector:
    """Linear RGB of #rrggbb."""
    encoded = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(encoded > 0.04045, ((encoded + 0.055) / 1.055) ** 2.4, encoded / 12.92)


def oklab(colour: str, eyes: str = "everybody else") -> Vector:
    """Lightness and two hues, in which distances are as people see them; 0.02 is barely seen."""
    seen = np.clip(SEEN_BY[eyes] @ linear(colour), 0, 1)
    return np.asarray(_TO_LAB @ np.cbrt(_TO_CONES @ seen))


def distance(one: str, other: str, eyes: str = "everybody else") -> float:
    """How different two colours look."""
    return float(np.linalg.norm(oklab(one, eyes) - oklab(other, eyes)))


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2.2."""
    weights = np.array([0.2126, 0.7152, 0.0722])
    dark, light = sorted(float(weights @ linear(each)) for each in (one, other))
    return (light + 0.05) / (dark + 0.05)
