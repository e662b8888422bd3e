# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Volumes as folders."""

from __future__ import annotations

import asyncio
import base64
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lab.agent.volumes import PROCESSES, MountError, Volumes
from lab.kube import Object


class Server:
    """Answers as the API server: objects of a namespace, volumes and tokens."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        self.tokens = 0
        self.life = 600

    async def read(self, plural: str, name: str) -> Object | None:
        return self.objects.get((plural, name))

    async def get(self, path: str) -> Object | None:
        return self.objects.get(("persistentvolumes", path.rpartition("/")[2]))

    async def call(self, method: str, path: str, body: Any) -> Object:
        assert path.endswith("/serviceaccounts/sa/token") and body["spec"]["boundObjectRef"]["uid"] == "u"
        self.tokens += 1
        expires = (datetime.now(UTC) + timedelta(seconds=self.life)).isoformat().replace("+00:00", "Z")
        return {"status": {"token": f"{body['spec']['audiences']}-{self.tokens}", "expirationTimestamp": expires}}


@pytest.fixture
def server() -> Server:
    made = Server()
    made.objects["configmaps", "c"] = {"kind": "ConfigMap", "data": {"a": "1", "b": "2"}}
    made.objects["secrets", "s"] = {"kind": "Secret", "data": {"k": base64.b64encode(b"v").decode()}}
    return made


def volumes(server: Server, tmp_path: Path, *given: Object) -> Volumes:
    meta = {"name": "p", "namespace": "n", "uid": "u", "labels": {"l": "m"}}
    pod: Object = {"metadata": meta, "spec": {"serviceAccountName": "sa", "nodeName": "node", "volumes": list(given)}}
    return Volumes(server, server.read, pod, tmp_path / "pod", tmp_path / "shared", {"status.podIP": "i"}, {})  # type: ignore[arg-type]


def test_a_configmap_changes_at_once_and_loses_what_is_gone(server: Server, tmp_path: Path) -> None:
    made = volumes(server, tmp_path, {"name": "v", "configMap": {"name": "c", "defaultMode": 0o400}})
    asyncio.run(made.mount())
    folder = made.folders["v"]
    assert sorted(p.name for p in folder.iterdir() if not p.name.startswith("..")) == ["a", "b"]
    assert (folder / "a").read_text() == "1" and os.readlink(folder / "a") == "..data/a"
    assert (folder / "a").stat().st_mode & 0o777 == 0o400
    before = os.readlink(folder / "..data")
    asyncio.run(made.refresh(made.pod))
    assert os.readlink(folder / "..data") == before, "nothing changed, nothing is written"
    server.objects["configmaps", "c"] = {"kind": "ConfigMap", "data": {"a": "3"}}
    asyncio.run(made.refresh(made.pod))
    assert (folder / "a").read_text() == "3" and not (folder / "b").is_symlink() and not (folder / before).exists()


def test_items_have_paths_and_modes_of_their_own(server: Server, tmp_path: Path) -> None:
    items = [{"key": "a", "path": "x/y", "mode": 0o600}]
    made = volumes(server, tmp_path, {"name": "v", "configMap": {"name": "c", "items": items}})
    asyncio.run(made.mount())
    assert (made.folders["v"] / "x" / "y").read_text() == "1"
    assert (made.folders["v"] / "x" / "y").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        ({"configMap": {"name": "gone"}}, 'configmap "gone" not found'),
        ({"secret": {"secretName": "gone"}}, 'secret "gone" not found'),
        (
            {"secret": {"secretName": "s", "items": [{"key": "z", "path": "z"}]}},
            "references non-existent secret key: z",
        ),
        ({"persistentVolumeClaim": {"claimName": "gone"}}, 'persistentvolumeclaim "gone" not found'),
        ({"nfs": {"server": "x"}}, "the lab knows no volume of type nfs"),
        ({"configMap": {"name": "c", "items": [{"key": "a", "path": "../../a"}]}}, "leaves the volume"),
    ],
)
def test_what_cannot_be_mounted_is_named(server: Server, tmp_path: Path, volume: Object, words: str) -> None:
    made = volumes(server, tmp_path, {"name": "v", **volume})
    with pytest.raises(MountError, match=f'MountVolume.SetUp failed for volume "v" : .*{words}'):
        asyncio.run(made.mount())


def test_optional_sources_may_be_absent(server: Server, tmp_path: Path) -> None:
    made = volumes(server, tmp_path, {"name": "v", "secret": {"secretName": "gone", "optional": True}})
    asyncio.run(made.mount())
    assert made.folders["v"].is_dir()


def test_a_projected_volume_joins_its_sources(server: Server, tmp_path: Path) -> None:
    sources = [
        {"serviceAccountToken": {"path": "t/token", "audience": "vault", "expirationSeconds": 600}},
        {"configMap": {"name": "c", "items": [{"key": "a", "path": "ca"}]}},
        {"secret": {"name": "s"}},
        {"downwardAPI": {"items": [{"path": "ip", "fieldRef": {"fieldPath": "status.podIP"}}]}},
    ]
    made = volumes(server, tmp_path, {"name": "v", "projected": {"sources": sources}})
    asyncio.run(made.mount())
    folder = made.folders["v"]
    assert (folder / "t" / "token").read_text() == "['vault']-1"
    assert [(folder / name).read_text() for name in ("ca", "k", "ip")] == ["1", "v", "i"]


def test_a_token_is_replaced_before_it_ends(server: Server, tmp_path: Path) -> None:
    made = volumes(
        server, tmp_path, {"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
    )
    server.life = 1
    asyncio.run(made.mount())
    asyncio.run(made.refresh(made.pod))
    assert (made.folders["v"] / "token").read_text() == "[]-1", "a young token is kept"
    time.sleep(0.85)
    asyncio.run(made.refresh(made.pod))
    assert (made.folders["v"] / "token").read_text() == "[]-2"


def test_a_claim_is_the_folder_of_its_volume(server: Server, tmp_path: Path) -> None:
    server.objects["persistentvolumeclaims", "c"] = {"spec": {"volumeName": "pv"}}
    made = volumes(server, tmp_path, {"name": "v", "persistentVolumeClaim": {"claimName": "c"}})
    with pytest.raises(MountError, match="is not bound"):
        asyncio.run(made.mount())
    server.objects["persistentvolumes", "pv"] = {"spec": {"hostPath": {"path": str(tmp_path / "data")}}}
    asyncio.run(made.mount())
    assert made.folders["v"] == tmp_path / "data" and made.folders["v"].is_dir() and "v" not in made.fixed


def test_a_hostpath_is_a_folder_a_node_of_its_own(server: Server, tmp_path: Path) -> None:
    made = volumes(server, tmp_path, {"name": "v", "hostPath": {"path": "/etc"}})
    asyncio.run(made.mount())
    assert made.folders["v"] == tmp_path / "shared" / "nodes" / "node" / "etc"


def test_a_nodes_root_is_its_folder_and_its_kernel_is_the_real_one(server: Server, tmp_path: Path) -> None:
    given = [{"name": name, "hostPath": {"path": path}} for name, path in (("r", "/"), ("p", "/proc"), ("s", "/sys"))]
    made = volumes(server, tmp_path, *given)
    asyncio.run(made.mount())
    assert made.folders["r"] == tmp_path / "shared" / "nodes" / "node"
    assert made.folders["p"] == PROCESSES and made.folders["s"] == Path("/sys")
    assert made.fixed == {"p", "s"}, "nobody writes to this machine's kernel"
