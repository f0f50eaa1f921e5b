"""A small repository, served and mounted, for the tests of the lab."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cvmprof.runners.lab.lab import (
    Access,
    Cutting,
    Lab,
    MountOptions,
    accesses,
    mount,
    publish,
    serve,
    stop,
)

CHUNK_BYTES = 256 << 10
CHUNKS = 17
CUTTING = Cutting(chunk_bytes=CHUNK_BYTES, threshold_bytes=2 * CHUNK_BYTES)


@pytest.fixture(scope="session")
def content() -> dict[str, bytes]:
    """What is published: path to bytes. ``twin`` and ``twin-again`` are the same."""
    seeded = random.Random(20261122)
    twin = seeded.randbytes(3 * CHUNK_BYTES)
    return {
        "chunked.bin": seeded.randbytes((CHUNKS - 1) * CHUNK_BYTES + 1009),
        "whole.bin": seeded.randbytes(100_003),
        "empty": b"",
        "deep/er/text.txt": b"the same line\n" * 5000,
        "twins/one.bin": twin,
        "twins/two.bin": twin,
        "twins/small-one": b"equal",
        "twins/small-two": b"equal",
    }


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, content: dict[str, bytes]) -> Path:
    """The content as a directory ``source``, and published once in ``lab``."""
    root = tmp_path_factory.mktemp("prepared")
    for name, data in content.items():
        (root / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "source" / name).write_bytes(data)
    (root / "source/link").symlink_to("deep/er/text.txt")
    publish(Lab(root / "lab"), root / "source", CUTTING)
    return root


@pytest.fixture
def source(prepared: Path, tmp_path: Path) -> Path:
    """The content as a directory, with a symbolic link: this test's own copy."""
    return shutil.copytree(prepared / "source", tmp_path / "source", symlinks=True)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A lab of its own for each test; whatever it started is ended after it."""
    made = Lab(tmp_path / "lab")
    yield made
    stop(made, force=True)


@pytest.fixture
def published(lab: Lab, prepared: Path) -> Lab:
    """A lab in which the content is published as revision 1."""
    shutil.copytree(prepared / "lab", lab.root)
    return lab


@pytest.fixture
def mounted(published: Lab) -> Path:
    """The repository published, served at full speed, and mounted with the lab's client."""
    serve(published)
    return mount(published, options=MountOptions(client="lab", timeout_s=0, retries=1))


class Fresh:
    """The accesses that were logged since it was made."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._before = len(accesses(lab))

    def accesses(self) -> list[Access]:
        return accesses(self._lab)[self._before :]

    def paths(self) -> list[str]:
        """URL paths below ``data/``, as hash and suffix, in the order of the log."""
        return [entry.path.partition("/data/")[2].replace("/", "") for entry in self.accesses()]


@pytest.fixture
def fresh(mounted: Path, lab: Lab) -> Fresh:
    """Counts from after the mount."""
    return Fresh(lab)
