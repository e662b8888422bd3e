# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The node driver for Harvester: a machine's objects as it writes them, under the rights of the cloud credential."""

from __future__ import annotations

import base64
import http.client
import json
import threading
import time
from collections.abc import Mapping
from typing import Any

import yaml

from lab.kube import Client, Object, Refused
from lab.mirror import Store
from lab.nodes import suffix
from lab.rancher.faults import Faults
from lab.rancher.loop import create, path
from lab.rancher.machineconfig import MachineConfig, merged
from lab.rancher.machines import IMAGE, REMOVED, SECRETS, TEMPLATES, VMS

KUBECONFIG = "harvestercredentialConfig-kubeconfigContent"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
KNOWN_FOR = 5.0  # seconds that a working credential is believed
NO_CLOUD = 2048  # user data above goes into a Secret


class Unusable(Exception):
    """The cloud credential does not let the driver work."""


class Credentials:
    """Cloud credentials of Rancher, tried at Harvester as the real driver would use them."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.known: dict[str, float] = {}
        self.lock = threading.Lock()

    def check(self, secrets: Store, reference: str, namespace: str) -> None:
        """Raise when machines in that namespace could not be made with the credential."""
        name = reference.replace(":", "/", 1) if ":" in reference else f"fleet-default/{reference}"
        secret = secrets.get(name)
        if secret is None:
            raise Unusable(f'secrets "{name.rsplit("/", 1)[1]}" not found')
        if self.faults.on("credential_gone"):
            raise Unusable("Unauthorized: the cloud credential's token is not valid")
        mark = f"{name}/{secret['metadata']['resourceVersion']}/{namespace}"
        with self.lock:
            if self.known.get(mark, 0.0) > time.monotonic():
                return
            text = base64.b64decode((secret.get("data") or {}).get(KUBECONFIG, "")).decode()
            self.known.pop(mark, None)
            allowed(text, namespace, "create")
            self.known[mark] = time.monotonic() + KNOWN_FOR


def allowed(kubeconfig: str, namespace: str, verb: str) -> None:
    """Raise unless the kubeconfig may do that with virtual machines of the namespace."""
    if not kubeconfig:
        raise Unusable("the credential holds no kubeconfig")
    attributes = {"group": "kubevirt.io", "resource": "virtualmachines", "verb": verb, "namespace": namespace}
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
    try:
        answer = Client(kubeconfig).request("POST", REVIEWS, {**body, "spec": {"resourceAttributes": attributes}})
    except Refused as error:
        raise Unusable("Unauthorized" if error.status == 401 else str(error)) from error
    except (KeyError, IndexError, TypeError, ValueError, yaml.YAMLError) as error:
        raise Unusable(f"the credential's kubeconfig is not one: {type(error).__name__}: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        raise Unusable(f"Harvester does not answer: {error}") from error
    if not answer["status"].get("allowed"):
        raise Unusable(f"forbidden: the credential may not {verb} virtualmachines in namespace {namespace}")


def make(
    client: Client, name: str, cluster: str, pool: str, config: MachineConfig, images: Store, install: str
) -> None:
    """The virtual machine first, then the Secret that it owns, as the driver goes."""
    text = merged(config, install)
    machine, secret = build(name, cluster, pool, config, images, text)
    create(client, VMS, machine)
    if secret is None:
        return
    made = client.request("GET", path(VMS, config.namespace, name))
    owner = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": name, "uid": made["metadata"]["uid"]}
    secret["metadata"]["ownerReferences"] = [owner]
    create(client, SECRETS, secret)


def remove(client: Client, machine: Object) -> None:
    """With its disks, as the driver does."""
    meta = machine["metadata"]
    names = [claim["metadata"]["name"] for claim in json.loads((meta.get("annotations") or {}).get(TEMPLATES) or "[]")]
    target = path(VMS, meta["namespace"], meta["name"])
    client.merge(target, {"metadata": {"annotations": {REMOVED: ",".join(names)}}})
    client.delete(target)


def build(
    name: str, cluster: str, pool: str, config: MachineConfig, images: Store, text: str
) -> tuple[Object, Object | None]:
    disks: list[Object] = []
    volumes: list[Object] = []
    claims: list[Object] = []
    for number, disk in enumerate(config.disks):
        claim = f"{name}-disk-{number}-{_letters(name, number)}"
        inner: Object = {"name": f"disk-{number}", "disk": {"bus": disk.bus}}
        disks.append({**inner, **({"bootOrder": disk.boot_order} if disk.boot_order else {})})
        volumes.append({"name": f"disk-{number}", "persistentVolumeClaim": {"claimName": claim}})
        claims.append(_claim(claim, disk.image, disk.size, _class_of(disk.image, disk.storage_class, images)))
    cloud: Object = {"userData": text} if len(text) <= NO_CLOUD else {"secretRef": {"name": f"{name}-cloudinit"}}
    data = {"userdata": text} if "secretRef" in cloud else {}
    if config.network_data:
        if "secretRef" in cloud:
            cloud["networkDataSecretRef"] = cloud["secretRef"]
            data["networkdata"] = config.network_data
        else:
            cloud["networkData"] = config.network_data
    disks.append({"name": "cloudinitdisk", "disk": {"bus": "virtio"}})
    volumes.append({"name": "cloudinitdisk", "cloudInitNoCloud": cloud})
    labels = {
        "harvesterhci.io/creator": "docker-machine-driver-harvester",
        "harvesterhci.io/vmName": name,
        "guestcluster.harvesterhci.io/name": cluster,
        "nodepool.harvesterhci.io/name": pool,
        "harvesterhci.io/machineSetName": f"{config.namespace}-{cluster}-{pool}"[-63:],
    }
    machine = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {
            "name": name,
            "namespace": config.namespace,
            "labels": labels,
            "annotations": {TEMPLATES: json.dumps(claims)},
        },
        "spec": {
            "runStrategy": "RerunOnFailure",
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "hostname": name,
                    "evictionStrategy": "LiveMigrateIfPossible",
                    "domain": _domain(config, disks),
                    "networks": [
                        {"name": f"nic-{number}", "multus": {"networkName": one.network}}
                        for number, one in enumerate(config.interfaces)
                    ],
                    "volumes": volumes,
                    **({"affinity": _affinity(config.affinity, labels)} if config.affinity else {}),
                },
            },
        },
    }
    if not data:
        return machine, None
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    meta = {"name": f"{name}-cloudinit", "namespace": config.namespace}
    return machine, {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": encoded}


def _affinity(given: Object, labels: Mapping[str, str]) -> Object:
    """As given; to an affinity between pods that is there, even empty, the driver adds that of the machine set."""
    label = "harvesterhci.io/machineSetName"
    term = {"labelSelector": {"matchLabels": {label: labels[label]}}, "topologyKey": "kubernetes.io/hostname"}
    preferred = "preferredDuringSchedulingIgnoredDuringExecution"
    return {
        kind: {**rules, preferred: [*rules.get(preferred, []), {"weight": 1, "podAffinityTerm": term}]}
        if kind in ("podAffinity", "podAntiAffinity")
        else rules
        for kind, rules in given.items()
    }


def _domain(config: MachineConfig, disks: list[Object]) -> Object:
    interfaces = [
        {
            "name": f"nic-{number}",
            "model": one.model,
            **({"macAddress": one.mac} if one.mac else {}),
            **({"masquerade": {}} if one.kind == "masquerade" else {"bridge": {}}),
        }
        for number, one in enumerate(config.interfaces)
    ]
    limits = {"cpu": str(config.cpu), "memory": f"{config.memory}Gi"}
    domain: dict[str, Any] = {
        "machine": {"type": "q35"},
        "cpu": {"cores": config.cpu, "sockets": 1, "threads": 1},
        "memory": {"guest": f"{config.memory * 1024 - 100}Mi"},
        "resources": {"limits": limits},
        "devices": {"disks": disks, "interfaces": interfaces, **({"tpm": {}} if config.tpm else {})},
    }
    if config.efi:
        domain["features"] = {"smm": {"enabled": config.secure_boot}}
        domain["firmware"] = {"bootloader": {"efi": {"secureBoot": config.secure_boot}}}
    return domain


def _claim(name: str, image: str, size: int, storage_class: str) -> Object:
    return {
        "metadata": {"name": name, "annotations": {IMAGE: image} if image else {}},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "volumeMode": "Block",
            "resources": {"requests": {"storage": f"{size}Gi"}},
            **({"storageClassName": storage_class} if storage_class else {}),
        },
    }


def _class_of(image: str, given: str, images: Store) -> str:
    if not image:
        return given
    found: Mapping[str, Any] | None = images.get(image)
    if found is None:
        raise Unusable(f'virtualmachineimages.harvesterhci.io "{image.rsplit("/", 1)[-1]}" not found')
    return str((found.get("status") or {}).get("storageClassName") or "")


def _letters(name: str, number: int) -> str:
    return suffix(name, str(number))
