# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What containers write, in the runtime's log format, and the objects by which KWOK finds it and the pods' ports."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from lab.agent.api import Api, Failure, missing
from lab.kube import Object

log = logging.getLogger(__name__)

LINE = 16 * 1024  # longer lines are written in parts, as containerd does
ROTATE = 10 * 1024 * 1024
GROUP = "/apis/kwok.x-k8s.io/v1alpha1"


class Log:
    """The log of one container; the one before the last restart is kept beside it."""

    def __init__(self, folder: Path, container: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.previous = folder / f"{container}.log", folder / f"{container}.previous.log"
        self.path.touch()
        self.stream: BinaryIO | None = None
        self.size = 0
        self.tail = b""

    def open(self) -> None:
        """A new start of the container."""
        self.close()
        if self.path.stat().st_size:
            self.path.replace(self.previous)
        self.stream = self.path.open("ab", buffering=0)
        self.size, self.tail = 0, b""

    def close(self) -> None:
        if self.stream is not None:
            self.stream.close()
            self.stream = None

    def write(self, source: str, text: bytes, whole: bool) -> None:
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + f"{time.time_ns() % 1000:03d}Z"
        line = f"{moment} {source} {'F' if whole else 'P'} ".encode() + text + b"\n"
        self.tail = (self.tail + text + b"\n")[-2048:]
        if self.stream is None:
            return
        if self.size > ROTATE:
            self.stream.close()
            self.path.replace(self.path.with_suffix(".1.log"))
            self.stream, self.size = self.path.open("ab", buffering=0), 0
        self.stream.write(line)
        self.size += len(line)

    async def pump(self, source: str, reader: asyncio.StreamReader) -> None:
        """Copy a stream line by line until its end."""
        rest = b""
        while chunk := await reader.read(64 * 1024):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._line(source, line, whole=True)
            while len(rest) > LINE:
                self.write(source, rest[:LINE], whole=False)
                rest = rest[LINE:]
        if rest:
            self.write(source, rest, whole=True)

    def _line(self, source: str, line: bytes, whole: bool) -> None:
        while len(line) > LINE:
            self.write(source, line[:LINE], whole=False)
            line = line[LINE:]
        self.write(source, line, whole)


async def announce(api: Api, pod: Object, address: str, logs: dict[str, Log]) -> None:
    """Tell KWOK, which answers as the nodes' kubelet, where logs and ports of the pod are."""
    meta = pod["metadata"]
    owner = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}
    common = {"name": meta["name"], "namespace": meta["namespace"], "ownerReferences": [owner]}
    ports = sorted({port["containerPort"] for item in pod["spec"]["containers"] for port in item.get("ports", [])})
    forwards = [{"ports": [port], "target": {"address": address, "port": port}} for port in ports]
    entries = [
        {"containers": [name], "logsFile": str(kept.path), "previousLogsFile": str(kept.previous), "follow": True}
        for name, kept in logs.items()
    ]
    await replace(api, "Logs", common, {"logs": entries})
    if forwards:
        await replace(api, "PortForward", common, {"forwards": forwards})


async def replace(api: Api, kind: str, meta: Object, spec: Object) -> None:
    """A pod of a StatefulSet follows one of the same name: its object must name the new owner only."""
    plural = {"Logs": "logs", "PortForward": "portforwards"}[kind]
    collection = f"{GROUP}/namespaces/{meta['namespace']}/{plural}"
    body = {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": kind, "metadata": meta, "spec": spec}
    reason: Exception | None = None
    for _ in range(5):
        try:
            await api.call("POST", collection, body)
            return
        except Failure as error:
            if missing(error):
                log.info("%s %s/%s: no KWOK here", kind, meta["namespace"], meta["name"])
                return
            reason = error
        try:
            # of the pod before; the garbage collector may be faster
            await api.call("DELETE", f"{collection}/{meta['name']}")
        except Failure as error:
            if not missing(error):
                await asyncio.sleep(0.2)
    log.warning("%s %s/%s not written: %s", kind, meta["namespace"], meta["name"], reason)
