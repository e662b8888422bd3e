# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What a HarvesterConfig says, read as the node driver reads it, and the hash that decides whether a pool rolls."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from lab.kube import Object

# not of the driver's schema, so not part of the machine template
BESIDE = {"apiVersion", "kind", "metadata", "common", "status"}
AGENT_PACKAGE = "qemu-guest-agent"


class BadConfig(Exception):
    """The node driver would end with this."""


@dataclass(frozen=True)
class Disk:
    image: str = ""
    size: int = 0
    boot_order: int = 0
    bus: str = "virtio"
    kind: str = "disk"
    storage_class: str = ""


@dataclass(frozen=True)
class Interface:
    network: str
    mac: str = ""
    model: str = "virtio"
    kind: str = "bridge"


@dataclass(frozen=True)
class MachineConfig:
    namespace: str
    cpu: int
    memory: int  # GiB
    disks: list[Disk] = field(default_factory=list)
    interfaces: list[Interface] = field(default_factory=list)
    ssh_user: str = ""
    user_data: str = ""
    network_data: str = ""
    affinity: Object | None = None
    efi: bool = False
    secure_boot: bool = False
    tpm: bool = False


def plain(text: str) -> str:
    """The driver takes plain text or base64."""
    try:
        decoded = base64.b64decode(text.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return text
    return decoded if text.strip() else text


def _json(item: Mapping[str, Any], name: str, inner: str) -> list[dict[str, Any]]:
    text = str(item.get(name) or "")
    if not text:
        return []
    try:
        found = json.loads(plain(text))
        entries = found[inner]
    except (ValueError, KeyError, TypeError) as error:
        raise BadConfig(f"{name}: {type(error).__name__}: {error}") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise BadConfig(f"{name}: {inner} is not a list of objects")
    return entries


def _number(item: Mapping[str, Any], name: str, default: int) -> int:
    text = str(item.get(name) or default)
    try:
        return int(text)
    except ValueError as error:
        raise BadConfig(f'invalid value "{text}" for flag {name}: parse error') from error


def read(item: Object) -> MachineConfig:
    namespace = str(item.get("vmNamespace") or "default")
    disks = [
        Disk(
            image=str(entry.get("imageName") or ""),
            size=int(entry.get("size") or 0),
            boot_order=int(entry.get("bootOrder") or 0),
            bus=str(entry.get("bus") or "virtio"),
            kind=str(entry.get("type") or "disk"),
            storage_class=str(entry.get("storageClassName") or ""),
        )
        for entry in _json(item, "diskInfo", "disks")
    ]
    if not disks and item.get("imageName"):
        disks = [Disk(str(item["imageName"]), _number(item, "diskSize", 40), 1, str(item.get("diskBus") or "virtio"))]
    interfaces = [
        Interface(
            network=str(entry.get("networkName") or ""),
            mac=str(entry.get("macAddress") or ""),
            model=str(entry.get("model") or "virtio"),
            kind=str(entry.get("type") or "bridge"),
        )
        for entry in _json(item, "networkInfo", "interfaces")
    ]
    if not interfaces and item.get("networkName"):
        interfaces = [Interface(str(item["networkName"]), model=str(item.get("networkModel") or "virtio"))]
    if not disks:
        raise BadConfig("must specify diskInfo or imageName")
    if not interfaces:
        raise BadConfig("must specify networkInfo or networkName")
    if any(disk.size <= 0 for disk in disks):
        raise BadConfig("disk size must be greater than zero")
    affinity = plain(str(item.get("vmAffinity") or ""))
    return MachineConfig(
        namespace=namespace,
        cpu=_number(item, "cpuCount", 2),
        memory=_number(item, "memorySize", 4),
        disks=disks,
        interfaces=interfaces,
        ssh_user=str(item.get("sshUser") or ""),
        user_data=plain(str(item.get("userData") or "")),
        network_data=plain(str(item.get("networkData") or "")),
        affinity=json.loads(affinity) if affinity else None,
        efi=bool(item.get("enableEfi")),
        secure_boot=bool(item.get("enableSecureBoot")),
        tpm=bool(item.get("enableTpm")),
    )


def pruned(value: Any) -> Any:
    """Without what is empty: leaving a field out and setting it to nothing is one template."""
    if isinstance(value, Mapping):
        kept = {key: pruned(inner) for key, inner in value.items()}
        return {key: inner for key, inner in kept.items() if inner not in (None, "", {}, [])}
    if isinstance(value, list):
        return [pruned(inner) for inner in value]
    return value


def template(item: Object) -> dict[str, Any]:
    """The part of a machine config that becomes the machine template: all but `common`."""
    kept: dict[str, Any] = pruned({key: value for key, value in item.items() if key not in BESIDE})
    return {key: value for key, value in kept.items() if value is not False}


def digest(name: str, item: Object) -> str:
    """Eight letters in the template's name: another one means that every machine of the pool is replaced."""
    text = name + json.dumps(template(item), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def merged(config: MachineConfig, install: str) -> str:
    """The user data that the machine gets: the driver's own, the user's, and Rancher's installer."""
    own: dict[str, Any] = {
        "package_update": True,
        "packages": [AGENT_PACKAGE],
        "runcmd": [["systemctl", "enable", "--now", AGENT_PACKAGE]],
    }
    try:
        given = yaml.safe_load(config.user_data) if config.user_data else {}
    except yaml.YAMLError as error:
        raise BadConfig(f"userData: error converting YAML to JSON: {error}") from error
    if not isinstance(given, dict):
        raise BadConfig("userData: error unmarshaling JSON: not a mapping")
    for key, value in given.items():
        if isinstance(own.get(key), list) and isinstance(value, list):
            own[key] = [*own[key], *value]
        else:
            own.setdefault(key, value)
    path = "/usr/local/custom_script/install.sh"
    script = {
        "path": path,
        "permissions": "0644",
        "encoding": "b64",
        "content": base64.b64encode(install.encode()).decode(),
    }
    own["write_files"] = [*(own.get("write_files") or []), script]
    own["runcmd"] = [*(own.get("runcmd") or []), f"sh {path}"]
    return "#cloud-config\n" + yaml.safe_dump(own, sort_keys=True, width=1000)
