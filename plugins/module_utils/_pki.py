# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""Making the root CA and signing an intermediate with it (private to this collection). No network, no files."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from ._errors import PlatformError

# Clocks of nodes are rarely exact: a certificate must not be younger than its first reader's clock.
_SKEW = datetime.timedelta(minutes=5)


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


@dataclass(frozen=True)
class Authority:
    """A CA certificate and its key. The key is never part of a repr, a message or a result."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey = field(repr=False)

    @property
    def pem(self) -> str:
        return to_pem(self.certificate)

    @property
    def key_pem(self) -> bytes:
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        return self.key.private_bytes(encoding, form, serialization.NoEncryption())


def make_root(common_name: str, organization: str, hours: int, bits: int = 4096) -> Authority:
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    names = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization:
        names.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    subject = x509.Name(names)
    builder = _builder(subject, subject, key.public_key(), hours, x509.BasicConstraints(ca=True, path_length=None))
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
    )
    return Authority(builder.sign(key, hashes.SHA256()), key)


def load(certificate: bytes, key: bytes, doing: str) -> Authority:
    """A certificate and its key as they were stored, proved to be a CA and a pair."""
    mend = "Put back the intact pair from a backup: certificates that are in use cannot be issued by another root."
    try:
        cert = x509.load_pem_x509_certificate(certificate)
        private = serialization.load_pem_private_key(key, password=None)
    except (ValueError, TypeError):
        raise PlatformError(doing, "the certificate or the key is not PEM", mend) from None
    if not isinstance(private, rsa.RSAPrivateKey):
        raise PlatformError(doing, "its key is not an RSA key", mend)
    if _spki(cert.public_key()) != _spki(private.public_key()):
        raise PlatformError(doing, "the key does not belong to the certificate", mend)
    if not is_ca(cert):
        raise PlatformError(doing, "the certificate is not that of a CA", mend)
    return Authority(cert, private)


def sign_intermediate(root: Authority, csr_pem: str, hours: int, doing: str) -> str:
    """Sign a CSR as an intermediate that may sign leaves only. Its wishes beyond subject and key are not followed."""
    try:
        csr = x509.load_pem_x509_csr(csr_pem.encode())
        intact = csr.is_signature_valid
    except ValueError:
        raise PlatformError(doing, "what Vault gave is not a certificate request") from None
    if not intact:
        raise PlatformError(doing, "the certificate request is not signed with its own key")
    end = now() + datetime.timedelta(hours=hours)
    if end > root.certificate.not_valid_after_utc:
        why = f"the root CA ends on {day(root.certificate)}, before the intermediate would"
        raise PlatformError(doing, why, "Ask for a shorter ttl, or plan a new root CA.")
    limits = x509.BasicConstraints(ca=True, path_length=0)
    builder = _builder(csr.subject, root.certificate.subject, csr.public_key(), hours, limits)
    identifier = root.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    return to_pem(builder.add_extension(authority, critical=False).sign(root.key, hashes.SHA256()))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: object, hours: int, limits: x509.BasicConstraints
) -> x509.CertificateBuilder:
    assert isinstance(key, rsa.RSAPublicKey)
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - _SKEW)
        .not_valid_after(now() + datetime.timedelta(hours=hours))
        .add_extension(limits, critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def parse(pem: str, doing: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError:
        raise PlatformError(doing, "the certificate is not PEM") from None


def issued_by(certificate: x509.Certificate, root: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(root)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def hours_left(certificate: x509.Certificate) -> float:
    return (certificate.not_valid_after_utc - now()).total_seconds() / 3600


def day(certificate: x509.Certificate) -> str:
    return certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ")


def facts(certificate: x509.Certificate) -> dict[str, str]:
    return {
        "certificate": to_pem(certificate),
        "subject": certificate.subject.rfc4514_string(),
        "fingerprint": certificate.fingerprint(hashes.SHA256()).hex(":").upper(),
        "not_after": day(certificate),
    }


def to_pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _spki(key: object) -> bytes:
    assert hasattr(key, "public_bytes")
    return bytes(key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))
