# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Names, addresses and times of the emulated Rancher and Harvester."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from lab.settings import DOMAIN, Lab, LabError

NAME = f"rancher.{DOMAIN}"
ADDRESS = "198.18.0.4"
PORT = 443
URL = f"https://{NAME}"
WEBHOOK_ADDRESS = "198.18.0.5"
WEBHOOK_PORT = 9443
WEBHOOK = "rancher-webhook"
WEBHOOK_NAMESPACE = "cattle-system"
VERSION = "v2.13.1"
# of RKE2, that this Rancher can install
RELEASES = (
    *("v1.33.12+rke2r1", "v1.34.7+rke2r1", "v1.34.8+rke2r1", "v1.34.8+rke2r2", "v1.34.9+rke2r1"),
    *("v1.35.4+rke2r1", "v1.35.5+rke2r1", "v1.36.1+rke2r1"),
)

USER = "user-lab01"  # the one administrator, as lab/manifests/objects/rancher.yaml has it
GROUPS = ("system:authenticated", "system:cattle:authenticated")
TOKEN = "token-lab01"
SCALER = "user-lab02"  # the cluster autoscaler's, who has no rights but those that the platform gives it
SCALER_TOKEN = "token-lab02"
TOKEN_DAYS = 90

HARVESTER_ID = "c-m-hvst4lab"
FLEET = "fleet-default"
CREDENTIALS = "cattle-global-data"

SERVER = "rancher-server"
CONTROLLERS = "rancher-controllers"
DAEMONS = (SERVER, CONTROLLERS)
PORT_NAME = "rancher-https"  # in ports.json

MODES = ("seeded", "rancher")


def kept_mode(files: Files) -> str:
    """As the lab was started first; nothing when it was not."""
    return files.mode.read_text() if files.mode.exists() else ""


def nodes_mode(files: Files) -> str:
    """Who makes the reference cluster's nodes: the lab at its start, or Rancher from a Cluster object."""
    if kept := kept_mode(files):
        return kept
    mode = os.environ.get("LAB_NODES") or "rancher"
    if mode not in MODES:
        raise LabError(f"Reading LAB_NODES: {mode!r} is unknown. Take one of: {', '.join(MODES)}.")
    return mode


@dataclass(frozen=True)
class Times:
    """Seconds that things take; LAB_RANCHER_TIMES='{"boot": 3}' at the start of a lab changes some."""

    image: float = 1.5  # downloading an image
    start: float = 0.4  # from a virtual machine object to a running instance
    boot: float = 1.2  # until the guest's agent reports and Rancher's agent checks in
    join: float = 0.8  # until the plan is applied and the node is there
    upgrade: float = 0.8  # of one node to another version
    snapshot: float = 0.5  # of etcd
    stop: float = 0.6  # a virtual machine's end
    orphan: float = 6.0  # how long the deletion of a machine is tried without a credential that works
    eviction: float = 1.0  # between two attempts to evict a pod that a budget protects

    @classmethod
    def read(cls, file: Path) -> Times:
        return cls(**json.loads(file.read_text())) if file.exists() else cls()


def times_from_environment(environment: Mapping[str, str]) -> str:
    given = json.loads(environment.get("LAB_RANCHER_TIMES") or "{}")
    unknown = set(given) - {entry.name for entry in fields(Times)}
    if unknown:
        known = ", ".join(entry.name for entry in fields(Times))
        raise LabError(f"Reading LAB_RANCHER_TIMES: unknown {', '.join(sorted(unknown))}. Known: {known}.")
    return json.dumps(asdict(Times(**given)), indent=2)


@dataclass(frozen=True)
class Files:
    """What a user or the inventory reads, all in the lab's directory."""

    directory: Path

    @classmethod
    def of(cls, lab: Lab) -> Files:
        return cls(lab.directory)

    @property
    def authority(self) -> Path:
        return self.directory / "rancher-ca.crt"

    @property
    def bundle(self) -> Path:
        return self.directory / "ca.crt"

    @property
    def token(self) -> Path:
        return self.directory / "rancher-token"

    @property
    def scaler_token(self) -> Path:
        return self.directory / "rancher-autoscaler-token"

    @property
    def faults(self) -> Path:
        return self.directory / "faults.json"

    @property
    def times(self) -> Path:
        return self.directory / "etc" / "rancher-times.json"

    @property
    def mode(self) -> Path:
        return self.directory / "etc" / "nodes"

    @property
    def audit(self) -> Path:
        return self.directory / "audit" / "rancher-server.log"

    @property
    def pki(self) -> Path:
        return self.directory / "pki" / "rancher-server"

    def kubeconfig(self, server: str, user: str) -> Path:
        return self.directory / "etc" / server / f"{user}.kubeconfig"
