"""What the publisher writes, read back with independent tools."""

from __future__ import annotations

import datetime
import hashlib
import os
import socket
import sqlite3
import stat
import struct
import tempfile
import zlib
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key
from hypothesis import given
from hypothesis import strategies as st

from cvmprof.errors import CvmprofError
from cvmprof.runners.lab.lab import Cutting, Lab, publish

CHUNK_BYTES = 256 << 10
CUTTING = Cutting(chunk_bytes=CHUNK_BYTES, threshold_bytes=2 * CHUNK_BYTES)


def read_object(lab: Lab, name: str) -> bytes:
    """An object by its hex name with suffix; its file's SHA-1 must be its name."""
    packed = (lab.published / "data" / name[:2] / name[2:]).read_bytes()
    assert hashlib.sha1(packed).hexdigest() == name[:40]
    return zlib.decompress(packed)


def manifest_fields(lab: Lab) -> dict[str, str]:
    letter = (lab.published / ".cvmfspublished").read_bytes()
    lines = letter[: letter.index(b"--\n")].decode().splitlines()
    return {line[0]: line[1:] for line in lines}


def split_letter(letter: bytes) -> tuple[bytes, bytes, bytes]:
    payload, rest = letter.split(b"--\n", 1)
    digest, signature = rest.split(b"\n", 1)
    return payload, digest, signature


def open_catalog(lab: Lab) -> sqlite3.Connection:
    database = sqlite3.connect(":memory:")
    database.deserialize(read_object(lab, manifest_fields(lab)["C"] + "C"))
    return database


def md5_pair(path: str) -> tuple[int, int]:
    low, high = struct.unpack("<qq", hashlib.md5(path.encode()).digest())
    return low, high


def objects(lab: Lab) -> set[str]:
    return {path.name for path in (lab.published / "data").glob("??/*")}


def test_manifest_names_the_revision(lab: Lab, source: Path) -> None:
    published = publish(lab, source, CUTTING)
    fields = manifest_fields(lab)
    assert fields["N"] == "models.lab.test"
    assert fields["R"] == "d41d8cd98f00b204e9800998ecf8427e"
    assert fields["S"] == "1"
    assert fields["C"] == published.root_hash
    assert int(fields["B"]) == len(read_object(lab, fields["C"] + "C"))
    assert (fields["G"], fields["A"]) == ("no", "no")


def test_manifest_is_signed_by_its_certificate(lab: Lab, source: Path) -> None:
    publish(lab, source, CUTTING)
    payload, digest, signature = split_letter((lab.published / ".cvmfspublished").read_bytes())
    certificate = x509.load_pem_x509_certificate(read_object(lab, manifest_fields(lab)["X"] + "X"))
    key = certificate.public_key()
    assert digest.decode() == hashlib.sha1(payload).hexdigest()
    assert isinstance(key, RSAPublicKey)
    # Raises InvalidSignature otherwise.
    key.verify(signature, digest, padding.PKCS1v15(), hashes.SHA1())


def test_whitelist_is_signed_by_the_master_key(lab: Lab, source: Path) -> None:
    publish(lab, source, CUTTING)
    payload, digest, signature = split_letter((lab.published / ".cvmfswhitelist").read_bytes())
    key = load_pem_public_key(lab.public_key.read_bytes())
    assert isinstance(key, RSAPublicKey)
    assert digest.decode() == hashlib.sha1(payload).hexdigest()
    assert key.recover_data_from_signature(signature, padding.PKCS1v15(), None) == digest


def test_whitelist_allows_the_certificate_for_years(lab: Lab, source: Path) -> None:
    publish(lab, source, CUTTING)
    payload, _, _ = split_letter((lab.published / ".cvmfswhitelist").read_bytes())
    created, expiry, name, fingerprint = payload.decode().splitlines()
    pem = read_object(lab, manifest_fields(lab)["X"] + "X")
    der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    assert fingerprint.replace(":", "").lower() == hashlib.sha1(der).hexdigest()
    assert name == "Nmodels.lab.test"
    lifetime = datetime.datetime.strptime(expiry, "E%Y%m%d%H%M%S") - datetime.datetime.strptime(
        created, "%Y%m%d%H%M%S"
    )
    assert lifetime.days >= 365


def test_private_keys_are_private(lab: Lab, source: Path) -> None:
    publish(lab, source, CUTTING)
    for name in ("masterkey", "key"):
        mode = (lab.keys / f"models.lab.test.{name}").stat().st_mode
        assert stat.S_IMODE(mode) == 0o600


def test_chunks_hold_the_file(lab: Lab, source: Path, content: dict[str, bytes]) -> None:
    publish(lab, source, CUTTING)
    rows = open_catalog(lab).execute(
        "SELECT offset, size, lower(hex(hash)) FROM chunks "
        "WHERE md5path_1 = ? AND md5path_2 = ? ORDER BY offset",
        md5_pair("/chunked.bin"),
    )
    assembled = b""
    count = 0
    for offset, size, digest in rows:
        piece = read_object(lab, digest + "P")
        assert (offset, size) == (len(assembled), len(piece))
        assembled += piece
        count += 1
    assert count == 17
    assert assembled == content["chunked.bin"]


def test_whole_files_are_one_object(lab: Lab, source: Path, content: dict[str, bytes]) -> None:
    publish(lab, source, CUTTING)
    rows = dict(
        open_catalog(lab).execute("SELECT name, lower(hex(hash)) FROM catalog WHERE flags = 4")
    )
    assert set(rows) == {"whole.bin", "empty", "text.txt", "small-one", "small-two"}
    assert read_object(lab, rows["whole.bin"]) == content["whole.bin"]
    assert read_object(lab, rows["empty"]) == b""
    assert rows["small-one"] == rows["small-two"]


def test_entries_lead_to_their_parents(lab: Lab, source: Path) -> None:
    publish(lab, source, CUTTING)
    database = open_catalog(lab)
    row = database.execute(
        "SELECT parent_1, parent_2, flags, size, mode, mtime, mtimens, hash FROM catalog "
        "WHERE md5path_1 = ? AND md5path_2 = ?",
        md5_pair("/chunked.bin"),
    ).fetchone()
    status = (source / "chunked.bin").stat()
    assert row[:2] == md5_pair("")
    assert row[2] == 4 | 64
    assert row[3:5] == (status.st_size, status.st_mode)
    assert row[5] * 10**9 + row[6] == status.st_mtime_ns
    assert row[7] is None
    link = database.execute("SELECT flags, symlink FROM catalog WHERE name = 'link'").fetchone()
    assert link == (4 | 8, "deep/er/text.txt")
    root = database.execute("SELECT rowid, flags, name FROM catalog WHERE parent_1 = 0").fetchall()
    assert root == [(1, 1, "")]


def test_properties_and_counters(lab: Lab, source: Path, content: dict[str, bytes]) -> None:
    publish(lab, source, CUTTING)
    database = open_catalog(lab)
    properties = dict(database.execute("SELECT key, value FROM properties"))
    assert (properties["schema"], properties["schema_revision"]) == ("2.5", "7")
    counters = dict(database.execute("SELECT counter, value FROM statistics"))
    assert counters["self_regular"] == 8
    assert counters["self_dir"] == 4
    assert counters["self_symlink"] == 1
    assert counters["self_chunked"] == 3
    assert counters["self_chunks"] == 17 + 3 + 3
    assert counters["self_file_size"] == sum(len(data) for data in content.values())


def test_publishing_again_writes_only_a_catalog(lab: Lab, source: Path) -> None:
    first = publish(lab, source, CUTTING)
    before = objects(lab)
    second = publish(lab, source, CUTTING)
    assert objects(lab) - before == {second.root_hash[2:] + "C"}
    assert (second.revision, second.objects_written) == (first.revision + 1, 0)


def test_publishing_again_needs_no_index(lab: Lab, source: Path) -> None:
    publish(lab, source, CUTTING)
    before = objects(lab)
    (lab.root / "contents.json").unlink()
    second = publish(lab, source, CUTTING)
    assert objects(lab) - before == {second.root_hash[2:] + "C"}


def test_equal_contents_share_objects(lab: Lab, source: Path) -> None:
    publish(lab, source, CUTTING)
    database = open_catalog(lab)
    lists = [
        database.execute(
            "SELECT hash FROM chunks WHERE md5path_1 = ? AND md5path_2 = ? ORDER BY offset",
            md5_pair(path),
        ).fetchall()
        for path in ("/twins/one.bin", "/twins/two.bin")
    ]
    assert len(lists[0]) == 3
    assert lists[0] == lists[1]


def test_a_change_renews_one_chunk(lab: Lab, source: Path) -> None:
    publish(lab, source, CUTTING)
    before = objects(lab)
    with open(source / "chunked.bin", "r+b") as file:
        file.seek(5 * CHUNK_BYTES)
        file.write(b"changed")
    publish(lab, source, CUTTING)
    assert sum(name.endswith("P") for name in objects(lab) - before) == 1


def test_no_chunks_to_order(lab: Lab, source: Path, content: dict[str, bytes]) -> None:
    published = publish(lab, source, Cutting(chunk_bytes=None))
    assert published.chunks == 0
    digest = (
        open_catalog(lab)
        .execute("SELECT lower(hex(hash)) FROM catalog WHERE name = 'chunked.bin'")
        .fetchone()[0]
    )
    assert read_object(lab, digest) == content["chunked.bin"]


def test_the_default_leaves_16_mib_whole() -> None:
    assert Cutting().ranges(16 << 20) == ()
    assert Cutting().ranges((16 << 20) + 1) == (
        (0, 8 << 20),
        (8 << 20, 8 << 20),
        (16 << 20, 1),
    )


@given(size=st.integers(1, 10**7), chunk=st.integers(1000, 10**7))
def test_ranges_tile_the_file(size: int, chunk: int) -> None:
    ranges = Cutting(chunk_bytes=chunk, threshold_bytes=0).ranges(size)
    end = 0
    for offset, length in ranges:
        assert offset == end
        assert 0 < length <= chunk
        end += length
    assert end == size


def test_refuses_a_file(lab: Lab, source: Path) -> None:
    with pytest.raises(CvmprofError, match="is not a directory"):
        publish(lab, source / "whole.bin", CUTTING)


def test_refuses_a_socket(lab: Lab, source: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, tempfile.TemporaryDirectory() as short:
        listener.bind(f"{short}/s")
        os.rename(f"{short}/s", source / "socket")
        with pytest.raises(CvmprofError, match="neither a file"):
            publish(lab, source, CUTTING)


def test_refuses_a_name_that_is_not_text(lab: Lab, source: Path) -> None:
    Path(os.fsdecode(bytes(source) + b"/\xff\xfe")).write_bytes(b"")
    with pytest.raises(CvmprofError, match="not UTF-8 text"):
        publish(lab, source, CUTTING)


def test_refuses_a_chunk_size_of_zero() -> None:
    with pytest.raises(CvmprofError, match="chunk size of 0"):
        Cutting(chunk_bytes=0)


@pytest.mark.parametrize("name", ["", "a/b", "../x", "white space", ".hidden"])
def test_refuses_what_is_not_a_repository_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(CvmprofError, match="is not a repository name"):
        Lab(tmp_path, name)


def test_a_damaged_manifest_is_reported(lab: Lab, source: Path) -> None:
    publish(lab, source, CUTTING)
    (lab.published / ".cvmfspublished").write_bytes(b"Cshort\n--\n")
    with pytest.raises(CvmprofError, match="is not a manifest"):
        publish(lab, source, CUTTING)
