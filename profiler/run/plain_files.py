"""Files of a run, which its user may have replaced: only plain files are opened, none waits."""

from __future__ import annotations

import os
import stat
from io import FileIO
from pathlib import Path

# a FIFO opened without O_NONBLOCK waits for a writer
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_plain(path: Path) -> FileIO | None:
    """Open a plain file to read; None where there is none, or something else has its name.

    Raises OSError where it cannot be opened for another reason.
    """
    try:
        file = FileIO(os.open(path, _READ))
    except FileNotFoundError:
        return None
    except OSError:
        if path.is_symlink() or not path.is_file():
            return None
        raise
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    return None
