# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""A cluster made through the lab's Rancher, with nothing but its URL, its token and its certificate."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import time
import uuid
from collections.abc import Callable
from typing import Any

from lab.kube import Client, Object, Refused
from lab.settings import Lab

DIRECTORY = Lab.from_environment().directory
FLEET = "fleet-default"
CLUSTERS = f"/apis/provisioning.cattle.io/v1/namespaces/{FLEET}/clusters"
CONFIGS = f"/apis/rke-machine-config.cattle.io/v1/namespaces/{FLEET}/harvesterconfigs"
MACHINES = f"/apis/cluster.x-k8s.io/v1beta1/namespaces/{FLEET}/machines"
IMAGES = "/apis/harvesterhci.io/v1beta1/namespaces/{}/virtualmachineimages"
NADS = "/apis/k8s.cni.cncf.io/v1/namespaces/{}/network-attachment-definitions"
VMS = "/apis/kubevirt.io/v1/namespaces/{}/virtualmachines"
VMIS = "/apis/kubevirt.io/v1/namespaces/{}/virtualmachineinstances"
USER_DATA = (
    "#cloud-config\npackages: [iptables]\nwrite_files:\n  - {path: /etc/lab, content: hello, permissions: '0644'}\n"
)
VERSION = "v1.34.8+rke2r2"


def wait(seen: Callable[[], Any], seconds: float = 60.0, what: str = "") -> Any:
    deadline = time.monotonic() + seconds
    last: Any = None
    while time.monotonic() < deadline:
        try:
            last = seen()
        except Refused as error:
            last = None
            what = f"{what}: {error}"[:500]
        if last:
            return last
        time.sleep(0.2)
    raise AssertionError(f"not seen after {seconds} s {what}: {last}")


class Rancher:
    """By HTTPS from the host, verified with the lab's certificate."""

    def __init__(self, token: str | None = None) -> None:
        self.port = json.loads((DIRECTORY / "ports.json").read_text())["rancher-https"]
        self.token = token or (DIRECTORY / "rancher-token").read_text().strip()
        self.context = ssl.create_default_context(cafile=str(DIRECTORY / "rancher-ca.crt"))

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def call(self, method: str, path: str, body: Any = None, timeout: float = 30) -> tuple[int, Any]:
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=self.context, timeout=timeout)
        try:
            headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        parsed: Any = json.loads(text) if answer.headers.get_content_type() == "application/json" else text.decode()
        return answer.status, parsed

    def get(self, path: str) -> Any:
        status, body = self.call("GET", path)
        assert status == 200, body
        return body

    def kubeconfig(self, identity: str) -> str:
        status, body = self.call("POST", f"/v3/clusters/{identity}?action=generateKubeconfig")
        assert status == 200, body
        return str(body["config"])

    def client(self, identity: str) -> Client:
        """A client through the proxy with the installer's own token."""
        authority = base64.b64encode((DIRECTORY / "rancher-ca.crt").read_bytes()).decode()
        cluster = {"server": f"{self.url}/k8s/clusters/{identity}", "certificate-authority-data": authority}
        content = {
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": self.token}}],
        }
        return Client(json.dumps(content))

    def harvester(self) -> str:
        return str(self.get("/v3/clusters?name=harvester")["data"][0]["id"])


class Made:
    """One test's cluster."""

    def __init__(self, rancher: Rancher, pools: dict[str, int], **config: Any) -> None:
        self.rancher = rancher
        self.name = f"t-{uuid.uuid4().hex[:6]}"
        self.local = rancher.client("local")
        self.harvester = rancher.client(rancher.harvester())
        self.pools = pools
        self.config = config
        self.credential = ""

    def infrastructure(self, image_url: str = "https://images.example.com/rocky.qcow2") -> None:
        name, harvester = self.name, self.harvester
        harvester.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        network = {
            "apiVersion": "k8s.cni.cncf.io/v1",
            "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": "vm-network"},
            "spec": {"config": json.dumps({"cniVersion": "0.3.1", "type": "bridge", "bridge": "mgmt-br"})},
        }
        harvester.request("POST", NADS.format(name), network)
        image = {
            "apiVersion": "harvesterhci.io/v1beta1",
            "kind": "VirtualMachineImage",
            "metadata": {"name": "rocky9"},
            "spec": {"displayName": "rocky9", "sourceType": "download", "url": image_url},
        }
        harvester.request("POST", IMAGES.format(name), image)

    def credentials(self) -> None:
        data = {
            "harvestercredentialConfig-clusterId": self.rancher.harvester(),
            "harvestercredentialConfig-clusterType": "imported",
            "harvestercredentialConfig-kubeconfigContent": self.rancher.kubeconfig(self.rancher.harvester()),
        }
        body = {"metadata": {"generateName": "cc-"}, "type": "Opaque", "stringData": data}
        made = self.local.request("POST", "/api/v1/namespaces/cattle-global-data/secrets", body)
        self.credential = made["metadata"]["name"]

    def machine_config(self, pool: str, **changes: Any) -> Object:
        disks = {
            "disks": [{"imageName": f"{self.name}/rocky9", "size": 20, "bootOrder": 1, "bus": "virtio", "type": "disk"}]
        }
        return {
            "apiVersion": "rke-machine-config.cattle.io/v1",
            "kind": "HarvesterConfig",
            "metadata": {"name": f"{self.name}-{pool}", "namespace": FLEET},
            "vmNamespace": self.name,
            "cpuCount": "2",
            "memorySize": "4",
            "diskInfo": json.dumps(disks),
            "networkInfo": json.dumps({"interfaces": [{"networkName": f"{self.name}/vm-network", "model": "virtio"}]}),
            "userData": USER_DATA,
            "sshUser": "rocky",
            "enableEfi": True,
            **changes,
        }

    def pool(self, name: str, quantity: int) -> Object:
        plane = name == "controlplane"
        return {
            "name": name,
            "quantity": quantity,
            "controlPlaneRole": plane,
            "etcdRole": plane,
            "workerRole": not plane,
            "machineConfigRef": {"kind": "HarvesterConfig", "name": f"{self.name}-{name}"},
            "drainBeforeDelete": True,
            "rollingUpdate": {"maxSurge": "1", "maxUnavailable": "0"},
        }

    def cluster(self) -> Object:
        selectors = [
            {
                "machineLabelSelector": {"matchLabels": {"rke.cattle.io/rke-machine-pool-name": name}},
                "config": {"node-label": [f"workload-type={name}"]},
            }
            for name in self.pools
            if name != "controlplane"
        ]
        return {
            "apiVersion": "provisioning.cattle.io/v1",
            "kind": "Cluster",
            "metadata": {"name": self.name, "namespace": FLEET},
            "spec": {
                "kubernetesVersion": VERSION,
                "cloudCredentialSecretName": f"cattle-global-data:{self.credential}",
                "rkeConfig": {
                    "machinePools": [self.pool(name, quantity) for name, quantity in self.pools.items()],
                    "machineGlobalConfig": {"cni": "cilium"},
                    "machineSelectorConfig": selectors,
                    "upgradeStrategy": {"controlPlaneConcurrency": "1", "workerConcurrency": "1"},
                    **self.config,
                },
            },
        }

    def make(self, **changes: Any) -> None:
        self.infrastructure()
        self.credentials()
        for pool in self.pools:
            self.local.request("POST", CONFIGS, self.machine_config(pool, **changes))
        self.local.request("POST", CLUSTERS, self.cluster())

    def get(self) -> Object:
        found: Object = self.local.request("GET", f"{CLUSTERS}/{self.name}")
        return found

    def identity(self) -> str:
        return str(wait(lambda: (self.get().get("status") or {}).get("clusterName"), 10, "clusterName"))

    def condition(self, kind: str) -> Object:
        found = (self.get().get("status") or {}).get("conditions") or []
        return next((entry for entry in found if entry["type"] == kind), {})

    def settled(self, seconds: float = 90) -> None:
        """Ready and Updated, for what the Cluster says now."""

        def seen() -> bool:
            cluster = self.get()
            status = cluster.get("status") or {}
            good = {one["type"] for one in status.get("conditions") or [] if one["status"] == "True"}
            new = status.get("observedGeneration") == cluster["metadata"]["generation"]
            return bool(status.get("ready")) and new and {"Ready", "Updated", "Provisioned"} <= good

        wait(seen, seconds, "cluster settled")

    def machines(self, pool: str | None = None) -> list[Object]:
        label = f"cluster.x-k8s.io/cluster-name={self.name}"
        if pool:
            label += f",rke.cattle.io/rke-machine-pool-name={pool}"
        found: list[Object] = self.local.request("GET", MACHINES, query={"labelSelector": label})["items"]
        return found

    def nodes(self, pool: str | None = None) -> list[Object]:
        everything = self.rancher.client(self.identity()).request("GET", "/api/v1/nodes")["items"]
        return [
            node
            for node in everything
            if node["metadata"]["annotations"].get("cluster.x-k8s.io/cluster-name") == self.name
            and pool in (None, node["metadata"]["labels"]["rke.cattle.io/rke-machine-pool-name"])
        ]

    def virtual(self) -> list[Object]:
        found: list[Object] = self.harvester.request("GET", VMS.format(self.name))["items"]
        return found

    def scale(self, pool: str, quantity: int) -> None:
        cluster = self.get()
        for entry in cluster["spec"]["rkeConfig"]["machinePools"]:
            if entry["name"] == pool:
                entry["quantity"] = quantity
        self.local.request("PUT", f"{CLUSTERS}/{self.name}", cluster)

    def destroy(self, seconds: float = 60) -> None:
        self.local.delete(f"{CLUSTERS}/{self.name}")
        wait(lambda: self.local.get(f"{CLUSTERS}/{self.name}") is None, seconds, "cluster gone")

    def clean(self) -> None:
        """Whatever the test left, by force of the ordinary API."""
        self.local.delete(f"{CLUSTERS}/{self.name}")
        wait(lambda: self.local.get(f"{CLUSTERS}/{self.name}") is None, 60, "cluster gone")
        for machine in self.harvester.request("GET", VMS.format(self.name))["items"]:
            self.harvester.delete(f"{VMS.format(self.name)}/{machine['metadata']['name']}")
        if self.credential:
            self.local.delete(f"/api/v1/namespaces/cattle-global-data/secrets/{self.credential}")
        self.harvester.delete(f"/api/v1/namespaces/{self.name}")
