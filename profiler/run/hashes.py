"""Content hashes: in records, in paths and attributes, and in tables."""

from __future__ import annotations

import polars as pl

from .decode import OBJECT_COLUMNS

#: an object's file in a cache or on a server: two digits, a slash, 38 digits; then a suffix
OBJECT_PATH = r"(?:^|/)([0-9a-f]{2})/([0-9a-f]{38})(-rmd160|-shake128)?([A-Z]?)$"

#: the kind of an object by the letter behind its hash
KIND_BY_SUFFIX = {
    "P": "chunk", "C": "catalog", "X": "certificate", "H": "history", "M": "meta", "": "file",
}  # fmt: skip

_ALGORITHM_SUFFIX = {0: None, 1: "", 2: "-rmd160", 3: "-shake128"}


def object_name(a: int, b: int, c: int, algorithm: int) -> str | None:
    """Return 40 hex digits and, unless the algorithm is SHA-1, its suffix.

    None where there is no object or the algorithm is unknown.
    """
    suffix = _ALGORITHM_SUFFIX.get(algorithm)
    if suffix is None or not (a or b or c):
        return None
    digest = a.to_bytes(8, "little") + b.to_bytes(8, "little") + c.to_bytes(4, "little")
    return digest.hex() + suffix


def with_object_hash(frame: pl.DataFrame) -> pl.DataFrame:
    """Replace the integer columns of an object by ``object_hash``? and ``object_suffix``?.

    The suffix is a letter or empty; both are null where there is no object. Each distinct object is
    converted once, however many rows name it.
    """
    distinct = frame.select(OBJECT_COLUMNS).unique(maintain_order=True)
    names = [object_name(*row[:4]) for row in distinct.iter_rows()]
    letters = [_letter(number) for number in distinct["object_suffix"]]
    named = distinct.with_columns(
        pl.Series("object_hash", names, dtype=pl.String),
        pl.Series("letter", letters, dtype=pl.String),
    )
    joined = frame.join(named, on=OBJECT_COLUMNS, how="left", maintain_order="left")
    letter = pl.when(pl.col("object_hash").is_not_null()).then("letter")
    return joined.drop(OBJECT_COLUMNS).with_columns(object_suffix=letter).drop("letter")


def _letter(number: int) -> str:
    return chr(number) if chr(number).isupper() and number < 128 else ""


def hash_of_path(path: pl.Expr) -> pl.Expr:
    """Return the object hash at the end of a cache file's path or a URL, null if there is none."""
    parts = [path.str.extract(OBJECT_PATH, group) for group in (1, 2)]
    algorithm = path.str.extract(OBJECT_PATH, 3).fill_null("")
    return pl.concat_str([*parts, algorithm])


def hash_of_text(text: pl.Expr) -> pl.Expr:
    """Return the hash in a chunk list or attribute, without the letter of the object's kind."""
    return text.str.extract(r"^\s*([0-9a-f]{40}(?:-rmd160|-shake128)?)[A-Z]?\s*$", 1)
