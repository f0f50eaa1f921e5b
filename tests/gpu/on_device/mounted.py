"""The model in a repository that the lab serves and mounts; its daemons outlive the step."""

from __future__ import annotations

import json
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from cvmprof.errors import CvmprofError
from cvmprof.runners.lab import mounting
from cvmprof.runners.lab.cold import cold
from cvmprof.runners.lab.lab import (
    Access,
    Cutting,
    Lab,
    MountOptions,
    Shaping,
    accesses,
    mount,
    order,
    publish,
    serve,
    stop,
)

from .model import write_model
from .rows import Report
from .site import Site

_LEVEL = 1  # of compression: it decides how long publishing takes


@dataclass(frozen=True)
class Mounted:
    """The lab, and the model as the mount shows it."""

    lab: Lab
    mountpoint: Path
    model: Path

    def cool(self) -> None:
        """Empty the client's cache and the page cache."""
        cold([self.mountpoint])

    def order(self, shaping: Shaping) -> None:
        """Give the server orders."""
        order(self.lab, shaping)

    def served(self) -> list[Access]:
        """Every request so far."""
        return accesses(self.lab)


def mount_model(site: Site, report: Report) -> None:
    """Write, publish, serve and mount the model. Until it is mounted, a local file is used."""
    source = site.work / "source"
    source.mkdir()
    sizes, lab = site.sizes, Lab(site.work / "lab")
    began = time.monotonic()
    write_model(source / "model.safetensors", sizes.layers, sizes.side)
    written = time.monotonic()
    _remember(site, source, source / "model.safetensors")
    cutting = Cutting(sizes.chunk_bytes, 2 * sizes.chunk_bytes)
    published = publish(lab, source, cutting, _LEVEL)
    report.fact("model", f"{published.content_bytes:,} bytes in {published.chunks} chunks")
    report.fact("written", f"in {written - began:.1f} s")
    report.fact("published", f"in {time.monotonic() - written:.1f} s")
    serve(lab)
    client = nullcontext() if site.carried is None else _carried_client(site.carried.client)
    with client:
        place = mount(lab, options=MountOptions(client="lab"))
    _remember(site, place, place / "model.safetensors")
    report.fact("mounted", place)


def mounted(site: Site) -> Mounted:
    """What `mount_model` mounted. Raises CvmprofError if it did not."""
    text = site.mount_file.read_text() if site.mount_file.exists() else "{}"
    values: dict[str, str] = json.loads(text)
    place = Path(values.get("mountpoint", ""))
    if not values or not mounting.is_mounted(place):
        raise CvmprofError("the model is not mounted", "see why in the step that mounts it")
    return Mounted(Lab(site.work / "lab"), place, Path(values["model"]))


def model_path(site: Site) -> Path:
    """The model in the mount, else the local file. Raises OSError if there is neither."""
    return Path(json.loads(site.mount_file.read_text())["model"])


def unmount_all(site: Site) -> None:
    """Stop what runs."""
    stop(Lab(site.work / "lab"), force=True)


def _carried_client(program: Path) -> AbstractContextManager[object]:
    return mock.patch.object(mounting, "client_program", lambda: program)


def _remember(site: Site, mountpoint: Path, model: Path) -> None:
    site.mount_file.write_text(json.dumps({"mountpoint": str(mountpoint), "model": str(model)}))
