# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What bubblewrap is told of a container's volumes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from lab.agent.container import Container
from lab.agent.images import read_table
from lab.agent.volumes import PROCESSES
from lab.stages import IMAGES


def options(tmp_path: Path, mounts: list[dict[str, Any]], folders: dict[str, Path], fixed: set[str]) -> str:
    images = {image.name: image for image in read_table(IMAGES)}
    (tmp_path / "etc").mkdir()
    home = SimpleNamespace(
        obj={"spec": {}},
        images=SimpleNamespace(find=lambda reference: images["node-exporter"]),
        volumes=SimpleNamespace(folders=folders, fixed=fixed),
        folder=tmp_path,
        hostname="node",
    )
    spec = {"name": "c", "image": "i", "volumeMounts": mounts}
    container = Container(cast(Any, home), spec, "main", None, cast(Any, None))
    return " ".join(container._options(images["node-exporter"], [], 65534, 65534, True, {}))


def test_processes_of_the_machine_stay_hidden(tmp_path: Path) -> None:
    mounts: list[dict[str, Any]] = [
        {"name": "proc", "mountPath": "/host/proc", "readOnly": True},
        {"name": "sys", "mountPath": "/host/sys"},
        {"name": "root", "mountPath": "/host/root", "readOnly": True},
        {"name": "data", "mountPath": "/data"},
    ]
    folders = {"proc": PROCESSES, "sys": Path("/sys"), "root": tmp_path / "node", "data": tmp_path / "data"}
    told = options(tmp_path, mounts, folders, {"proc", "sys"})
    assert "--proc /host/proc" in told and "bind /proc" not in told
    assert "--ro-bind /sys /host/sys" in told
    assert f"--ro-bind {tmp_path}/node /host/root" in told
    assert f"--bind {tmp_path}/data /data" in told
