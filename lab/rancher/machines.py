# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Harvester's virtual machines: claims, instances, what keeps a guest from booting, and their end."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lab.kube import Client, Object, Refused
from lab.mirror import Store, key
from lab.rancher import capacity, images, userdata
from lab.rancher.faults import Faults
from lab.rancher.loop import Due, condition, conditions, create, finalize, path, path_of, set_status
from lab.rancher.settings import Times

log = logging.getLogger(__name__)
VMS = "/apis/kubevirt.io/v1/virtualmachines"
VMIS = "/apis/kubevirt.io/v1/virtualmachineinstances"
CLAIMS = "/api/v1/persistentvolumeclaims"
SECRETS = "/api/v1/secrets"
TEMPLATES = "harvesterhci.io/volumeClaimTemplates"
REMOVED = "harvesterhci.io/removedPersistentVolumeClaims"
IMAGE = "harvesterhci.io/imageId"
REASON = "lab.harvesterhci.io/not-booted"
FINALIZERS = ["kubevirt.io/virtualMachineControllerFinalize", "wrangler.cattle.io/VMController.CleanupPVCsAndSnapshots"]
INSTANCE_FINALIZER = "foregroundDeleteVirtualMachine"
RUNNING = {"RerunOnFailure", "Always"}
ADDRESSES = [f"198.18.2.{number}" for number in range(1, 63)]


class Machines:
    def __init__(self, client: Client, faults: Faults, times: Times) -> None:
        self.client, self.faults, self.times = client, faults, times
        self.given: dict[str, str] = {}  # instance's uid: address, before the mirror knows it
        self.lock = threading.Lock()
        self.pool = ThreadPoolExecutor(4)

    def act(self, stores: Mapping[str, Store], due: Due) -> None:
        def one(machine: Object) -> None:
            try:
                self._one(machine, stores, due)
            except Refused as error:
                log.warning("%s: %s", key(machine), error)
                due.soon(1)

        list(self.pool.map(one, stores["vms"].values()))
        for name, instance in stores["vmis"].items():
            if name not in stores["vms"] and "deletionTimestamp" in instance["metadata"]:
                finalize(self.client, VMIS, instance, [])
        self._release(stores)

    def _one(self, machine: Object, stores: Mapping[str, Store], due: Due) -> None:
        meta, uid = machine["metadata"], machine["metadata"]["uid"]
        instance = stores["vmis"].get(key(machine))
        if "deletionTimestamp" in meta:
            self._end(machine, instance, due)
            return
        if not set(FINALIZERS) <= set(meta.get("finalizers") or []):
            finalize(self.client, VMS, machine, [*(meta.get("finalizers") or []), *FINALIZERS])
        if machine["spec"].get("runStrategy") not in RUNNING:
            return
        for claim in json.loads((meta.get("annotations") or {}).get(TEMPLATES) or "[]"):
            if f"{meta['namespace']}/{claim['metadata']['name']}" not in stores["claims"]:
                self._claim(machine, claim)
        if instance is None:
            if due.over(f"vm/{uid}/start", self.times.start):
                create(self.client, VMIS, _instance(machine))
                self._status(machine, "Starting", False)
            return
        if "deletionTimestamp" in instance["metadata"]:
            finalize(self.client, VMIS, instance, [])
            due.forget(f"vm/{uid}")
            return
        self._boot(machine, instance, stores, due)

    def _claim(self, machine: Object, claim: Object) -> None:
        meta = machine["metadata"]
        owned = {
            "harvesterhci.io/owned-by": json.dumps([{"schema": "kubevirt.io.virtualmachine", "refs": [key(machine)]}])
        }
        annotations = {**(claim["metadata"].get("annotations") or {}), **owned}
        body = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": claim["metadata"]["name"], "namespace": meta["namespace"], "annotations": annotations},
            "spec": claim["spec"],
        }
        create(self.client, CLAIMS, body)
        status = {"phase": "Bound", "accessModes": claim["spec"]["accessModes"]}
        status["capacity"] = claim["spec"]["resources"]["requests"]
        self.client.merge(f"{path_of(CLAIMS, body)}/status", {"status": status})

    def _status(self, machine: Object, word: str, ready: bool, message: str = "") -> None:
        entry = condition("Ready", ready, "" if ready else "GuestNotRunning", message)
        status = {"printableStatus": word, "created": word != "Provisioning", "ready": ready}
        status["conditions"] = conditions(machine, [entry])
        set_status(self.client, VMS, machine, status)

    def _boot(self, machine: Object, instance: Object, stores: Mapping[str, Store], due: Due) -> None:
        uid = machine["metadata"]["uid"]
        phase = (instance.get("status") or {}).get("phase")
        if phase != "Running":
            why = self._held_back(machine, stores)
            if why:
                entry = condition("Ready", False, "Unschedulable" if "nodes are available" in why else "Pending", why)
                held = {"phase": "Scheduling", "conditions": conditions(instance, [entry])}
                set_status(self.client, VMIS, instance, held)
                self._status(machine, "ErrorUnschedulable" if "nodes are available" in why else "Starting", False, why)
                due.soon(2)
                return
            nodes = sorted(stores["nodes"]) or ["harvester-1"]
            host = nodes[sum(uid.encode()) % len(nodes)]
            entries = conditions(instance, [condition("Ready", True)])
            status: Object = {"phase": "Running", "nodeName": host, "conditions": entries}
            set_status(self.client, VMIS, instance, status)
            self._status(machine, "Running", True)
            return
        annotations = instance["metadata"].get("annotations") or {}
        if (instance["status"].get("interfaces") or [{}])[0].get("ipAddress") or REASON in annotations:
            return
        if not due.over(f"vm/{uid}/boot", self.times.boot):
            return
        due.forget(f"vm/{uid}")
        why = self._not_booting(machine, stores)
        if why:
            log.warning("%s does not boot: %s", key(machine), why)
            self.client.merge(path_of(VMIS, instance), {"metadata": {"annotations": {REASON: why}}})
            return
        interfaces = self._interfaces(instance, stores)
        entry = condition("AgentConnected", True)
        guest = {"id": "rocky", "name": "Rocky Linux", "prettyName": "Rocky Linux 9.7 (Blue Onyx)", "version": "9.7"}
        booted = {"interfaces": interfaces, "guestOSInfo": guest, "conditions": conditions(instance, [entry])}
        set_status(self.client, VMIS, instance, booted)

    def _held_back(self, machine: Object, stores: Mapping[str, Store]) -> str:
        """What keeps the instance from starting at all."""
        spec, space = machine["spec"]["template"]["spec"], machine["metadata"]["namespace"]
        templates = json.loads((machine["metadata"].get("annotations") or {}).get(TEMPLATES) or "[]")
        for claim in templates:
            image = (claim["metadata"].get("annotations") or {}).get(IMAGE)
            if image and not images.imported(stores, image):
                return f"image {image} is not imported"
        for network in spec.get("networks") or []:
            name = (network.get("multus") or {}).get("networkName", "")
            if name and (name if "/" in name else f"{space}/{name}") not in stores["nads"]:
                return f'network-attachment-definitions.k8s.cni.cncf.io "{name}" not found'
        running = [one for one in stores["vmis"].values() if (one.get("status") or {}).get("phase") == "Running"]
        return capacity.fits(machine, running, self.faults, len(stores["nodes"]))

    def _not_booting(self, machine: Object, stores: Mapping[str, Store]) -> str:
        """What keeps the guest from coming up: the instance runs, and nobody is there."""
        spec = machine["spec"]["template"]["spec"]
        if not ((spec["domain"].get("firmware") or {}).get("bootloader") or {}).get("efi"):
            return "no bootable device: the firmware is BIOS and the image boots by UEFI only"
        if not any(disk.get("bootOrder") for disk in spec["domain"]["devices"]["disks"]):
            return "no bootable device: no disk has a boot order"
        text = self._user_data(machine, spec)
        why = userdata.refusal(text)
        return f"cloud-init: {why}" if why else ""

    def _user_data(self, machine: Object, spec: Object) -> str:
        for volume in spec.get("volumes") or []:
            source: dict[str, Any] = volume.get("cloudInitNoCloud") or {}
            if source.get("userData"):
                return str(source["userData"])
            name = (source.get("secretRef") or {}).get("name")
            if name:
                secret = self.client.get(path(SECRETS, machine["metadata"]["namespace"], name)) or {}
                return userdata.decoded((secret.get("data") or {}).get("userdata", ""))
        return ""

    def _interfaces(self, instance: Object, stores: Mapping[str, Store]) -> list[Object]:
        taken = {
            entry.get("ipAddress")
            for one in stores["vmis"].values()
            for entry in (one.get("status") or {}).get("interfaces") or []
        }
        for node in stores["guests"].values():
            taken |= {entry["address"] for entry in (node.get("status") or {}).get("addresses") or []}
        with self.lock:
            taken |= set(self.given.values())
            address = next((one for one in ADDRESSES if one not in taken), "")
            self.given[instance["metadata"]["uid"]] = address
        made = []
        for number, entry in enumerate(instance["spec"]["domain"]["devices"].get("interfaces") or []):
            mac = entry.get("macAddress") or f"52:54:00:{number:02x}:{hash(instance['metadata']['uid']) & 0xFF:02x}:01"
            one = {"name": entry["name"], "interfaceName": f"eth{number}", "mac": mac, "infoSource": "guest-agent"}
            made.append({**one, "ipAddress": address, "ipAddresses": [address]} if number == 0 else one)
        return made

    def _end(self, machine: Object, instance: Object | None, due: Due) -> None:
        meta, uid = machine["metadata"], machine["metadata"]["uid"]
        if not due.over(f"end/{uid}", self.times.stop):
            return
        if instance is not None:
            self.client.delete(path_of(VMIS, instance))
            finalize(self.client, VMIS, instance, [])
            self.given.pop(instance["metadata"]["uid"], None)
        for name in filter(None, (meta.get("annotations") or {}).get(REMOVED, "").split(",")):
            self.client.delete(path(CLAIMS, meta["namespace"], name.strip()))
        finalize(self.client, VMS, machine, [])
        due.forget(f"end/{uid}", f"vm/{uid}")

    def _release(self, stores: Mapping[str, Store]) -> None:
        """A claim that nobody uses any more may go."""
        used = {
            f"{one['metadata']['namespace']}/{(volume.get('persistentVolumeClaim') or {}).get('claimName')}"
            for one in stores["vms"].values()
            for volume in one["spec"]["template"]["spec"].get("volumes") or []
        }
        for name, claim in stores["claims"].items():
            if "deletionTimestamp" in claim["metadata"] and name not in used:
                finalize(self.client, CLAIMS, claim, [])


def _instance(machine: Object) -> Object:
    meta = machine["metadata"]
    owner = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": meta["name"], "uid": meta["uid"]}
    labels = (machine["spec"]["template"].get("metadata") or {}).get("labels") or {}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {
            "name": meta["name"],
            "namespace": meta["namespace"],
            "labels": labels,
            "finalizers": [INSTANCE_FINALIZER],
            "ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": True}],
        },
        "spec": machine["spec"]["template"]["spec"],
    }
