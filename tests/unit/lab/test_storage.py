# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Quantities and the volumes that Harvester's driver would refuse."""

from __future__ import annotations

import pytest

from lab import storage


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("1Gi", 2**30), ("1G", 10**9), ("512Mi", 2**29), ("10", 10), ("1.5Ti", 1.5 * 2**40), ("2k", 2000)],
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
