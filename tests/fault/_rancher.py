# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Clusters that phase 0 makes through the lab's Rancher, what Rancher and Harvester then have, and Rancher's faults."""

from __future__ import annotations

import contextlib
import json
import pathlib
import re
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from ansible_collections.harvester_rke2.platform.plugins.module_utils._kube_client import MERGE, KubeClient
from ansible_collections.harvester_rke2.platform.plugins.module_utils._rancher import Rancher
from ansible_collections.harvester_rke2.platform.plugins.module_utils._rancher_cluster import POOL_LABEL

from tests.fault._site import Run, Running, Site, until

FLEET = "fleet-default"
CLUSTERS = f"/apis/provisioning.cattle.io/v1/namespaces/{FLEET}/clusters"
CONFIGS = f"/apis/rke-machine-config.cattle.io/v1/namespaces/{FLEET}/harvesterconfigs"
MACHINES = f"/apis/cluster.x-k8s.io/v1beta1/namespaces/{FLEET}/machines"
TOKENS = "/apis/management.cattle.io/v3/tokens"
IMAGES = "/apis/harvesterhci.io/v1beta1/namespaces/default/virtualmachineimages"
VMS = "/apis/kubevirt.io/v1/namespaces/{}/virtualmachines"
VMIS = "/apis/kubevirt.io/v1/namespaces/{}/virtualmachineinstances"
CLAIMS = "/api/v1/namespaces/{}/persistentvolumeclaims"
SECRETS = "/api/v1/namespaces/{}/secrets"
WAIT = "Wait until the cluster is there"
# One node a pool: what is tested is the way there, not the size. Vault must fit onto its pool.
SMALL = {
    "controlplane": {"minimum": 1, "maximum": 1, "cpu": 4, "memory_gib": 8, "disk_gib": 40, "control_plane": True},
    "general": {"minimum": 1, "maximum": 10, "cpu": 4, "memory_gib": 8, "disk_gib": 60},
    "compute": {"minimum": 0, "maximum": 10, "cpu": 8, "memory_gib": 32, "disk_gib": 80},
    "database": {"minimum": 1, "maximum": 10, "cpu": 4, "memory_gib": 16, "disk_gib": 80},
}


class Cluster:
    """One cluster by name. ``pools`` None is the reference cluster."""

    def __init__(self, site: Site, name: str, pools: dict[str, Any] | None = SMALL) -> None:
        self.site, self.name = site, name
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{name}-"))
        self.variables: dict[str, Any] = {
            "platform_cluster_name": name,
            "platform_kubeconfig": str(self.folder / "kubeconfig.yaml"),
        }
        if pools is not None:
            self.variables |= {"platform_pools": pools, "vault_replicas": 1}

    # --- runs

    def words(self, *arguments: str, **variables: Any) -> list[str]:
        return ["--tags", "phase0", "-e", json.dumps(self.variables | variables), *arguments]

    def start(self, *arguments: str, **variables: Any) -> Running:
        return self.site.start(*self.words(*arguments, **variables))

    def run(self, *arguments: str, **variables: Any) -> Run:
        return self.start(*arguments, **variables).finish()

    def made(self, **variables: Any) -> Run:
        run = self.run(**variables)
        assert run.returncode == 0, run.tail
        return run

    def refused(self, *arguments: str, **variables: Any) -> str:
        """What the run says that fails."""
        run = self.run(*arguments, **variables)
        assert run.returncode == 2, run.tail
        return run.said

    def converges(self, **variables: Any) -> None:
        """The next run is through, the one after it changes nothing."""
        self.made(**variables)
        again = self.run(**variables)
        assert again.returncode == 0 and again.changed == 0, again.tail
        self.sound()

    # --- what is there

    @property
    def rancher(self) -> KubeClient:
        return self.site.client("rancher")

    def cluster(self) -> dict[str, Any] | None:
        return self.rancher.get_or_none(f"{CLUSTERS}/{self.name}")

    def pool(self, name: str) -> dict[str, Any]:
        found = self.cluster()
        assert found is not None
        pools = found["spec"]["rkeConfig"]["machinePools"]
        return next(dict(pool) for pool in pools if pool["name"] == name)

    def machines(self, pool: str = "") -> list[dict[str, Any]]:
        wanted = f"cluster.x-k8s.io/cluster-name={self.name}" + (f",{POOL_LABEL}={pool}" if pool else "")
        return list(self.rancher.request("GET", MACHINES, query={"labelSelector": wanted})["items"])

    def on_harvester(self, kind: str) -> list[dict[str, Any]]:
        return list((self.site.harvester.get_or_none(kind.format(self.name)) or {}).get("items") or [])

    def nodes(self) -> list[str]:
        """Of this cluster: all clusters of a lab share one API server."""
        nodes = self.site.cluster.request("GET", "/api/v1/nodes")["items"]
        return sorted(n["metadata"]["name"] for n in nodes if n["metadata"]["name"].startswith(f"{self.name}-"))

    def kubeconfig_tokens(self) -> list[str]:
        """Names of the tokens that were made for this cluster."""
        found = self.cluster() or {}
        identity = (found.get("status") or {}).get("clusterName")
        tokens = self.rancher.request("GET", TOKENS)["items"]
        return sorted(
            token["metadata"]["name"] for token in tokens if identity and token.get("clusterName") == identity
        )

    def sound(self) -> None:
        """One of everything and nothing besides."""
        kubeconfig = pathlib.Path(self.variables["platform_kubeconfig"])
        token = re.search(r"token: (token-\w+):", kubeconfig.read_text())
        assert token and self.kubeconfig_tokens() == [token[1]]
        assert kubeconfig.stat().st_mode & 0o777 == 0o600
        left = [file.name for file in kubeconfig.parent.iterdir() if file.name.startswith(f".{kubeconfig.name}")]
        assert not left, left
        names = sorted(machine["metadata"]["name"] for machine in self.machines())
        found = self.cluster()
        assert found is not None
        pools = found["spec"]["rkeConfig"]["machinePools"]
        assert len(names) == sum(pool["quantity"] for pool in pools)
        assert sorted(vm["metadata"]["name"] for vm in self.on_harvester(VMS)) == names == self.nodes()
        configs = {item["metadata"]["name"] for item in self.rancher.request("GET", CONFIGS)["items"]}
        assert {name for name in configs if self._mine(name)} == {f"{self.name}-{pool['name']}" for pool in pools}
        secrets = {(space, n) for space in (FLEET, "cattle-global-data") for n in self._names(SECRETS.format(space))}
        wanted = {(FLEET, f"{self.name}-cloud-config"), ("cattle-global-data", f"cc-{self.name}")}
        assert {(space, name) for space, name in secrets if self._mine(name.removeprefix("cc-"))} == wanted
        accounts = {item["metadata"]["name"] for item in self.on_harvester("/api/v1/namespaces/{}/serviceaccounts")}
        assert accounts == {"default", f"{self.name}-cloud-provider"}

    def _mine(self, name: str) -> bool:
        return name == self.name or name.startswith(f"{self.name}-")

    def _names(self, path: str) -> list[str]:
        return [str(item["metadata"]["name"]) for item in self.rancher.request("GET", path)["items"]]

    # --- what others do

    def scale(self, pool: str, change: Callable[[int], int]) -> int:
        """As the autoscaler: read the Cluster, write it whole, again when somebody was quicker. Returns the number."""
        while True:
            found = self.cluster()
            assert found is not None
            entry = next(one for one in found["spec"]["rkeConfig"]["machinePools"] if one["name"] == pool)
            entry["quantity"] = change(entry["quantity"])
            query = {"fieldManager": "cluster-autoscaler"}
            with contextlib.suppress(Exception):
                self.rancher.request("PUT", f"{CLUSTERS}/{self.name}", body=found, query=query)
                return int(entry["quantity"])

    def edit(self, body: dict[str, Any], manager: str = "kubectl-edit") -> None:
        path, query = f"{CLUSTERS}/{self.name}", {"fieldManager": manager}
        self.rancher.request("PATCH", path, body=body, content_type=MERGE, query=query)

    def remove(self) -> None:
        """The Cluster, and whatever is left on Harvester."""
        self.rancher.delete(f"{CLUSTERS}/{self.name}")
        until(lambda: self.cluster() is None, f"{self.name} gone")
        for vm in self.on_harvester(VMS):
            self.site.harvester.delete(f"{VMS.format(self.name)}/{vm['metadata']['name']}")
        until(lambda: not self.on_harvester(VMS), f"machines of {self.name} gone")


def connection(site: Site) -> dict[str, str]:
    """Rancher as a module on the host reaches it."""
    port = json.loads((site.directory / "ports.json").read_text())["rancher-https"]
    return {
        "rancher_url": f"https://127.0.0.1:{port}",
        "rancher_token": (site.directory / "rancher-token").read_text().strip(),
        "rancher_ca_certificate": str(site.directory / "rancher-ca.crt"),
    }


def rancher_call(site: Site, method: str, path: str, body: object = None) -> Any:
    """Rancher's own API and its proxy, as the installer."""
    return Rancher.from_options(connection(site)).client.request(method, path, body=body)


class Faults:
    """The lab's faults by name (lab/README.md); times count from here."""

    def __init__(self, site: Site) -> None:
        self.file = site.directory / "faults.json"

    def set(self, **values: Any) -> None:
        part = self.file.with_name("faults.part")
        part.write_text(json.dumps(values))
        part.replace(self.file)

    def none(self) -> None:
        self.file.unlink(missing_ok=True)

    @contextlib.contextmanager
    def on(self, **values: Any) -> Iterator[None]:
        self.set(**values)
        try:
            yield
        finally:
            self.none()
