# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""A pod's volumes as folders on this machine, kept up to date while the pod lives."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from lab.agent.api import Api
from lab.agent.environment import Read, bytes_of, field_value, resource_value
from lab.kube import Object

Files = dict[str, tuple[bytes, int]]
PRIVATE = "..data"
PROCESSES = Path("/proc")
KERNEL = (PROCESSES, Path("/sys"))
RENEW_AFTER = 0.8  # of a token's life, as the kubelet does


class MountError(Exception):
    """Event FailedMount, with the kubelet's words; tried again."""


class Volumes:
    """`folders` has each volume's path on this machine; `fixed` those that a container cannot write."""

    def __init__(
        self,
        api: Api,
        read: Read,
        pod: Object,
        folder: Path,
        shared: Path,
        addresses: Mapping[str, str],
        allocatable: Mapping[str, str],
    ) -> None:
        self.api, self.read, self.pod = api, read, pod
        self.folder, self.shared = folder, shared
        self.addresses, self.allocatable = addresses, allocatable
        self.folders: dict[str, Path] = {}
        self.fixed: set[str] = set()
        self.written: dict[str, Files] = {}
        self.tokens: dict[tuple[str, str], tuple[str, float]] = {}

    async def mount(self) -> None:
        for volume in self.pod["spec"].get("volumes", []):
            name = volume["name"]
            try:
                files = await self._files(volume)
                if files is None:
                    self.folders[name] = await self._storage(volume)
                else:
                    self.fixed.add(name)
                    self.folders[name] = self.folder / name
                    self._write(name, files)
            except MountError as error:
                raise MountError(f'MountVolume.SetUp failed for volume "{name}" : {error}') from error

    async def refresh(self, pod: Object) -> None:
        """Write again what changed in the API; a token that gets old is replaced."""
        self.pod = pod
        for volume in pod["spec"].get("volumes", []):
            if volume["name"] in self.fixed:
                files = await self._files(volume)
                if files is not None:
                    self._write(volume["name"], files)

    async def _storage(self, volume: Object) -> Path:
        meta = self.pod["metadata"]
        target: Path
        if "emptyDir" in volume:
            target = self.folder / volume["name"]
        elif "hostPath" in volume:
            named = Path(volume["hostPath"]["path"])
            if named in KERNEL:
                self.fixed.add(volume["name"])
                return named
            # nodes are not machines here: each has a folder of its own instead
            target = self.shared / "nodes" / self.pod["spec"]["nodeName"] / str(named).strip("/")
        elif "persistentVolumeClaim" in volume or "ephemeral" in volume:
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            target = await self._claim(claim or f"{meta['name']}-{volume['name']}")
        else:
            kinds = ", ".join(sorted(set(volume) - {"name"}))
            raise MountError(f"the lab knows no volume of type {kinds}")
        target.mkdir(parents=True, exist_ok=True)
        return target

    async def _claim(self, name: str) -> Path:
        claim = await self.read("persistentvolumeclaims", name)
        if claim is None:
            raise MountError(f'persistentvolumeclaim "{name}" not found')
        bound = claim["spec"].get("volumeName")
        volume = await self.api.get(f"/api/v1/persistentvolumes/{bound}") if bound else None
        if volume is None:
            raise MountError(f'persistentvolumeclaim "{name}" is not bound')
        for kind in ("hostPath", "local"):
            if kind in volume["spec"]:
                return Path(str(volume["spec"][kind]["path"]))
        return self.shared / "volumes" / str(bound)

    async def _files(self, volume: Object) -> Files | None:
        """The files of a volume that the kubelet writes itself; None for storage."""
        if "configMap" in volume or "secret" in volume:
            kind = "configMap" if "configMap" in volume else "secret"
            source = volume[kind]
            name = source["name"] if kind == "configMap" else source["secretName"]
            return await self._keys(kind, {**source, "name": name}, source.get("defaultMode", 0o644))
        if "downwardAPI" in volume:
            return self._downward(
                volume["downwardAPI"].get("items", []), volume["downwardAPI"].get("defaultMode", 0o644)
            )
        if "projected" not in volume:
            return None
        mode = volume["projected"].get("defaultMode", 0o644)
        files: Files = {}
        for source in volume["projected"].get("sources", []):
            if "serviceAccountToken" in source:
                files[source["serviceAccountToken"]["path"]] = (await self._token(source["serviceAccountToken"]), 0o644)
            elif "downwardAPI" in source:
                files.update(self._downward(source["downwardAPI"].get("items", []), mode))
            elif "configMap" in source or "secret" in source:
                kind = "configMap" if "configMap" in source else "secret"
                files.update(await self._keys(kind, source[kind], mode))
            else:
                raise MountError(f"the lab knows no projected source {', '.join(source)}")
        return files

    async def _keys(self, kind: str, source: Object, mode: int) -> Files:
        found = await self.read(f"{kind.lower()}s", source["name"])
        optional = source.get("optional", False)
        if found is None:
            if optional:
                return {}
            raise MountError(f'{kind.lower()} "{source["name"]}" not found')
        keys = {**(found.get("data") or {}), **(found.get("binaryData") or {})}
        if "items" not in source:
            return {key: (bytes_of(found, key), mode) for key in keys}
        files: Files = {}
        for item in source["items"]:
            if item["key"] in keys:
                files[item["path"]] = (bytes_of(found, item["key"]), item.get("mode", mode))
            elif not optional:
                raise MountError(
                    f"references non-existent {'config' if kind == 'configMap' else 'secret'} key: {item['key']}"
                )
        return files

    def _downward(self, items: list[Object], mode: int) -> Files:
        files: Files = {}
        for item in items:
            if "fieldRef" in item:
                text = field_value(self.pod, item["fieldRef"]["fieldPath"], self.addresses)
            else:
                text = resource_value(self.pod, {}, item["resourceFieldRef"], self.allocatable)
            files[item["path"]] = (text.encode(), item.get("mode", mode))
        return files

    async def _token(self, source: Object) -> bytes:
        audience, seconds = source.get("audience", ""), int(source.get("expirationSeconds", 3600))
        kept = self.tokens.get((audience, source["path"]))
        if kept and time.time() < kept[1]:
            return kept[0].encode()
        meta = self.pod["metadata"]
        account = self.pod["spec"].get("serviceAccountName", "default")
        body = {
            "spec": {
                "audiences": [audience] if audience else [],
                "expirationSeconds": seconds,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]},
            }
        }
        path = f"/api/v1/namespaces/{meta['namespace']}/serviceaccounts/{account}/token"
        status = (await self.api.call("POST", path, body))["status"]
        expires = datetime.fromisoformat(status["expirationTimestamp"]).timestamp()
        renew = time.time() + RENEW_AFTER * (expires - time.time())
        self.tokens[(audience, source["path"])] = (status["token"], renew)
        return str(status["token"]).encode()

    def _write(self, name: str, files: Files) -> None:
        """All files change at once, by one rename of a link, as programs that watch such volumes expect it."""
        if self.written.get(name) == files:
            return
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / f"..{time.strftime('%Y_%m_%d_%H_%M_%S')}.{time.monotonic_ns()}"
        fresh.mkdir()
        for path, (content, mode) in files.items():
            target = fresh / path
            if fresh not in target.resolve().parents:
                raise MountError(f"path {path} leaves the volume")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            target.chmod(mode)
        link = folder / PRIVATE
        before = os.readlink(link) if link.is_symlink() else None
        (folder / "..data_tmp").unlink(missing_ok=True)
        (folder / "..data_tmp").symlink_to(fresh.name)
        (folder / "..data_tmp").rename(link)
        names = {path.split("/")[0] for path in files}
        for top in names:
            if not (folder / top).is_symlink():
                (folder / top).symlink_to(f"{PRIVATE}/{top}")
        for entry in folder.iterdir():
            if not entry.name.startswith("..") and entry.name not in names:
                entry.unlink()
        if before:
            shutil.rmtree(folder / before, ignore_errors=True)
        self.written[name] = files
