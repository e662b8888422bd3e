# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""One pod from the moment it is bound to a node until it is gone from the API."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from lab.agent import environment
from lab.agent.api import STRATEGIC, Api, Failure, missing, now
from lab.agent.config import Config
from lab.agent.container import RETRY, Container
from lab.agent.images import Images
from lab.agent.logs import Log, announce
from lab.agent.sandbox import Addresses, Sandbox, SandboxError, Tools
from lab.agent.status import Conditions, phase
from lab.agent.volumes import MountError, Volumes
from lab.kube import Object, Refused

log = logging.getLogger(__name__)

REFRESH = 15.0  # seconds between looks at ConfigMaps, Secrets and tokens in volumes


@dataclass
class Services:
    """What all pods share."""

    config: Config
    api: Api
    images: Images
    tools: Tools
    pool: Addresses
    nodes: dict[str, Object] = field(default_factory=dict)
    kubernetes: list[Object] = field(default_factory=list)

    async def node(self, name: str) -> Object:
        if name not in self.nodes:
            found = await self.api.get(f"/api/v1/nodes/{name}")
            if found is None:
                return {"status": {}}
            self.nodes[name] = found
        return self.nodes[name]

    async def master(self) -> list[Object]:
        """The API server's own Service, whose address never changes."""
        if not self.kubernetes:
            found = await self.api.get("/api/v1/namespaces/default/services/kubernetes")
            self.kubernetes = [found] if found else []
        return list(self.kubernetes)


class Pod:
    def __init__(self, services: Services, obj: Object) -> None:
        self.services, self.obj = services, obj
        self.images, self.tools = services.images, services.tools
        self.uid = str(obj["metadata"]["uid"])
        self.folder = services.config.run / "pods" / self.uid
        self.hostname = str(obj["spec"].get("hostname") or obj["metadata"]["name"][:63])
        self.leaving = asyncio.Event()  # asked to end
        self.gone = asyncio.Event()  # no longer in the API
        self.dirty = asyncio.Event()
        self.over = self.silent = False
        self.reason: Object = {}
        self.reported: Object = {}
        kept = {entry["type"]: entry for entry in obj.get("status", {}).get("conditions", [])}
        self.conditions = Conditions(
            {kind: kept[kind] for kind in ("Initialized", "Ready", "ContainersReady") if kind in kept}
        )
        self.network = Sandbox(self.tools, services.config.gateway, "")
        self.addresses: dict[str, str] = {}
        self.allocatable: dict[str, str] = {}
        self.volumes = Volumes(services.api, self.read, obj, self.folder / "volumes", services.config.run, {}, {})
        self.containers: list[Container] = []
        self.logs: dict[str, Log] = {}
        self.started = obj.get("status", {}).get("startTime") or now()
        self.update(obj)

    @property
    def label(self) -> str:
        return f"{self.obj['metadata']['namespace']}/{self.obj['metadata']['name']}"

    def update(self, obj: Object) -> None:
        self.obj = obj
        if "deletionTimestamp" in obj["metadata"]:
            self.leaving.set()

    def vanished(self) -> None:
        self.gone.set()
        self.leaving.set()

    def changed(self) -> None:
        self.dirty.set()

    async def event(self, kind: str, reason: str, message: str) -> None:
        await self.services.api.event(self.obj, kind, reason, message)

    async def read(self, plural: str, name: str) -> Object | None:
        return await self.services.api.get(f"/api/v1/namespaces/{self.obj['metadata']['namespace']}/{plural}/{name}")

    async def service_variables(self) -> dict[str, str]:
        """Every pod gets those of the API server; those of its namespace unless it says no."""
        api, namespace = self.services.api, self.obj["metadata"]["namespace"]
        wanted = await self.services.master()
        if self.obj["spec"].get("enableServiceLinks", True):
            wanted += (await api.call("GET", f"/api/v1/namespaces/{namespace}/services"))["items"]
        return environment.service_variables(wanted)

    async def abandon(self, patience: float) -> None:
        """End the processes and say nothing about it."""
        self.silent = True
        await asyncio.gather(*(item.stop(patience, hooks=False) for item in self.containers))

    async def run(self) -> None:
        reporter = asyncio.create_task(self._report())
        try:
            await self._live()
        finally:
            reporter.cancel()
            await asyncio.gather(reporter, return_exceptions=True)
            await asyncio.gather(*(item.stop(0) for item in self.containers))
            await self.network.remove()
            if not self.silent:
                self.services.pool.free(self.uid)
                shutil.rmtree(self.folder, ignore_errors=True)
                log.info("%s: gone", self.label)

    async def _live(self) -> None:
        self._make_containers()
        work = asyncio.create_task(self._work())
        leave = asyncio.create_task(self.leaving.wait())
        limit = self.obj["spec"].get("activeDeadlineSeconds")
        done, _ = await asyncio.wait({work, leave}, return_when=asyncio.FIRST_COMPLETED, timeout=limit)
        if not done:
            self.reason = {
                "reason": "DeadlineExceeded",
                "message": "Pod was active on the node longer than the specified deadline",
            }
            await self._stop(float(self.obj["spec"].get("terminationGracePeriodSeconds", 30)))
        elif work not in done:
            await self._stop(self._grace())
        await work
        if self.silent:
            return
        self.over = True
        await self._settle()
        leave.cancel()
        log.info("%s: %s", self.label, self.reported.get("phase", "ended"))
        await self.network.remove()
        self.services.pool.free(self.uid)
        await self.leaving.wait()
        await self._delete()

    def _grace(self) -> float:
        return 0.0 if self.gone.is_set() else float(self.obj["metadata"].get("deletionGracePeriodSeconds", 30))

    async def _stop(self, grace: float) -> None:
        """Main containers together, then the sidecars; a pod that vanishes meanwhile has no grace left."""
        await self.event("Normal", "Killing", "Stopping containers")

        async def ending() -> None:
            await asyncio.gather(*(item.stop(grace) for item in self.containers if item.kind != "sidecar"))
            await asyncio.gather(*(item.stop(grace) for item in self.containers if item.kind == "sidecar"))

        stopping, gone = asyncio.create_task(ending()), asyncio.create_task(self.gone.wait())
        await asyncio.wait({stopping, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done():
            stopping.cancel()
            await asyncio.gather(*(item.stop(0) for item in self.containers))
        gone.cancel()

    def _make_containers(self) -> None:
        status = self.obj.get("status", {})
        lists = [*status.get("containerStatuses", []), *status.get("initContainerStatuses", [])]
        previous = {entry["name"]: entry for entry in lists}
        spec = self.obj["spec"]
        folder = self.services.config.logs / self.uid
        entries = [
            (item, "sidecar" if item.get("restartPolicy") == "Always" else "init")
            for item in spec.get("initContainers", [])
        ]
        entries += [(item, "main") for item in spec["containers"]]
        for item, kind in entries:
            self.logs[item["name"]] = Log(folder, item["name"])
            self.containers.append(Container(self, item, kind, previous.get(item["name"]), self.logs[item["name"]]))
        self.changed()

    async def _work(self) -> None:
        """Everything up to the end of the last container."""
        mains = [item for item in self.containers if item.kind == "main"]
        if all(item.settled for item in mains):
            return
        running: list[asyncio.Task[int]] = []
        if await self._prepare() and await self._initialize(running):
            running += [asyncio.create_task(item.run()) for item in mains]
            await asyncio.gather(*running[-len(mains) :])
        for item in self.containers:
            if item.kind == "sidecar":
                await item.stop(self._sidecar_grace())
            item.ended.set()
        await asyncio.gather(*running)
        for item in mains:
            if not item.settled and self.leaving.is_set():
                await item.run()

    def _sidecar_grace(self) -> float:
        return float(self.obj["spec"].get("terminationGracePeriodSeconds", 30))

    async def _prepare(self) -> bool:
        """Address, volumes and network; tried until they are there. False when the pod is to end instead."""
        if not await self._until(self._place, "FailedCreatePodSandBox"):
            return False
        if not await self._until(self._mount, "FailedMount"):
            return False
        announced = asyncio.create_task(announce(self.services.api, self.obj, self.network.address, self.logs))
        created = await self._until(self.network.create, "FailedCreatePodSandBox")
        await announced
        log.info("%s: %s", self.label, self.network.address)
        return created

    async def _until(self, step: Callable[[], Awaitable[None]], reason: str) -> bool:
        while not self.leaving.is_set():
            try:
                await step()
                self.changed()
                return True
            except (MountError, SandboxError, OSError, TimeoutError) as error:
                await self.event("Warning", reason, str(error))
            except Failure as error:
                log.info("%s: trying again: %s", self.label, error)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.leaving.wait(), RETRY)
        return False

    async def _place(self) -> None:
        config, spec = self.services.config, self.obj["spec"]
        status = (await self.services.node(spec["nodeName"])).get("status", {})
        node = next(
            (entry["address"] for entry in status.get("addresses", []) if entry["type"] == "InternalIP"), config.gateway
        )
        if spec.get("hostNetwork"):
            # all nodes are one machine here, where a port exists only once: the address is the pod's own all the same
            self.hostname = spec["nodeName"][:63]
        self.network = Sandbox(self.tools, config.gateway, self.services.pool.take(self.uid))
        address = self.network.address
        self.addresses.update(
            {"status.podIP": address, "status.podIPs": address, "status.hostIP": node, "status.hostIPs": node}
        )
        self.allocatable.update(status.get("allocatable", {}))
        self.volumes.addresses, self.volumes.allocatable = self.addresses, self.allocatable
        self._etc(self.folder / "etc")

    def _etc(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        spec, config = self.obj["spec"], self.services.config
        namespace = self.obj["metadata"]["namespace"]
        names = self.hostname
        if spec.get("subdomain"):
            names = f"{self.hostname}.{spec['subdomain']}.{namespace}.svc.{config.domain}\t{self.hostname}"
        hosts = [
            "127.0.0.1\tlocalhost",
            "::1\tlocalhost ip6-localhost ip6-loopback",
            f"{self.network.address}\t{names}",
        ]
        hosts += [f"{alias['ip']}\t{' '.join(alias.get('hostnames', []))}" for alias in spec.get("hostAliases", [])]
        (folder / "hosts").write_text("\n".join(hosts) + "\n")
        (folder / "hostname").write_text(f"{self.hostname}\n")
        own = spec.get("dnsConfig", {})
        servers, searches, options = list(own.get("nameservers", [])), list(own.get("searches", [])), []
        if spec.get("dnsPolicy", "ClusterFirst") != "None":
            servers = [config.nameserver, *servers]
            searches = [
                f"{namespace}.svc.{config.domain}",
                f"svc.{config.domain}",
                config.domain,
                *searches,
            ]
            options = ["ndots:5"]
        given = [
            f"{entry['name']}:{entry['value']}" if entry.get("value") else entry["name"]
            for entry in own.get("options", [])
        ]
        options = [
            entry for entry in options if entry.split(":")[0] not in {item.split(":")[0] for item in given}
        ] + given
        lines = [f"search {' '.join(searches)}"] if searches else []
        lines += [f"nameserver {server}" for server in servers] + ([f"options {' '.join(options)}"] if options else [])
        (folder / "resolv.conf").write_text("\n".join(lines) + "\n")

    async def _mount(self) -> None:
        await self.volumes.mount()

    async def _initialize(self, running: list[asyncio.Task[int]]) -> bool:
        """Init containers one after the other; a sidecar is waited for until it has started."""
        for item in self.containers:
            if item.kind == "sidecar":
                running.append(asyncio.create_task(item.run()))
                await item.up.wait()
            elif item.kind == "init" and await item.run() != 0:
                return False
            if self.leaving.is_set():
                return False
        return True

    def status(self) -> Object:
        views = [item.view for item in self.containers]
        current = phase(self.obj["spec"].get("restartPolicy", "Always"), views, self.over)
        if self.reason:
            current = "Failed"
        status: Object = {
            "phase": current,
            "startTime": self.started,
            "conditions": self.conditions.update(self.obj, views, current, self.network.alive and bool(self.addresses)),
            "containerStatuses": [item.status() for item in self.containers if item.kind == "main"],
            "initContainerStatuses": [item.status() for item in self.containers if item.kind != "main"],
            **self.reason,
        }
        if self.addresses:
            address, node = self.addresses["status.podIP"], self.addresses["status.hostIP"]
            # lists of addresses are merged by the server unless told otherwise
            replace = {"$patch": "replace"}
            status.update(
                hostIP=node, hostIPs=[replace, {"ip": node}], podIP=address, podIPs=[replace, {"ip": address}]
            )
        return status

    async def _report(self) -> None:
        refresh = asyncio.create_task(self._refresh())
        try:
            while True:
                await self.dirty.wait()
                self.dirty.clear()
                try:
                    await self._send()
                except Failure as error:
                    if missing(error):
                        continue
                    log.info("%s: status not written, trying again: %s", self.label, error)
                    await asyncio.sleep(0.5)
                    self.dirty.set()
        finally:
            refresh.cancel()

    async def _send(self) -> None:
        status = self.status()
        if status == self.reported or self.silent:
            return
        meta = self.obj["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/status"
        body = {"metadata": {"uid": self.uid}, "status": status}
        try:
            await self.services.api.call("PATCH", path, body, content_type=STRATEGIC)
        except Refused as error:
            # a pod of the same name and another life has taken its place
            if error.status != 409:
                raise
        self.reported = status

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH)
            if self.volumes.fixed and not self.over:
                try:
                    await self.volumes.refresh(self.obj)
                except (*Failure, MountError) as error:
                    log.info("%s: volumes not refreshed: %s", self.label, error)

    async def _settle(self) -> None:
        """The last word about the containers, before the pod may be deleted."""
        while not self.gone.is_set():
            try:
                await self._send()
                return
            except Failure as error:
                if missing(error):
                    return
                await asyncio.sleep(0.5)

    async def _delete(self) -> None:
        """As the kubelet: only when nothing runs any more, and only this very pod."""
        meta = self.obj["metadata"]
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
        while not self.gone.is_set():
            try:
                await self.services.api.call(
                    "DELETE", f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}", body
                )
                return
            except Failure as error:
                if missing(error) or (isinstance(error, Refused) and error.status == 409):
                    return
                await asyncio.sleep(0.5)
