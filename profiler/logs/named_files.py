"""The files that an imported log names, and its mount."""

from __future__ import annotations

import polars as pl

from ..tables import conform, empty

_TEXTS = ("device", "filesystem", "repository", "client_version", "cache_path")
_MOUNT = {"mount_id": pl.Int32(), **dict.fromkeys(_TEXTS, pl.String())}


class NamedFiles:
    """Paths in the repository, numbered as they appear, and their inodes where the log has them."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._inodes: dict[int, int] = {}  # number of a file -> inode

    def numbers(self, paths: pl.Series) -> pl.Series:
        """Return the number of each path, null for a null; new paths are added."""
        for path in paths.drop_nulls().unique(maintain_order=True):
            self._numbers.setdefault(path, len(self._numbers))
        return paths.replace_strict(self._numbers, default=None, return_dtype=pl.Int32)

    def number_inodes(self, inodes: pl.Series, paths: pl.Series) -> dict[int, int]:
        """Remember the inodes of paths; return the files of these inodes, by number."""
        files_by_inode = dict(zip(inodes.to_list(), self.numbers(paths).to_list(), strict=True))
        self._inodes.update({file: inode for inode, file in files_by_inode.items()})
        return files_by_inode

    def table(self) -> pl.DataFrame:
        """Return the table `files`, with inode 0 where the log has none."""
        rows = pl.DataFrame(
            {"path": list(self._numbers), "file_id": list(self._numbers.values())},
            schema={"path": pl.String, "file_id": pl.Int32},
        ).with_columns(
            mount_id=pl.lit(0),
            generation=pl.lit(0),
            inode=pl.col("file_id").replace_strict(self._inodes, default=0, return_dtype=pl.UInt64)
            if self._inodes
            else pl.lit(0, pl.UInt64),
        )
        return conform("files", rows) if rows.height else empty("files")

    @staticmethod
    def mount(
        repository: str | None = None, version: str | None = None, cache: str | None = None
    ) -> pl.DataFrame:
        """Return the table `mounts`: the one mount that wrote the log."""
        row = {
            "mount_id": 0, "device": "", "filesystem": "fuse", "repository": repository,
            "client_version": version, "cache_path": cache,
        }  # fmt: skip
        return conform("mounts", pl.DataFrame([row], schema=_MOUNT))
