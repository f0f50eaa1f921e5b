"""Files and the mount of an imported log, as far as it names them."""

from __future__ import annotations

import polars as pl

from ..tables import conform, empty

_TEXTS = ("device", "filesystem", "repository", "client_version", "cache_path")
_MOUNT = {"mount_id": pl.Int32(), **dict.fromkeys(_TEXTS, pl.String())}


class NamedFiles:
    """Paths in the repository, numbered as they appear, and their inodes where they are told."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._inodes: dict[int, int] = {}  # file -> inode

    def numbers(self, paths: pl.Series) -> pl.Series:
        """The files' numbers; null where a path is."""
        for path in paths.drop_nulls().unique(maintain_order=True):
            self._numbers.setdefault(path, len(self._numbers))
        return paths.replace_strict(self._numbers, default=None, return_dtype=pl.Int32)

    def number_inodes(self, inodes: pl.Series, paths: pl.Series) -> dict[int, int]:
        """Learn inodes of paths; the files' numbers by inode, of these alone."""
        files = self.numbers(paths)
        learnt = dict(zip(inodes.to_list(), files.to_list(), strict=True))
        self._inodes.update({file: inode for inode, file in learnt.items()})
        return learnt

    def table(self) -> pl.DataFrame:
        """The table `files`: inode 0 where none was told."""
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
        """The table `mounts`: the one mount whose log it is."""
        row = {
            "mount_id": 0, "device": "", "filesystem": "fuse", "repository": repository,
            "client_version": version, "cache_path": cache,
        }  # fmt: skip
        return conform("mounts", pl.DataFrame([row], schema=_MOUNT))
