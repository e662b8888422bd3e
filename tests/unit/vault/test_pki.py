# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The root CA, and what it signs."""

from __future__ import annotations

import pytest
from ansible_collections.harvester_rke2.platform.plugins.module_utils import _pki
from ansible_collections.harvester_rke2.platform.plugins.module_utils._errors import PlatformError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

ROOT = _pki.make_root("Root", "Example", 2000, 2048)
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def request(key: rsa.RSAPrivateKey = KEY) -> str:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Intermediate")])
    wishes = x509.BasicConstraints(ca=True, path_length=5)
    builder = x509.CertificateSigningRequestBuilder().subject_name(name).add_extension(wishes, critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def test_root_is_a_ca_that_signed_itself() -> None:
    limits = ROOT.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = ROOT.certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert limits.critical and limits.value.ca and limits.value.path_length is None
    assert usage.critical and usage.value.key_cert_sign and usage.value.crl_sign and not usage.value.key_encipherment
    assert _pki.issued_by(ROOT.certificate, ROOT.certificate)
    assert 1999 < _pki.hours_left(ROOT.certificate) <= 2000
    assert ROOT.certificate.subject.rfc4514_string() == "CN=Root,O=Example"


def test_intermediate_gets_our_limits_not_its_own_wishes() -> None:
    signed = _pki.parse(_pki.sign_intermediate(ROOT, request(), 1000, "Signing"), "Reading")
    limits = signed.extensions.get_extension_for_class(x509.BasicConstraints)
    assert limits.critical and limits.value.ca and limits.value.path_length == 0
    assert _pki.issued_by(signed, ROOT.certificate) and signed.public_key() == KEY.public_key()
    authority = signed.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    subject = ROOT.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.key_identifier
    assert authority == subject


def test_a_chain_with_a_leaf_verifies() -> None:
    signed = _pki.parse(_pki.sign_intermediate(ROOT, request(), 1000, "Signing"), "Reading")
    store = x509.verification.Store([ROOT.certificate])
    names = x509.SubjectAlternativeName([x509.DNSName("a.lab.example")])
    leaf_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    start, end = _pki.now(), _pki.now() + _pki.datetime.timedelta(hours=1)
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(signed.subject)
        .public_key(leaf_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(names, critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(KEY.public_key()), critical=False)
        .sign(KEY, hashes.SHA256())
    )
    verifier = x509.verification.PolicyBuilder().store(store).build_server_verifier(x509.DNSName("a.lab.example"))
    assert len(verifier.verify(leaf, [signed])) == 3


def test_intermediate_cannot_outlive_the_root() -> None:
    with pytest.raises(PlatformError, match="the root CA ends on"):
        _pki.sign_intermediate(ROOT, request(), 3000, "Signing")


def test_what_is_not_a_request_is_told() -> None:
    with pytest.raises(PlatformError, match="Signing: what Vault gave is not a certificate request"):
        _pki.sign_intermediate(ROOT, "", 10, "Signing")


def test_a_pair_is_proved() -> None:
    assert _pki.load(ROOT.pem.encode(), ROOT.key_pem, "Reading").certificate == ROOT.certificate
    other = _pki.make_root("Other", "", 10, 2048)
    with pytest.raises(PlatformError, match="the key does not belong to the certificate"):
        _pki.load(ROOT.pem.encode(), other.key_pem, "Reading")
    with pytest.raises(PlatformError, match="not PEM"):
        _pki.load(ROOT.pem.encode(), b"", "Reading")


def test_another_root_of_the_same_name_did_not_issue_it() -> None:
    signed = _pki.parse(_pki.sign_intermediate(ROOT, request(), 1000, "Signing"), "Reading")
    assert not _pki.issued_by(signed, _pki.make_root("Root", "Example", 2000, 2048).certificate)


def test_the_key_is_in_no_repr() -> None:
    assert "key" not in repr(ROOT)
