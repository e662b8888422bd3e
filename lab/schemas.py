# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Which kinds the API servers know: upstream's schemas where they are at hand, else open ones from a table of kinds."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from lab import upstream
from lab.kube import Client, Object, Refused
from lab.settings import REPOSITORY, SOURCES, LabError

TABLE = SOURCES / "kinds.yaml"
UPSTREAM = REPOSITORY.parent / "shared" / "crds"

# What is there before the platform: RKE2 brings the cluster's, Harvester and Rancher their own. What a chart of the
# platform brings (cert-manager, CNPG, ...) is absent until that chart is installed, as on a real cluster.
GROUPS: Mapping[str, Sequence[str]] = {
    "cluster": (
        "gateway.networking.k8s.io",
        "traefik.io",
        "helm.cattle.io",
        "cilium.io",
        "snapshot.storage.k8s.io",
        "kwok.x-k8s.io",
    ),
    "harvester": ("harvesterhci.io", "kubevirt.io", "cdi.kubevirt.io", "k8s.cni.cncf.io", "longhorn.io"),
    "rancher": (
        "provisioning.cattle.io",
        "rke.cattle.io",
        "rke-machine-config.cattle.io",
        "cluster.x-k8s.io",
        "management.cattle.io",
        "rke-machine.cattle.io",
    ),
}
# Preflight checks read these on the real CRDs
ANNOTATIONS: Mapping[str, Mapping[str, str]] = {
    "gateway.networking.k8s.io": {
        "gateway.networking.k8s.io/bundle-version": "v1.4.1",
        "gateway.networking.k8s.io/channel": "standard",
        "api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/gateway-api",
    },
    "snapshot.storage.k8s.io": {"api-approved.kubernetes.io": "https://github.com/kubernetes-csi/external-snapshotter"},
}
# Never from upstream: the lab's own machinery, and what the emulated Rancher holds of its own
OWN = {"kwok.x-k8s.io", "management.cattle.io", "rke-machine.cattle.io"}
# Groups under *.k8s.io need an approval that open schemas cannot claim honestly
UNAPPROVED = "unapproved, an open schema of the lab"


def collect(groups: Iterable[str], beside: Path = UPSTREAM) -> tuple[list[Object], str]:
    """The CRDs of these groups and the one line that says where they came from."""
    found: list[Object] = []
    opened: list[str] = []
    places: set[str] = set()
    for group in groups:
        files = files_of(group, beside)
        if files:
            documents = (document for file in files for document in yaml.load_all(file.read_text(), _LOADER))
            found.extend(document for document in documents if document)
            places.add(str(files[0].parents[1]))
            continue
        kinds = yaml.safe_load(TABLE.read_text())
        if group not in kinds:
            raise LabError(f"Looking for the schemas of {group}: neither in {beside} nor in {TABLE}. Add its kinds.")
        found.extend(permissive(group, kind, entry) for kind, entry in kinds[group].items())
        if group not in OWN:
            opened.append(group)
    line = f"{len(found)} kinds" + (f" from {', '.join(sorted(places))}" if places else "")
    return found, line + (f"; open schemas for {', '.join(opened)}" if opened else "")


def files_of(group: str, beside: Path = UPSTREAM) -> list[Path]:
    """Upstream's files of a group: beside the repository, else in the cache; none where there are none."""
    kept = upstream.place(group)
    return sorted((beside / group).glob("*.yaml")) or (sorted(kept.glob("*.yaml")) if kept else [])


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _open(kind: str) -> Object:
    return {"type": kind, "x-kubernetes-preserve-unknown-fields": True}


def _key(schema: Object, path: Sequence[str], key: str) -> None:
    """Declare a list whose entries have owners of their own, by this key; an open list has one owner as a whole."""
    for name in path[:-1]:
        schema = schema.setdefault("properties", {}).setdefault(name, _open("object"))
    schema.setdefault("properties", {})[path[-1]] = {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": [key],
        "items": {**_open("object"), "required": [key], "properties": {key: {"type": "string"}}},
    }


def permissive(group: str, kind: str, entry: Mapping[str, Any]) -> Object:
    """A CRD that accepts any content, but for the lists which the table says are keyed."""
    subresources: Object = {}
    if entry.get("status"):
        subresources["status"] = {}
    if entry.get("scale"):
        subresources["scale"] = {"specReplicasPath": entry["scale"], "statusReplicasPath": ".status.replicas"}
    schema = _open("object")
    for path, key in entry.get("keyed", {}).items():
        _key(schema, path.split("."), key)
    annotations = dict(ANNOTATIONS.get(group, {}))
    if group.endswith((".k8s.io", ".kubernetes.io")) and "api-approved.kubernetes.io" not in annotations:
        annotations["api-approved.kubernetes.io"] = UNAPPROVED
    names = {"kind": kind, "plural": entry["plural"], "singular": kind.lower(), "listKind": f"{kind}List"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{entry['plural']}.{group}", "annotations": annotations},
        "spec": {
            "group": group,
            "names": {**names, **({"shortNames": entry["short"]} if "short" in entry else {})},
            "scope": "Cluster" if entry.get("cluster") else "Namespaced",
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": number == 0,
                    "schema": {"openAPIV3Schema": schema},
                    **({"subresources": subresources} if subresources else {}),
                }
                for number, version in enumerate(entry["versions"])
            ],
        },
    }


def install(client: Client, crds: Sequence[Object], seconds: float = 120.0) -> None:
    """Create all at once, then wait until every one is served."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

    def create(crd: Object) -> None:
        try:
            client.request("POST", path, crd)
        except Refused as error:
            if error.reason != "AlreadyExists":
                raise

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(create, crds))
    wanted = {crd["metadata"]["name"] for crd in crds}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        listed = client.request("GET", path)["items"]
        # conditions can be absent at first
        served = {
            crd["metadata"]["name"]
            for crd in listed
            for condition in crd.get("status", {}).get("conditions") or []
            if condition["type"] == "Established" and condition["status"] == "True"
        }
        if wanted <= served:
            return
        time.sleep(0.3)
    raise LabError(f"Installing schemas: not served after {seconds:.0f} s: {', '.join(sorted(wanted - served))}.")


def write(groups: Iterable[str], folder: Path) -> str:
    """CRD files for a stand-in chart."""
    crds, line = collect(groups)
    folder.mkdir(parents=True, exist_ok=True)
    for crd in crds:
        (folder / f"{crd['metadata']['name']}.yaml").write_text(yaml.safe_dump(crd, sort_keys=False, width=1000))
    return line
