# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Volumes of StorageClass `harvester`: folders of the lab's state directory, bound by the real controller-manager."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lab.kube import Client, Object, Refused
from lab.mirror import Store

PROVISIONER = "driver.harvesterhci.io"
PATHS = {
    "claims": "/api/v1/persistentvolumeclaims",
    "volumes": "/api/v1/persistentvolumes",
    "classes": "/apis/storage.k8s.io/v1/storageclasses",
    "pods": "/api/v1/pods",
}
NODE = "volume.kubernetes.io/selected-node"
SUFFIXES: dict[str, float] = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "m": 0.001, "": 1}
SUFFIXES |= {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
RESIZING, FILE_SYSTEM, FAILED = "Resizing", "FileSystemResizePending", "ControllerResizeError"
EXPANSION = {RESIZING, FILE_SYSTEM, FAILED}
STEP = 1.0  # seconds that an expansion takes at Harvester, and then on the node
HOST_UNIT = 2 * 2**20
LONGEST_PAUSE = 300.0  # csi-resizer's


@dataclass(frozen=True)
class Failure:
    """When a refused expansion is tried again, and how long to wait after that."""

    again: float = 0.0
    pause: float = 1.0


class Driver:
    """`wake` makes the controller look again: an expansion goes on by time, without anything having changed."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.folder, self.clock = folder, clock
        self.wake: Callable[[], None] = lambda: None
        self.failures: dict[str, Failure] = {}  # by the claim's uid
        self.told: dict[str, int] = {}  # how often, by the event's name
        self.planned = 0.0  # when `wake` is called next

    def act(self, client: Client, stores: Mapping[str, Store]) -> None:
        classes = {name: item for name, item in stores["classes"].items() if item["provisioner"] == PROVISIONER}
        running = [pod for pod in stores["pods"].values() if pod.get("status", {}).get("phase") == "Running"]
        mounted = {f"{pod['metadata']['namespace']}/{claim}" for pod in running for claim in claims_of(pod)}
        for name, claim in stores["claims"].items():
            kind = classes.get(str(claim["spec"].get("storageClassName")))
            if kind is None or "deletionTimestamp" in claim["metadata"]:
                continue
            phase = claim.get("status", {}).get("phase")
            volume = stores["volumes"].get(str(claim["spec"].get("volumeName")))
            if phase == "Bound":
                if volume is not None:
                    self._grow(client, claim, volume, name in mounted)
            elif volume_name(claim) not in stores["volumes"]:
                self._provision(client, claim, kind)
        for volume in stores["volumes"].values():
            if provisioned_here(volume) and finished(volume):
                client.delete(f"/api/v1/persistentvolumes/{volume['metadata']['name']}")
                shutil.rmtree(self.folder / volume["metadata"]["name"], ignore_errors=True)

    def _provision(self, client: Client, claim: Object, kind: Object) -> None:
        meta = claim["metadata"]
        waits = kind.get("volumeBindingMode") == "WaitForFirstConsumer"
        if waits and NODE not in (meta.get("annotations") or {}):
            return
        why = refusal(claim)
        if why:
            storage_class = claim["spec"]["storageClassName"]
            message = f'failed to provision volume with StorageClass "{storage_class}": {why}'
            self._event(client, claim, "ProvisioningFailed", message, "Warning")
            return
        name = volume_name(claim)
        place = self.folder / name
        place.mkdir(parents=True, exist_ok=True)
        try:
            client.request("POST", "/api/v1/persistentvolumes", persistent_volume(claim, kind, place))
        except Refused as error:
            if error.reason != "AlreadyExists":
                raise

    def _grow(self, client: Client, claim: Object, volume: Object, mounted: bool) -> None:
        """One step of an expansion. The API server itself refuses to shrink, and to grow where the class forbids it."""
        uid, wanted = claim["metadata"]["uid"], str(claim["spec"]["resources"]["requests"]["storage"])
        status = claim.get("status", {})
        if amount(wanted) <= amount(str(status.get("capacity", {}).get("storage", "0"))):
            self.failures.pop(uid, None)
            if {entry["type"] for entry in status.get("conditions") or []} & EXPANSION:
                self._set(client, claim, {"conditions": None})
            return
        if amount(str(volume["spec"]["capacity"]["storage"])) < amount(wanted):
            self._grow_volume(client, claim, volume, wanted)
        elif volume["spec"].get("volumeMode") == "Block":
            self._set(client, claim, {"capacity": {"storage": wanted}, "conditions": None})
            self._event(client, claim, "VolumeResizeSuccessful", "Resize volume succeeded")
        elif not self._since(claim, FILE_SYSTEM):
            self._pending(client, claim)
        elif self._over(claim, FILE_SYSTEM) and mounted:
            self._set(client, claim, {"capacity": {"storage": wanted}, "conditions": None})
            message = f'MountVolume.NodeExpandVolume succeeded for volume "{volume_name(claim)}"'
            self._event(client, claim, "FileSystemResizeSuccessful", message)

    def _grow_volume(self, client: Client, claim: Object, volume: Object, wanted: str) -> None:
        """csi-resizer and the driver's controller, which asks Harvester."""
        name, uid = volume["metadata"]["name"], claim["metadata"]["uid"]
        if not self._since(claim, RESIZING):
            self._set(client, claim, {"conditions": [self._condition(RESIZING)]})
            self._event(client, claim, "Resizing", f"External resizer is resizing volume {name}")
            self._again(STEP)
            return
        if not self._over(claim, RESIZING):
            return
        why = expansion_refusal(volume, wanted)
        if not why:
            client.merge(f"/api/v1/persistentvolumes/{name}", {"spec": {"capacity": {"storage": wanted}}})
            self.failures.pop(uid, None)
            if volume["spec"].get("volumeMode") != "Block":
                self._pending(client, claim)
            return
        failed = self.failures.get(uid, Failure())
        if self.clock() >= failed.again:
            self.failures[uid] = Failure(self.clock() + failed.pause, min(failed.pause * 2, LONGEST_PAUSE))
            error = f"rpc error: code = Internal desc = {why}"
            message = f'resize volume "{name}" by resizer "{PROVISIONER}" failed: {error}'
            kept = [entry for entry in claim["status"]["conditions"] if entry["type"] != FAILED]
            self._set(client, claim, {"conditions": [*kept, self._condition(FAILED, message)]})
            self._event(client, claim, "VolumeResizeFailed", message, "Warning")
        self._again(self.failures[uid].again - self.clock())

    def _pending(self, client: Client, claim: Object) -> None:
        message = "Waiting for user to (re-)start a pod to finish file system resize of volume on node."
        self._set(client, claim, {"conditions": [self._condition(FILE_SYSTEM, message)]})
        self._event(client, claim, "FileSystemResizeRequired", "Require file system resize of volume on node")
        self._again(STEP)

    def _again(self, seconds: float) -> None:
        moment = self.clock() + max(seconds, 0.1)
        if self.clock() < self.planned <= moment:
            return  # who is woken then asks again
        self.planned = moment
        timer = threading.Timer(moment - self.clock(), lambda: self.wake())
        timer.daemon = True
        timer.start()

    def _condition(self, kind: str, message: str = "") -> Object:
        return {"type": kind, "status": "True", "message": message, "lastTransitionTime": stamp(self.clock())}

    def _since(self, claim: Object, kind: str) -> float:
        """When the condition came, 0 without it."""
        for entry in claim.get("status", {}).get("conditions") or []:
            if entry["type"] == kind and entry["status"] == "True":
                return datetime.fromisoformat(entry["lastTransitionTime"].replace("Z", "+00:00")).timestamp()
        return 0.0

    def _over(self, claim: Object, kind: str) -> bool:
        """Whether the condition has stood for a step's time; otherwise it is looked at again then."""
        left = self._since(claim, kind) + STEP - self.clock()
        if left > 0:
            self._again(left)
        return left <= 0

    def _set(self, client: Client, claim: Object, status: Object) -> None:
        meta = claim["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/persistentvolumeclaims/{meta['name']}/status"
        client.merge(path, {"status": status})

    def _event(self, client: Client, claim: Object, reason: str, message: str, kind: str = "Normal") -> None:
        """One event a reason; its count rises."""
        meta = claim["metadata"]
        name = f"{meta['name']}.{meta['uid'][:8]}.{reason.lower()}"
        self.told[name] = self.told.get(name, 0) + 1
        now = stamp(self.clock())
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
            "reason": reason,
            "type": kind,
            "message": message,
            "count": self.told[name],
            "lastTimestamp": now,
            "source": {"component": PROVISIONER},
        }
        client.apply(f"/api/v1/namespaces/{meta['namespace']}/events/{name}", event)


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


def expansion_refusal(volume: Object, wanted: str) -> str:
    """Why Harvester would not make this volume so large; empty when it would."""
    spec = volume["spec"]
    if "ReadWriteMany" in spec["accessModes"]:
        return "rwx volume expansion is not supported"
    # the volume on the host is as large as the next 2 MiB: what stays below that is no growth there
    host = -(-amount(str(spec["capacity"]["storage"])) // HOST_UNIT) * HOST_UNIT
    if amount(wanted) < host + HOST_UNIT:
        return "shrink not supported"
    return ""


def persistent_volume(claim: Object, kind: Object, place: Path) -> Object:
    meta, spec, name = claim["metadata"], claim["spec"], volume_name(claim)
    return {
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


def claims_of(pod: Object) -> list[str]:
    """Names of the claims that a pod mounts."""
    return [
        volume["persistentVolumeClaim"]["claimName"]
        if "persistentVolumeClaim" in volume
        else f"{pod['metadata']['name']}-{volume['name']}"
        for volume in pod["spec"].get("volumes") or []
        if "persistentVolumeClaim" in volume or "ephemeral" in volume
    ]


def stamp(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def amount(quantity: str) -> float:
    number = quantity.rstrip("KMGTikm")
    return float(number) * SUFFIXES[quantity[len(number) :]]
