"""The two key pairs of a repository, and signatures as CVMFS makes them.

The master key signs the whitelist, which names the certificate; the certificate's key signs the
manifest. Both signatures are RSA with PKCS#1 v1.5 padding over the *hexadecimal text* of a SHA-1.
They differ in one point: the manifest's is an ordinary SHA-1 signature of that text (a digest of
the digest, with its identifier), the whitelist's holds the text itself, as ``openssl pkeyutl
-sign`` makes it.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import MissingDependency
from .layout import Lab, make_directory

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.x509 import Certificate

KEY_BITS = 2048
CERTIFICATE_DAYS = 3650

# DigestInfo of SHA-1 (RFC 8017, section 9.2, note 1), before the 20 bytes of the digest.
SHA1_IDENTIFIER = bytes.fromhex("3021300906052b0e03021a05000414")


@dataclass(frozen=True)
class Keys:
    """Master key, signing key and certificate of one repository."""

    master: RSAPrivateKey
    signing: RSAPrivateKey
    certificate: Certificate


def load_or_create(lab: Lab) -> Keys:
    """The lab's keys, created at the first call (private keys with mode 0600).

    Raises MissingDependency if the package ``cryptography`` is absent.
    """
    _require_cryptography()
    if not (lab.keys / f"{lab.repository}.crt").exists():
        _create(lab)
    return _load(lab)


def sign_raw(key: RSAPrivateKey, content: bytes) -> bytes:
    """PKCS#1 v1.5 signature (block type 1) that holds ``content`` itself, without an identifier.

    Written by hand because most releases of ``cryptography`` cannot leave the identifier out, and
    because some distributions forbid SHA-1 in signatures. No blinding: the keys are a lab's.
    """
    numbers = key.private_numbers()
    modulus = numbers.public_numbers.n
    length = (modulus.bit_length() + 7) // 8
    padded = b"\x00\x01" + b"\xff" * (length - 3 - len(content)) + b"\x00" + content
    return pow(int.from_bytes(padded, "big"), numbers.d, modulus).to_bytes(length, "big")


def whitelist_letter(payload: bytes, master: RSAPrivateKey) -> bytes:
    """``payload``, ``--``, its SHA-1 in hex, and that text signed by the master key."""
    digest = hashlib.sha1(payload).hexdigest().encode()
    return payload + b"--\n" + digest + b"\n" + sign_raw(master, digest)


def manifest_letter(payload: bytes, signing: RSAPrivateKey) -> bytes:
    """``payload``, ``--``, its SHA-1 in hex, and the SHA-1 of that text signed."""
    digest = hashlib.sha1(payload).hexdigest().encode()
    signed = sign_raw(signing, SHA1_IDENTIFIER + hashlib.sha1(digest).digest())
    return payload + b"--\n" + digest + b"\n" + signed


def fingerprint(certificate: Certificate) -> str:
    """SHA-1 of the certificate's DER form, upper case, bytes separated by colons."""
    from cryptography.hazmat.primitives.serialization import Encoding

    return hashlib.sha1(certificate.public_bytes(Encoding.DER)).digest().hex(":").upper()


def certificate_pem(certificate: Certificate) -> bytes:
    """The certificate as text, the form in which repositories store it."""
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _require_cryptography() -> None:
    if importlib.util.find_spec("cryptography") is None:
        raise MissingDependency(
            "the Python package cryptography is not installed",
            "install the lab's extra: pip install 'cvmprof[lab]'",
        )


def _create(lab: Lab) -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    make_directory(lab.keys, 0o755)
    master = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    signing = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    public = master.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    name = lab.repository
    _write(lab.keys / f"{name}.masterkey", _private_pem(master), 0o600)
    _write(lab.keys / f"{name}.key", _private_pem(signing), 0o600)
    _write(lab.public_key, public, 0o644)
    # The certificate comes last: if it is there, the set is complete.
    _write(lab.keys / f"{name}.crt", certificate_pem(_self_signed(signing, name)), 0o644)


def _load(lab: Lab) -> Keys:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from cryptography.x509 import load_pem_x509_certificate

    name = lab.repository
    master = load_pem_private_key((lab.keys / f"{name}.masterkey").read_bytes(), None)
    signing = load_pem_private_key((lab.keys / f"{name}.key").read_bytes(), None)
    assert isinstance(master, RSAPrivateKey) and isinstance(signing, RSAPrivateKey)
    certificate = load_pem_x509_certificate((lab.keys / f"{name}.crt").read_bytes())
    return Keys(master, signing, certificate)


def _private_pem(key: RSAPrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _self_signed(key: RSAPrivateKey, name: str) -> Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=CERTIFICATE_DAYS))
        .sign(key, hashes.SHA256())
    )


def _write(path: Path, content: bytes, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
