"""``python3 tests/gpu/on_device COMMAND``: what needs a GPU, in one table. See README.md."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[3]


def _main() -> int:
    """Find this clone as the package cvmprof, whatever it is called, without installing it."""
    with tempfile.TemporaryDirectory(prefix="cvmprof-package-") as name:
        Path(name, "cvmprof").symlink_to(_ROOT)
        sys.path.insert(0, name)
        from cvmprof.tests.gpu.on_device.commands import main

        return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(_main())
