"""The installed package holds every room of the source tree, whatever the clone is called."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOMS = ("commands", "probes", "profiler", "reports", "runners")


def tracked(root: Path) -> list[str]:
    """Return the paths of the source tree: tracked, and new but not ignored."""
    if not (root / ".git").exists():
        pytest.skip("not a clone: what belongs to the package is known from git")
    listing = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "-co", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    return sorted(path for path in listing.split("\0") if path and (root / path).exists())


def belongs_to_the_package(path: str) -> bool:
    at_root = "/" not in path and path.endswith(".py")
    return at_root or path == "py.typed" or path.split("/")[0] in ROOMS


@pytest.fixture(scope="session", name="clone")
def _clone(repository_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the source tree in a directory whose name is no Python name."""
    clone = tmp_path_factory.mktemp("packaging") / "a clone-1"
    for path in tracked(repository_root):
        target = clone / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(repository_root / path, target)
    return clone


@pytest.fixture(scope="session", name="wheel")
def _wheel(clone: Path) -> Path:
    """Return a wheel built from the copy without a network."""
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    wheels = clone.parent / "wheels"
    built = subprocess.run([*command, "-w", wheels, clone], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (wheel,) = wheels.glob("cvmprof-*.whl")
    return wheel


def test_the_tree_has_no_links(repository_root: Path) -> None:
    """A link to a parent directory is a loop for find -L, grep -R and indexers."""
    assert [
        path for path in tracked(repository_root) if (repository_root / path).is_symlink()
    ] == []


def test_every_directory_with_an_init_is_listed_in_setup_cfg(repository_root: Path) -> None:
    settings = configparser.ConfigParser()
    settings.read(repository_root / "setup.cfg")
    listed = settings["options"]["packages"].split()
    present = [
        ".".join(("cvmprof", *Path(path).parent.parts))
        for path in tracked(repository_root)
        if path.endswith("__init__.py") and belongs_to_the_package(path)
    ]
    assert sorted(listed) == sorted(present)


def test_the_wheel_holds_every_file_of_the_rooms_and_nothing_else(
    wheel: Path, repository_root: Path
) -> None:
    expected = {
        f"cvmprof/{path}" for path in tracked(repository_root) if belongs_to_the_package(path)
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == expected


def test_an_installed_package_is_imported_from_outside_the_tree(
    wheel: Path, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import cvmprof.probes, cvmprof.phases; print(cvmprof.probes.__file__)\n"
    )
    out = subprocess.run(
        [sys.executable, "-S", "-I", "-c", code, str(site)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert Path(out.strip()) == site / "cvmprof" / "probes" / "__init__.py"


def test_no_dependency_is_the_unrelated_bcc_of_pypi(repository_root: Path) -> None:
    settings = configparser.ConfigParser()
    settings.read(repository_root / "setup.cfg")
    required = settings["options"]["install_requires"].splitlines()
    for extra in settings["options.extras_require"].values():
        required += extra.splitlines()
    names = {line.split(">=")[0].strip() for line in required}
    assert "polars" in names
    assert not names & {"bcc", "bpfcc", "python-bcc"}


@pytest.mark.parametrize(
    ("room", "license_line"),
    [
        ("probes/bpf/", "// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause"),
        ("probes/headers/", "// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause"),
        ("probes/injection/", "// SPDX-License-Identifier: BSD-3-Clause"),
        ("runners/lab/client/", "// SPDX-License-Identifier: BSD-3-Clause"),
    ],
)
def test_every_c_source_names_its_licence_first(
    repository_root: Path, room: str, license_line: str
) -> None:
    sources = [
        path
        for path in tracked(repository_root)
        if path.startswith(room) and path.endswith((".c", ".cpp", ".h"))
    ]
    first_lines = {(repository_root / path).read_text().splitlines()[0] for path in sources}
    assert first_lines == {license_line}


def test_the_wheel_holds_the_licence(wheel: Path, repository_root: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith("/LICENSE"))
        assert archive.read(name) == (repository_root / "LICENSE").read_bytes()
