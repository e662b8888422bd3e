# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Harvester's images: a download with progress, a StorageClass at its end, or a failure with a reason."""

from __future__ import annotations

from collections.abc import Mapping

from lab.kube import Client, Object
from lab.mirror import Store
from lab.rancher.faults import Faults
from lab.rancher.loop import Due, condition, conditions, create, holds, set_status
from lab.rancher.settings import Times

PATH = "/apis/harvesterhci.io/v1beta1/virtualmachineimages"
CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
SIZE = 1_200_000_000


def storage_class(image: Object) -> str:
    """As the image's namespace and name make it."""
    return f"longhorn-{image['metadata']['name']}"


def act(client: Client, stores: Mapping[str, Store], due: Due, faults: Faults, times: Times) -> None:
    for image in stores["images"].values():
        meta = image["metadata"]
        decided = [
            entry for entry in (image.get("status") or {}).get("conditions") or [] if entry["type"] == "Imported"
        ]
        over = any(entry["status"] in {"True", "False"} for entry in decided) and not _moved(image)
        if "deletionTimestamp" not in meta and not over:
            _import(client, image, due, faults, times)


def _moved(image: Object) -> bool:
    """Another URL than the one that was imported, or failed: Harvester begins anew."""
    url = str(image["spec"].get("url") or "")
    return str((image.get("status") or {}).get("appliedUrl", url)) != url


def _import(client: Client, image: Object, due: Due, faults: Faults, times: Times) -> None:
    url = str(image["spec"].get("url") or "")
    key = f"image/{image['metadata']['uid']}/{url}"
    why = ""
    if faults.matches("image_import_fails", url, part=True):
        why = f"failed to download {url}: unexpected status code 404"
    elif image["spec"]["sourceType"] == "download" and not url.startswith(("http://", "https://")):
        why = f"failed to download {url!r}: unsupported protocol scheme"
    progress = int((image.get("status") or {}).get("progress") or 0)
    if not due.over(f"{key}/half", times.image / 2):
        if "status" not in image or _moved(image):
            initial = conditions(
                image, [condition("Initialized", True), condition("Imported", "Unknown")], updated=True
            )
            status = {"progress": 0, "appliedUrl": url, "conditions": initial}
            set_status(client, PATH, image, status, subresource=False)
        return
    if why:
        failed = conditions(image, [condition("Imported", False, "ImportFailed", why)], updated=True)
        set_status(client, PATH, image, {"failed": 1, "progress": 0, "conditions": failed}, subresource=False)
        return
    if not due.over(f"{key}/whole", times.image / 2):
        if progress < 50:
            set_status(client, PATH, image, {"progress": 50}, subresource=False)
        return
    name = storage_class(image)
    create(client, CLASSES, _class(name, image))
    done = conditions(image, [condition("Initialized", True), condition("Imported", True)], updated=True)
    status = {"progress": 100, "size": SIZE, "virtualSize": 10 * 2**30, "storageClassName": name, "conditions": done}
    set_status(client, PATH, image, status, subresource=False)
    due.forget(key)


def _class(name: str, image: Object) -> Object:
    parameters = {"backingImage": f"vmi-{image['metadata']['uid']}", "migratable": "true", "numberOfReplicas": "3"}
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": "driver.longhorn.io",
        "allowVolumeExpansion": True,
        "volumeBindingMode": "Immediate",
        "parameters": {**parameters, "staleReplicaTimeout": "30"},
    }


def imported(stores: Mapping[str, Store], identity: str) -> bool:
    return holds(stores["images"].get(identity), "Imported")
