"""Where the steps run and how large they are. Each step runs in a process of its own."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .carried import Carried


@dataclass(frozen=True)
class Sizes:
    """How much is done.

    The model has ``layers`` tensors of ``side`` × ``side`` elements of two bytes, in chunks of
    ``chunk_bytes``. ``steps`` follow a load; the overhead is measured on ``pairs`` runs of each
    kind, of ``loop_steps``, for ``overhead_s`` at most; launches are made for ``rate_s`` at each of
    ``rates`` a second.
    """

    layers: int = 64
    side: int = 4096
    chunk_bytes: int = 8 << 20
    steps: int = 200
    loop_steps: int = 6000
    pairs: int = 7
    overhead_s: float = 150
    rate_s: float = 2.0
    rates: tuple[int, ...] = (10_000, 100_000)

    @property
    def tensor_bytes(self) -> int:
        return 2 * self.side * self.side

    @property
    def model_bytes(self) -> int:
        return self.layers * self.tensor_bytes


#: below a site's directory for work
PACKAGES = "python"
#: of a rehearsal
SMALL = Sizes(
    layers=12,
    side=512,
    chunk_bytes=128 << 10,
    steps=3,
    loop_steps=20,
    pairs=3,
    overhead_s=30,
    rate_s=0.3,
)


@dataclass(frozen=True)
class Site:
    """``out`` is brought home, ``work`` is not.

    ``framework``: torch or driver loads the model. Without ``has_recorder`` none can be started.
    """

    out: Path
    work: Path
    framework: str
    sizes: Sizes
    rehearsal: bool
    has_recorder: bool
    carried: Carried | None

    @property
    def rows(self) -> Path:
        return self.out / "rows.jsonl"

    @property
    def log(self) -> Path:
        """What the steps, and what they ran, wrote to their terminal."""
        return self.out / "log.txt"

    @property
    def packages(self) -> Path:
        """A directory in which Python finds this clone as cvmprof."""
        return self.work / PACKAGES

    @property
    def mount_file(self) -> Path:
        """Written by the step that mounts the model, for those that load it."""
        return self.work / "mount.json"

    def run(self, name: str) -> Path:
        """The run directory of a recording."""
        return self.work / f"{name}.cvmprof"

    def write(self, file: Path) -> None:
        """For another process."""
        values = asdict(self) | {"carried": self.carried and self.carried.place}
        file.write_text(json.dumps(values, default=str))


def read_site(file: Path) -> Site:
    """What `Site.write` wrote."""
    values: dict[str, Any] = json.loads(file.read_text())
    sizes = values["sizes"] | {"rates": tuple(values["sizes"]["rates"])}
    carried = values["carried"]
    return Site(
        Path(values["out"]),
        Path(values["work"]),
        str(values["framework"]),
        Sizes(**sizes),
        bool(values["rehearsal"]),
        bool(values["has_recorder"]),
        Carried(Path(carried)) if carried else None,
    )


def python() -> str:
    """The Python that has the frameworks."""
    return sys.executable
