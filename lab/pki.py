# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Certificates and kubeconfigs: one certificate authority an API server."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lab.settings import SERVERS, Lab, Server

INSTALLER = "platform-installer"
LIFETIME = datetime.timedelta(days=365)
LOOPBACK = ["localhost", "127.0.0.1", "::1"]
NODE_ADDRESSES = [f"198.18.2.{last}" for last in range(1, 255)]

# user, groups; "own" ones get their rights from lab/manifests/objects/cluster.yaml
USERS: dict[str, tuple[str, Sequence[str], Sequence[str]]] = {
    # file: (user, groups, API servers)
    "admin": ("lab-admin", ["system:masters"], ["cluster", "harvester", "rancher"]),
    "installer": (INSTALLER, ["system:masters"], ["cluster", "harvester", "rancher"]),
    "controller-manager": ("system:kube-controller-manager", [], ["cluster", "harvester", "rancher"]),
    "scheduler": ("system:kube-scheduler", [], ["cluster"]),
    "proxy": ("system:kube-proxy", [], ["cluster"]),
    "kwok": ("lab-kwok", ["system:masters"], ["cluster"]),
    "coredns": ("lab-coredns", [], ["cluster"]),
    "rke2": ("lab-rke2", [], ["cluster"]),
    "cilium": ("lab-cilium", [], ["cluster"]),
    "storage": ("lab-storage", [], ["cluster"]),
    "agent": ("lab-agent", [], ["cluster"]),
    "kubelets": ("lab-kubelets", [], ["cluster"]),
    # Rancher's and Harvester's controllers, and Rancher's proxy, which may only speak in the name of others
    "rancher": ("lab-rancher", ["system:masters"], ["cluster", "harvester", "rancher"]),
    "harvester": ("lab-harvester", ["system:masters"], ["harvester"]),
    "rancher-proxy": ("rancher-proxy", [], ["cluster", "harvester", "rancher"]),
}


class Authority:
    """A certificate authority kept in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not (folder / "ca.crt").exists():
            self._make(name)
        self.certificate = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
        key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self.key = key

    def _make(self, name: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        public = key.public_key()
        certificate = (
            _builder(subject, subject, public)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(key, hashes.SHA256())
        )
        write_key(self.folder / "ca.key", key)
        write(self.folder / "ca.crt", certificate.public_bytes(serialization.Encoding.PEM), 0o644)

    def issue(self, file: str, name: str, groups: Sequence[str] = (), hosts: Sequence[str] = ()) -> None:
        """Write `file`.crt and .key unless they are there."""
        if (self.folder / f"{file}.crt").exists():
            return
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups),
                x509.NameAttribute(NameOID.COMMON_NAME, name),
            ]
        )
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if hosts else [])]
        builder = (
            _builder(subject, self.certificate.subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_name(host) for host in hosts]), critical=False
            )
        write_key(self.folder / f"{file}.key", key)
        signed = builder.sign(self.key, hashes.SHA256())
        write(self.folder / f"{file}.crt", signed.public_bytes(serialization.Encoding.PEM), 0o644)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + LIFETIME)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not signs_certificates,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def write(path: Path, data: bytes, mode: int) -> None:
    """Write a file that is never readable by others for a moment, nor half there."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
    temporary.rename(path)


def write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write(path, pem, 0o600)


def kubeconfig(folder: Path, user: str, server: str) -> bytes:
    """A kubeconfig that carries everything within itself."""

    def data(name: str) -> str:
        return base64.b64encode((folder / name).read_bytes()).decode()

    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {"server": server, "certificate-authority-data": data("ca.crt")}}],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": data(f"{user}.crt"),
                    "client-key-data": data(f"{user}.key"),
                },
            }
        ],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user}}],
        "current-context": "lab",
    }
    return yaml.safe_dump(content, sort_keys=False).encode()


def server_hosts(server: Server) -> list[str]:
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
    return [*names, "localhost", "127.0.0.1", server.address, server.first_service]


def system_kubeconfig(lab: Lab, server: str, user: str) -> Path:
    return lab.path("etc", server, f"{user}.kubeconfig")


def prepare(lab: Lab, ports: dict[str, int]) -> None:
    """Make what is missing of the certificates and kubeconfigs of all API servers."""
    for top in ("pki", "etc", "kubeconfig"):
        lab.path(top).mkdir(parents=True, exist_ok=True, mode=0o700)
    for server in SERVERS:
        folder = lab.path("pki", server.name)
        authority = Authority(folder, f"lab {lab.name} {server.name}")
        authority.issue("apiserver", "kube-apiserver", hosts=server_hosts(server))
        authority.issue("kubelet-client", "kube-apiserver-kubelet-client", ["system:masters"])
        if server.name == "cluster":
            authority.issue("kubelet", "kubelet", hosts=["198.18.0.10", *NODE_ADDRESSES])
            for name in ("controller-manager", "scheduler"):
                # RKE2's have these names only: who scrapes them at a node's address must say server_name
                authority.issue(f"{name}-serving", f"kube-{name}", hosts=LOOPBACK)
        Authority(folder / "front-proxy", f"lab {lab.name} {server.name} front proxy").issue("client", "front-proxy")
        if not (folder / "sa.key").exists():
            key = ec.generate_private_key(ec.SECP256R1())
            pem = key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            write(folder / "sa.pub", pem, 0o644)
            write_key(folder / "sa.key", key)
        lab.path("etc", server.name).mkdir(exist_ok=True)
        for file, (user, groups, servers) in USERS.items():
            if server.name in servers:
                authority.issue(file, user, groups)
                if file != "installer":
                    write(system_kubeconfig(lab, server.name, file), kubeconfig(folder, file, server.url), 0o600)
        outside = f"https://127.0.0.1:{ports[server.name]}"
        write(lab.path("kubeconfig", f"{server.name}.yaml"), kubeconfig(folder, "installer", outside), 0o600)
