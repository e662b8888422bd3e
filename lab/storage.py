# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Volumes of StorageClass `harvester`: folders of the lab's state directory, bound by the real controller-manager."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from lab.kube import Client, Object, Refused
from lab.mirror import Store

PROVISIONER = "driver.harvesterhci.io"
PATHS = {
    "claims": "/api/v1/persistentvolumeclaims",
    "volumes": "/api/v1/persistentvolumes",
    "classes": "/apis/storage.k8s.io/v1/storageclasses",
}
NODE = "volume.kubernetes.io/selected-node"
SUFFIXES = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "": 1}


def controller(folder: Path) -> Callable[[Client, Mapping[str, Store]], None]:
    def act(client: Client, stores: Mapping[str, Store]) -> None:
        classes = {name: item for name, item in stores["classes"].items() if item["provisioner"] == PROVISIONER}
        for claim in stores["claims"].values():
            kind = classes.get(str(claim["spec"].get("storageClassName")))
            if kind is None or "deletionTimestamp" in claim["metadata"]:
                continue
            phase = claim.get("status", {}).get("phase")
            if phase == "Bound":
                _grow(client, claim, stores["volumes"], kind)
            elif volume_name(claim) not in stores["volumes"]:
                _provision(client, claim, kind, folder)
        for volume in stores["volumes"].values():
            if provisioned_here(volume) and finished(volume):
                client.delete(f"/api/v1/persistentvolumes/{volume['metadata']['name']}")
                shutil.rmtree(folder / volume["metadata"]["name"], ignore_errors=True)

    return act


def volume_name(claim: Object) -> str:
    return f"pvc-{claim['metadata']['uid']}"


def provisioned_here(volume: Object) -> bool:
    annotations = volume["metadata"].get("annotations") or {}
    return bool(annotations.get("pv.kubernetes.io/provisioned-by") == PROVISIONER)


def finished(volume: Object) -> bool:
    phase = volume.get("status", {}).get("phase")
    return bool(phase == "Released" and volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete")


def refusal(claim: Object) -> str:
    """Why Harvester's driver would not make this volume; empty when it would."""
    modes = claim["spec"].get("accessModes") or []
    if "ReadWriteMany" in modes and claim["spec"].get("volumeMode", "Filesystem") == "Filesystem":
        return "ReadWriteMany needs a StorageClass of Harvester with a networkfilesystem parameter"
    return ""


def _provision(client: Client, claim: Object, kind: Object, folder: Path) -> None:
    meta, spec = claim["metadata"], claim["spec"]
    waits = kind.get("volumeBindingMode") == "WaitForFirstConsumer"
    if waits and NODE not in (meta.get("annotations") or {}):
        return
    why = refusal(claim)
    if why:
        _warn(client, claim, why)
        return
    name = volume_name(claim)
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER}},
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "persistentVolumeReclaimPolicy": kind.get("reclaimPolicy", "Delete"),
            "storageClassName": kind["metadata"]["name"],
            "volumeMode": spec.get("volumeMode", "Filesystem"),
            "hostPath": {"path": str(place), "type": "DirectoryOrCreate"},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": meta["namespace"],
                "name": meta["name"],
                "uid": meta["uid"],
            },
        },
    }
    try:
        client.request("POST", "/api/v1/persistentvolumes", volume)
    except Refused as error:
        if error.reason != "AlreadyExists":
            raise


def _grow(client: Client, claim: Object, volumes: Store, kind: Object) -> None:
    """Expansion is done at once; the API server itself refuses to shrink, and to grow where the class forbids it."""
    wanted = str(claim["spec"]["resources"]["requests"]["storage"])
    now = str(claim.get("status", {}).get("capacity", {}).get("storage", "0"))
    volume = volumes.get(str(claim["spec"].get("volumeName")))
    if volume is None or not kind.get("allowVolumeExpansion") or amount(wanted) <= amount(now):
        return
    meta = claim["metadata"]
    client.merge(f"/api/v1/persistentvolumes/{volume['metadata']['name']}", {"spec": {"capacity": {"storage": wanted}}})
    path = f"/api/v1/namespaces/{meta['namespace']}/persistentvolumeclaims/{meta['name']}/status"
    client.merge(path, {"status": {"capacity": {"storage": wanted}, "conditions": None}})


def amount(quantity: str) -> float:
    number = quantity.rstrip("KMGTik")
    return float(number) * SUFFIXES[quantity[len(number) :]]


def _warn(client: Client, claim: Object, why: str) -> None:
    meta = claim["metadata"]
    name = f"{meta['name']}.provisioning-failed"
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": meta["namespace"]},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": meta["namespace"],
            "name": meta["name"],
            "uid": meta["uid"],
        },
        "reason": "ProvisioningFailed",
        "type": "Warning",
        "message": f'failed to provision volume with StorageClass "{claim["spec"]["storageClassName"]}": {why}',
        "source": {"component": PROVISIONER},
    }
    client.apply(f"/api/v1/namespaces/{meta['namespace']}/events/{name}", event)
