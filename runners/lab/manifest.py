"""The signed texts of a repository: the manifest ``.cvmfspublished`` and ``.cvmfswhitelist``."""

from __future__ import annotations

import datetime
import hashlib
from dataclasses import dataclass

EMPTY_PATH_MD5 = hashlib.md5(b"").hexdigest()
TTL_S = 240
WHITELIST_DAYS = 3650


@dataclass(frozen=True)
class Manifest:
    """What a client reads first: the revision, and which catalog is its root.

    Hashes are 40 hex digits without suffix; ``published_s`` is seconds since 1970.
    """

    repository: str
    root_hash: str
    catalog_bytes: int
    revision: int
    certificate_hash: str
    published_s: int

    def export(self) -> bytes:
        """The manifest's lines, one key letter each, before the signature."""
        lines = (
            f"C{self.root_hash}",
            f"B{self.catalog_bytes}",
            f"R{EMPTY_PATH_MD5}",
            f"D{TTL_S}",
            f"S{self.revision}",
            "Gno",
            "Ano",
            f"N{self.repository}",
            f"X{self.certificate_hash}",
            f"T{self.published_s}",
        )
        return "".join(f"{line}\n" for line in lines).encode()


def parse(letter: bytes) -> Manifest:
    """Read a manifest back, without checking its signature.

    Raises ValueError or KeyError if the text is not a manifest.
    """
    payload = letter.split(b"--\n", 1)[0].decode("utf-8")
    fields = {line[0]: line[1:] for line in payload.splitlines() if line}
    return Manifest(
        repository=fields["N"],
        root_hash=fields["C"],
        catalog_bytes=int(fields["B"]),
        revision=int(fields["S"]),
        certificate_hash=fields["X"],
        published_s=int(fields["T"]),
    )


def whitelist(repository: str, fingerprint: str, now: datetime.datetime) -> bytes:
    """The whitelist's lines before the signature: created, expiry, name, who may sign.

    ``now`` is UTC.
    """
    expiry = now + datetime.timedelta(days=WHITELIST_DAYS)
    stamp = "%Y%m%d%H%M%S"
    return f"{now:{stamp}}\nE{expiry:{stamp}}\nN{repository}\n{fingerprint}\n".encode()
