# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Quantities, the volumes that Harvester's driver would refuse, and how a volume grows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lab import storage
from lab.kube import Object


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("1Gi", 2**30), ("1G", 10**9), ("512Mi", 2**29), ("10", 10), ("1.5Ti", 1.5 * 2**40), ("2k", 2000), ("500m", 0.5)],
)
def test_quantities(text: str, bytes_: float) -> None:
    assert storage.amount(text) == bytes_


def test_shared_filesystems_are_refused() -> None:
    assert "ReadWriteMany" in storage.refusal({"spec": {"accessModes": ["ReadWriteMany"]}})
    assert storage.refusal({"spec": {"accessModes": ["ReadWriteOnce"]}}) == ""
    assert storage.refusal({"spec": {"accessModes": ["ReadWriteMany"], "volumeMode": "Block"}}) == ""


def test_only_released_volumes_of_this_driver_go() -> None:
    volume = {
        "metadata": {"annotations": {"pv.kubernetes.io/provisioned-by": storage.PROVISIONER}},
        "spec": {"persistentVolumeReclaimPolicy": "Delete"},
        "status": {"phase": "Released"},
    }
    assert storage.provisioned_here(volume) and storage.finished(volume)
    assert not storage.finished({**volume, "status": {"phase": "Bound"}})
    assert not storage.finished({**volume, "spec": {"persistentVolumeReclaimPolicy": "Retain"}})
    assert not storage.provisioned_here({"metadata": {}})


class Cluster:
    """One bound claim, and a client that writes into it."""

    def __init__(self, folder: Path, wanted: str, mode: str = "ReadWriteOnce", mounted: bool = True) -> None:
        self.now = 1000.0
        self.events: list[Object] = []
        self.claim: Object = {
            "metadata": {"namespace": "space", "name": "data", "uid": "12345678-9"},
            "spec": {
                "storageClassName": "harvester",
                "volumeName": "pv",
                "resources": {"requests": {"storage": wanted}},
            },
            "status": {"phase": "Bound", "capacity": {"storage": "10Gi"}},
        }
        self.volume: Object = {
            "metadata": {"name": "pv"},
            "spec": {"capacity": {"storage": "10Gi"}, "accessModes": [mode]},
        }
        self.pods: dict[str, Object] = {}
        if mounted:
            self.mount()
        self.driver = storage.Driver(folder, lambda: self.now)

    def mount(self) -> None:
        volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
        meta = {"namespace": "space", "name": "pod"}
        self.pods["space/pod"] = {"metadata": meta, "spec": {"volumes": volumes}, "status": {"phase": "Running"}}

    def merge(self, path: str, body: Mapping[str, Any]) -> None:
        if path.endswith("/status"):
            self.claim["status"] |= body["status"]
        else:
            self.volume["spec"] |= body["spec"]

    def apply(self, path: str, body: Object) -> None:
        self.events.append(body)

    def step(self, seconds: float) -> set[str]:
        """Let time pass; the claim's conditions afterwards."""
        self.now += seconds
        stores = {
            "classes": {"harvester": {"provisioner": storage.PROVISIONER}},
            "claims": {"space/data": self.claim},
            "volumes": {"pv": self.volume},
            "pods": self.pods,
        }
        self.driver.act(self, stores)  # type: ignore[arg-type]
        return {entry["type"] for entry in self.claim["status"].get("conditions") or []}

    @property
    def sizes(self) -> tuple[str, str]:
        return self.volume["spec"]["capacity"]["storage"], self.claim["status"]["capacity"]["storage"]

    @property
    def reasons(self) -> list[str]:
        return [event["reason"] for event in self.events]


def test_a_volume_grows_first_then_its_file_system(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, "11Gi")
    assert cluster.step(0) == {"Resizing"} and cluster.sizes == ("10Gi", "10Gi")
    assert cluster.step(0.5) == {"Resizing"}
    assert cluster.step(1) == {"FileSystemResizePending"} and cluster.sizes == ("11Gi", "10Gi")
    assert cluster.step(1.5) == set() and cluster.sizes == ("11Gi", "11Gi")
    assert cluster.step(1) == set()
    assert cluster.reasons == ["Resizing", "FileSystemResizeRequired", "FileSystemResizeSuccessful"]


def test_a_file_system_grows_only_where_a_pod_mounts_it(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, "11Gi", mounted=False)
    for _ in range(5):
        conditions = cluster.step(2)
    assert conditions == {"FileSystemResizePending"} and cluster.sizes == ("11Gi", "10Gi")
    cluster.mount()
    assert cluster.step(0) == set() and cluster.sizes == ("11Gi", "11Gi")


@pytest.mark.parametrize(
    ("wanted", "mode", "why"),
    [("10241Mi", "ReadWriteOnce", "shrink not supported"), ("20Gi", "ReadWriteMany", "rwx volume expansion")],
)
def test_a_refused_expansion_is_tried_for_ever(tmp_path: Path, wanted: str, mode: str, why: str) -> None:
    cluster = Cluster(tmp_path, wanted, mode)
    for _ in range(30):
        conditions = cluster.step(1)
    assert conditions == {"Resizing", "ControllerResizeError"} and cluster.sizes == ("10Gi", "10Gi")
    failed = [event for event in cluster.events if event["reason"] == "VolumeResizeFailed"]
    # 1, 2, 4, 8, ... seconds apart
    assert [event["count"] for event in failed] == [1, 2, 3, 4, 5]
    assert all(why in event["message"] and event["type"] == "Warning" for event in failed)


def test_a_refused_expansion_ends_with_another_request(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, "10241Mi")
    cluster.step(0)
    assert cluster.step(2) == {"Resizing", "ControllerResizeError"}
    cluster.claim["spec"]["resources"]["requests"]["storage"] = "10Gi"
    assert cluster.step(0) == set()
    cluster.claim["spec"]["resources"]["requests"]["storage"] = "10242Mi"
    for _ in range(3):
        conditions = cluster.step(2)
    assert conditions == set() and cluster.sizes == ("10242Mi", "10242Mi")
