# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Where a lab keeps its things and which addresses it uses."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCES = Path(__file__).resolve().parent

# 198.18.0.0/15 is the benchmark range: nobody's real network uses it.
LOCAL_RANGE = "198.18.0.0/17"  # control plane, nodes and simulated pods: local to the lab's namespace
REAL_POD_RANGE = "198.18.128.0/17"  # pods that run for real, each in a namespace of its own: must not be local
CLUSTER_RANGE = "198.18.0.0/16"
SERVICE_RANGE = "198.19.0.0/16"
GATEWAY = "198.18.0.10"  # the node side of every real pod
DNS_SERVER = "198.18.0.53"
DNS_SERVICE = "198.19.0.10"
LOAD_BALANCER_POOL = ("198.18.1.2", "198.18.1.20")
LOAD_BALANCER = LOAD_BALANCER_POOL[0]
ETCD = "http://127.0.0.1:2379"
CLUSTER_DOMAIN = "cluster.local"
DOMAIN = "lab.example.com"
CLUSTER_NAME = "platform-lab"  # as inventories/lab names it


class LabError(Exception):
    """A sentence for the user: what was being done, why it failed, what to do."""


@dataclass(frozen=True)
class Server:
    """One of the three API servers."""

    name: str
    address: str
    services: str

    @property
    def url(self) -> str:
        return f"https://{self.address}:6443"

    @property
    def first_service(self) -> str:
        network = self.services.split("/")[0]
        return network.rsplit(".", 1)[0] + ".1"


SERVERS = (
    Server("cluster", "198.18.0.1", "198.19.0.0/20"),
    Server("harvester", "198.18.0.2", "198.19.16.0/20"),
    Server("rancher", "198.18.0.3", "198.19.32.0/20"),
)
CLUSTER = SERVERS[0]


@dataclass(frozen=True)
class Lab:
    """One lab of one checkout; several live side by side under different names."""

    name: str
    repository: Path = REPOSITORY

    @classmethod
    def from_environment(cls) -> Lab:
        name = os.environ.get("LAB_NAME") or "lab"
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?", name):
            raise LabError(
                f"Naming the lab {name!r}: LAB_NAME takes up to 32 lower-case letters, digits and hyphens. Mend it."
            )
        return cls(name)

    @property
    def directory(self) -> Path:
        return self.repository / (".lab" if self.name == "lab" else f".lab-{self.name}")

    @property
    def namespace(self) -> str:
        """Unique on the machine, so that two clones with a lab of the same name do not meet."""
        digest = hashlib.sha256(str(self.directory).encode()).hexdigest()[:8]
        return f"lab-{self.name[:20]}-{digest}"

    def path(self, *parts: str) -> Path:
        return self.directory.joinpath(*parts)


def cache() -> Path:
    """What survives `make clean`: programs and snapshots, by version and digest."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "harvester_rke2"
