# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What is wrong with the variables of the role rke2_node, each fault in one sentence that says the mend.

Pure functions of the variables that are set; none of them repeats a secret.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ._configuration import fault, nearest

Values = Mapping[str, Any]

# Family to the time daemons that its distributions have.
DAEMONS = {"redhat": ("chrony", "none"), "debian": ("chrony", "systemd-timesyncd", "none")}
RANCHER = "rancher-rke2-common-stable"
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\s(.*?)-----END CERTIFICATE-----", re.DOTALL)
# A name, or a group of dnf's.
PACKAGE = re.compile(r"@?[A-Za-z0-9][A-Za-z0-9+._:~-]*")
REPOSITORY = re.compile(r"[A-Za-z0-9_.:-]+")
SOURCES = ("baseurl", "metalink", "mirrorlist")
SETTING = re.compile(r"[a-z0-9_-]+([./][A-Za-z0-9_*-]+)+")
MODULE = re.compile(r"[A-Za-z0-9_-]+")
INTERFACE = re.compile(r"[A-Za-z0-9_.:*?-]+")
SIZE = re.compile(r"[1-9][0-9]*[KMGT]?")
# What RKE2 takes as a value that lets someone in.
SECRETS = {
    "token",
    "agent-token",
    "datastore-endpoint",
    "etcd-s3-access-key",
    "etcd-s3-secret-key",
    "etcd-s3-session-token",
}
PROXY = ("http", "https", "no_proxy")
# Keys of registries.yaml by depth: of the file, of a mirror, of a registry's configuration, of its two halves.
REGISTRIES = ("configs", "mirrors")
MIRROR = ("endpoint", "rewrite")
REGISTRY = {
    "auth": ("auth", "identity_token", "password", "username"),
    "tls": ("ca_file", "cert_file", "insecure_skip_verify", "key_file"),
}


def check(values: Values) -> list[str]:
    """Every fault of these variables."""
    parts = (_family, _certificates, _repositories, _proxy, _packages, _system, _kernel, _config, _registries)
    return [sentence for part in parts for sentence in part(values)]


def _unknown(where: str, keys: Any, known: Any) -> list[str]:
    faults = []
    for key in keys:
        if key not in known:
            guess = nearest(str(key), known)
            mend = f"did you mean {guess}?" if guess else f"there are {', '.join(sorted(known))}."
            faults.append(fault(f"{where} has '{key}', which means nothing there", mend))
    return faults


def _family(values: Values) -> list[str]:
    family = values.get("rke2_node_family", "redhat")
    if family not in DAEMONS:
        mend = f"choose one of {', '.join(sorted(DAEMONS))}; RKE2's nodes are redhat."
        return [fault(f"rke2_node_family is '{family}', of which no names are known", mend)]
    daemon = values.get("rke2_node_time_daemon")
    if daemon is not None and daemon not in DAEMONS[family]:
        mend = f"choose one of {', '.join(DAEMONS[family])}."
        return [fault(f"rke2_node_time_daemon is '{daemon}', which {family} does not have", mend)]
    return []


def _certificates(values: Values) -> list[str]:
    faults = []
    for name in ("rke2_node_root_ca_certificate", "rke2_node_mirror_ca_certificate"):
        why = _certificate(str(values.get(name) or ""))
        if why:
            mend = "give the whole PEM text, from its BEGIN to its END line."
            faults.append(fault(f"{name} {why}", mend))
    return faults


def _certificate(text: str) -> str:
    """Why it is no certificate; nothing if it is one, or is empty."""
    if "PRIVATE KEY" in text:
        return "holds a private key, which no node may have"
    bodies = CERTIFICATE.findall(text)
    if not text.strip() or (bodies and len(bodies) == text.count("-----BEGIN") and all(map(_whole, bodies))):
        return ""
    return "is cut off or damaged" if "-----BEGIN CERTIFICATE" in text else "is no certificate"


def _whole(body: str) -> bool:
    """Whether it is as long as it says: DER begins with a sequence and its length in two bytes."""
    try:
        data = base64.b64decode("".join(body.split()), validate=True)
    except binascii.Error:
        return False
    return data[:2] == b"\x30\x82" and len(data) == 4 + int.from_bytes(data[2:4], "big")


def _repositories(values: Values) -> list[str]:
    given = values.get("rke2_node_yum_repositories") or {}
    airgapped = values.get("rke2_node_airgapped", False)
    redhat = values.get("rke2_node_family", "redhat") == "redhat"
    faults = []
    for identity, repository in given.items():
        what = f"rke2_node_yum_repositories.{identity}"
        if not REPOSITORY.fullmatch(str(identity)):
            mend = "use letters, digits, '-', '_', '.' and ':' only."
            faults.append(fault(f"{what} is no id of a repository", mend))
        if not isinstance(repository, Mapping):
            faults.append(fault(f"{what} is no mapping", "give it dnf's settings, at least baseurl."))
        elif not any(repository.get(key) for key in SOURCES) and (airgapped or identity != RANCHER):
            faults.append(fault(f"{what} has no baseurl", "say where its packages are, such as https://mirror/rocky9."))
        else:
            faults += _repository(what, repository)
    if airgapped and redhat and not given:
        mend = "give the private mirrors as rke2_node_yum_repositories."
        faults.append(fault("rke2_node_airgapped leaves no package repository", mend))
    return faults


def _repository(what: str, repository: Mapping[str, Any]) -> list[str]:
    faults = []
    for key, value in repository.items():
        urls = value if isinstance(value, list) else [value]
        if str(key).endswith(("password", "username")) or any("@" in urlsplit(str(url)).netloc for url in urls):
            mend = "let the mirror serve the nodes' network without one: it would stand in user data."
            faults.append(fault(f"{what}.{key} holds a credential", mend))
        elif any("\n" in str(url) for url in urls):
            faults.append(fault(f"{what}.{key} has several lines", "write one, or a list."))
        elif key in SOURCES and not all(urlsplit(str(url)).scheme in ("http", "https", "ftp", "file") for url in urls):
            faults.append(
                fault(f"{what}.{key} is '{value}', which is no URL", "begin with https://, http:// or file://.")
            )
    return faults


def _proxy(values: Values) -> list[str]:
    proxy = values.get("rke2_node_proxy") or {}
    # YAML reads a bare `no` as false.
    known = {("no" if key is False else key): value for key, value in proxy.items()}
    faults = _unknown("rke2_node_proxy", known, PROXY)
    for key in ("http", "https"):
        parts = urlsplit(str(proxy.get(key) or ""))
        if parts.username or parts.password:
            mend = "let the proxy serve the nodes' network without one: it would stand in user data."
            faults.append(fault(f"rke2_node_proxy.{key} holds a credential", mend))
        elif proxy.get(key) and (parts.scheme not in ("http", "https") or not parts.hostname):
            mend = "write it like http://proxy.example.com:3128."
            faults.append(fault(f"rke2_node_proxy.{key} is '{proxy[key]}', which is no URL", mend))
    if any(character.isspace() for character in str(proxy.get("no_proxy") or "")):
        faults.append(fault("rke2_node_proxy.no_proxy has spaces", "put commas between the names, and nothing else."))
    return faults


def _packages(values: Values) -> list[str]:
    return [
        fault(f"rke2_node_extra_packages has '{name}', which is no name of a package", "list each name by itself.")
        for name in values.get("rke2_node_extra_packages") or []
        if not PACKAGE.fullmatch(str(name))
    ]


def _system(values: Values) -> list[str]:
    faults = []
    for name, pattern, what, mend in (
        ("rke2_node_kernel_modules", MODULE, "kernel module", "list each name by itself, without a path."),
        ("rke2_node_unmanaged_interfaces", INTERFACE, "interface", "write a name, or a pattern such as lxc*."),
    ):
        faults += [
            fault(f"{name} has '{value}', which is no {what}", mend)
            for value in values.get(name) or []
            if not pattern.fullmatch(str(value))
        ]
    size = values.get("rke2_node_journal_max_use", "1G")
    if not SIZE.fullmatch(str(size)):
        mend = "write it as systemd does, such as 500M or 1G."
        faults.append(fault(f"rke2_node_journal_max_use is '{size}', which is no size", mend))
    return faults


def _kernel(values: Values) -> list[str]:
    faults = []
    for name, value in (values.get("rke2_node_kernel_settings") or {}).items():
        what = f"rke2_node_kernel_settings has '{name}'"
        if not SETTING.fullmatch(str(name)):
            mend = "write it as sysctl does, such as vm.overcommit_memory: 1."
            faults.append(fault(f"{what}, which is no setting of the kernel", mend))
        elif (
            isinstance(value, bool)
            or not isinstance(value, int | str)
            or str(value).strip() == ""
            or "\n" in str(value)
        ):
            mend = "write a number, or a text of one line."
            faults.append(fault(f"{what} with a value that the kernel does not take", mend))
    return faults


def _config(values: Values) -> list[str]:
    mend = "take it out: it would stand in user data. Rancher gives its nodes what they need."
    return [
        fault(f"rke2_node_config.{key} is a secret", mend)
        for key, value in (values.get("rke2_node_config") or {}).items()
        if str(key).rstrip("+") in SECRETS or "@" in urlsplit(str(value)).netloc
    ]


def _registries(values: Values) -> list[str]:
    given = values.get("rke2_node_registries") or {}
    what = "rke2_node_registries"
    faults = _unknown(what, given, REGISTRIES)
    for name, mirror in (given.get("mirrors") or {}).items():
        faults += _unknown(f"{what}.mirrors.{name}", mirror or {}, MIRROR)
    for name, registry in (given.get("configs") or {}).items():
        where = f"{what}.configs.{name}"
        faults += _unknown(where, registry or {}, REGISTRY)
        for half, known in REGISTRY.items():
            faults += _unknown(f"{where}.{half}", (registry or {}).get(half) or {}, known)
    return faults
