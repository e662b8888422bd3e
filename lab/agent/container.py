# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""One container: started as its spec says, watched by its probes, restarted as the policy says, ended with grace."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import uuid
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lab.agent import environment
from lab.agent.api import Failure, now
from lab.agent.environment import ContainerConfigError, expand
from lab.agent.images import PATH, Image, ImageError, Images
from lab.agent.logs import Log
from lab.agent.probes import Probe, Target, attempt
from lab.agent.sandbox import Process, Sandbox, Tools
from lab.agent.status import View, exit_code
from lab.agent.volumes import PROCESSES, Volumes
from lab.kube import Object

log = logging.getLogger(__name__)

RETRY = 3.0
BACKOFF = (0, 10, 20, 40, 80, 160, 300)
STEADY = 600  # seconds after which a container's crashes are forgotten
MINIMUM_GRACE = 2.0  # what is left for SIGTERM after a long preStop


class Home(Protocol):
    """What a container needs of its pod."""

    obj: Object
    images: Images
    tools: Tools
    network: Sandbox
    volumes: Volumes
    folder: Path
    hostname: str
    addresses: dict[str, str]
    allocatable: dict[str, str]

    def changed(self) -> None: ...
    async def event(self, kind: str, reason: str, message: str) -> None: ...
    async def read(self, plural: str, name: str) -> Object | None: ...
    async def service_variables(self) -> dict[str, str]: ...


@dataclass(frozen=True)
class Launch:
    options: list[str]
    argv: list[str]
    env: dict[str, str]


class Container:
    def __init__(self, home: Home, spec: Object, kind: str, previous: Object | None, logs: Log) -> None:
        self.home, self.spec, self.kind, self.log = home, spec, kind, logs
        self.image = home.images.find(spec["image"])
        self.state: Object = {"waiting": {"reason": "PodInitializing" if kind == "main" else "ContainerCreating"}}
        self.last: Object = {}
        self.restarts = 0
        self.ready = self.started = False
        self.identity = ""
        self.process: Process | None = None
        self.env: dict[str, str] = {}
        self.ended = asyncio.Event()  # no start any more
        self.up = asyncio.Event()  # running and past its startup probe, or ended for good
        self.grace: float | None = None
        self.crashes = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.settled = False
        if previous:
            self._resume(previous)

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def policy(self) -> str:
        if self.kind == "sidecar":
            return "Always"
        policy = str(self.home.obj["spec"].get("restartPolicy", "Always"))
        return "OnFailure" if self.kind == "init" and policy == "Always" else policy

    @property
    def view(self) -> View:
        return View(self.name, self.state, self.last, self.ready, self.kind)

    def _resume(self, previous: Object) -> None:
        """An agent before this one ran the container: its process died with it."""
        self.restarts, self.last = previous.get("restartCount", 0), previous.get("lastState", {})
        state, self.identity = previous.get("state", {}), previous.get("containerID", "")
        if "running" in state:
            ended = {"exitCode": 137, "reason": "Error", "message": "the lab's agent ended", "finishedAt": now()}
            state = {"terminated": {**ended, "startedAt": state["running"]["startedAt"], "containerID": self.identity}}
        if "terminated" in state:
            code = int(state["terminated"]["exitCode"])
            if self.kind == "main" and not self._again(code):
                self.state, self.settled = state, True
                self.up.set()
            else:
                self.last, self.restarts = state, self.restarts + 1

    def _again(self, code: int) -> bool:
        return self.policy == "Always" or (self.policy == "OnFailure" and code != 0)

    def status(self) -> Object:
        return {
            "name": self.name,
            "image": self.spec["image"],
            "imageID": f"lab://{self.image.name}" if self.image else "lab://simulated",
            "containerID": self.identity,
            "ready": self.ready if self.kind != "init" else exit_code(self.state) == 0,
            "started": self.started,
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last,
        }

    def _set(self, state: Object, ready: bool = False) -> None:
        self.state, self.ready = state, ready
        self.home.changed()

    async def pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.ended.wait(), seconds)

    async def run(self) -> int:
        """Until it has ended for good: its exit code."""
        while not self.settled:
            if self.ended.is_set():
                # never started; the kubelet reports such containers as if they had been killed
                words = "The container was never started"
                self._set(terminated(137, "ContainerStatusUnknown", self.identity, now(), words))
                break
            if self.image is None:
                await self._simulate()
                break
            launch = await self._launch()
            if launch is None:
                await self.pause(RETRY)
                continue
            began = asyncio.get_running_loop().time()
            await self._execute(self.image, launch)
            code = exit_code(self.state) or 0
            if self.ended.is_set() or not self._again(code):
                break
            if asyncio.get_running_loop().time() - began > STEADY:
                self.crashes = 0
            await self._back_off(BACKOFF[min(self.crashes, len(BACKOFF) - 1)])
            self.crashes += 1
            if not self.ended.is_set():
                self.restarts += 1
        self.settled = True
        self.up.set()
        return exit_code(self.state) or 0

    async def _back_off(self, delay: int) -> None:
        if delay:
            self.last = self.state
            meta = self.home.obj["metadata"]
            target = f"container={self.name} pod={meta['name']}_{meta['namespace']}({meta['uid']})"
            words = f"back-off {delay}s restarting failed {target}"
            self._set({"waiting": {"reason": "CrashLoopBackOff", "message": words}})
            await self.home.event("Warning", "BackOff", f"Back-off restarting failed {target}")
            await self.pause(delay)
            if self.ended.is_set():
                self._set(self.last)
        else:
            self.last = self.state

    async def _simulate(self) -> None:
        """A container whose image is not in the table, beside one that is: it runs and does nothing."""
        began = now()
        self.identity = f"lab://{uuid.uuid4().hex}"
        if self.kind != "init":
            self.started = True
            self.up.set()
            self._set({"running": {"startedAt": began}}, ready=True)
            await self.ended.wait()
        self.started = False
        self._set(terminated(0, "Completed", self.identity, began))

    async def _launch(self) -> Launch | None:
        """None after saying why it cannot be started yet."""
        try:
            return await self._prepare()
        except ContainerConfigError as error:
            reason, words = "CreateContainerConfigError", str(error)
        except (ImageError, OSError, ValueError, KeyError) as error:
            reason, words = "CreateContainerError", str(error)
        except Failure as error:
            reason, words = "CreateContainerConfigError", f"the API server did not answer: {error}"
        if self.state.get("waiting", {}).get("message") != words:
            self._set({"waiting": {"reason": reason, "message": words}})
        await self.home.event("Warning", "Failed", f"Error: {words}")
        return None

    async def _prepare(self) -> Launch:
        image, home, pod = self.image, self.home, self.home.obj
        assert image is not None
        security = {**pod["spec"].get("securityContext", {}), **self.spec.get("securityContext", {})}
        uid = security.get("runAsUser", image.uid)
        gid = security.get("runAsGroup", image.gid if "runAsUser" not in security else 0)
        if security.get("runAsNonRoot") and uid == 0:
            why = "container has runAsNonRoot and image will run as root"
            if "runAsUser" in security:
                why = "container's runAsUser breaks non-root policy"
            where = f'pod: "{pod["metadata"]["name"]}_{pod["metadata"]["namespace"]}", container: {self.name}'
            raise ContainerConfigError(f"{why} ({where})")
        loop = asyncio.get_running_loop()
        root = await loop.run_in_executor(None, home.images.root, image)
        services = await home.service_variables()
        base = {"PATH": PATH, "HOME": "/root" if uid == 0 else "/", **root.env, **image.env}
        base.update({"HOSTNAME": home.hostname, **services})
        env = await environment.resolve(pod, self.spec, base, home.read, home.addresses, home.allocatable)
        command = self.spec.get("command") or list(image.entrypoint)
        arguments = self.spec.get("args") or ([] if self.spec.get("command") else list(image.command))
        argv = [expand(word, env) for word in [*command, *arguments]]
        if not argv:
            raise ValueError("no command specified")
        fixed = bool(security.get("readOnlyRootFilesystem"))
        return Launch(self._options(image, root.options, uid, gid, fixed, env), argv, env)

    def _options(
        self, image: Image, root: list[str], uid: int, gid: int, fixed: bool, env: Mapping[str, str]
    ) -> list[str]:
        """bubblewrap's arguments. The image's files belong to root: other users cannot write to them."""
        own = self.home.folder / "etc"
        options = [
            *("--die-with-parent", "--new-session", "--as-pid-1", "--cap-drop", "ALL"),
            *("--unshare-user", "--uid", str(uid), "--gid", str(gid)),
            *("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--hostname", self.home.hostname),
            *root,
            *("--proc", "/proc", "--dev", "/dev"),
        ]
        (own / f"passwd-{uid}").write_text(passwd(uid, gid))
        (own / f"group-{gid}").write_text(f"root:x:0:\ngroup{gid}:x:{gid}:\n" if gid else "root:x:0:\n")
        files = {"passwd": f"passwd-{uid}", "group": f"group-{gid}"}
        for name in ("hosts", "resolv.conf", "hostname", "passwd", "group"):
            options += ["--ro-bind", str(own / files.get(name, name)), f"/etc/{name}"]
        for folder in ("/tmp", "/var/tmp", *image.folders):
            mode = "1777" if folder.endswith("/tmp") else "0755"
            options += ["--dir", folder] if fixed else ["--perms", mode, "--tmpfs", folder]
        for mount in sorted(self.spec.get("volumeMounts", []), key=lambda item: item["mountPath"].count("/")):
            source = self._source(mount, env)
            readonly = mount.get("readOnly") or mount["name"] in self.home.volumes.fixed
            if source == PROCESSES:
                # the container's own: figures of the machine are the same in it, other processes stay hidden
                options += ["--proc", mount["mountPath"]]
            else:
                options += ["--ro-bind" if readonly else "--bind", str(source), mount["mountPath"]]
        self.message.parent.mkdir(parents=True, exist_ok=True)
        self.message.write_bytes(b"")
        options += ["--bind", str(self.message), self.spec.get("terminationMessagePath") or "/dev/termination-log"]
        folder = self.spec.get("workingDir") or image.workdir
        if folder != "/" and not fixed:
            options += ["--dir", folder]
        if fixed or uid != 0:
            options += ["--remount-ro", "/"]
        return [*options, "--chdir", folder]

    @property
    def message(self) -> Path:
        return self.home.folder / "messages" / self.name

    def _source(self, mount: Object, env: Mapping[str, str]) -> Path:
        folder = self.home.volumes.folders.get(mount["name"])
        if folder is None:
            raise ContainerConfigError(f'volume "{mount["name"]}" not found')
        inner = mount.get("subPath") or expand(mount.get("subPathExpr", ""), env)
        if not inner:
            return folder
        source = Path(os.path.normpath(folder / inner))
        if folder not in source.parents:
            raise ContainerConfigError(f"subPath {inner} leaves the volume")
        if mount["name"] not in self.home.volumes.fixed:
            if not source.exists():
                source.mkdir(parents=True)
        elif not source.exists():
            raise ContainerConfigError(
                f'failed to prepare subPath for volumeMount "{mount["name"]}": {inner} does not exist'
            )
        # the file of this moment: as on a node, a subPath does not follow later changes
        return source.resolve()

    async def _execute(self, image: Image, launch: Launch) -> None:
        """From start to end; afterwards `state` is terminated."""
        self.log.open()
        began, self.identity, self.env = now(), f"lab://{uuid.uuid4().hex}", launch.env
        home = self.home
        try:
            process = await Process.start(home.tools, home.network.enter, launch.options, launch.argv, launch.env)
        except (OSError, ValueError) as error:
            # too many processes, arguments too long, a NUL in the environment
            self._set(terminated(128, "StartError", self.identity, began, str(error)))
            return
        self.process = process
        assert process.outer.stdout is not None and process.outer.stderr is not None
        pumps = [
            asyncio.create_task(self.log.pump("stdout", process.outer.stdout)),
            asyncio.create_task(self.log.pump("stderr", process.outer.stderr)),
        ]
        target = self._target(process)
        self.started = "startupProbe" not in self.spec
        self._set({"running": {"startedAt": began}}, ready=self.started and "readinessProbe" not in self.spec)
        watchers = [asyncio.create_task(self._watch(process, target))]
        if self.ended.is_set():
            # the pod was told to end while the process was coming up
            self._spawn(self._kill(self.grace or 0.0))
        code = await process.outer.wait()
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*pumps)
        await asyncio.gather(*watchers, return_exceptions=True)
        self.process, self.started = None, False
        code = 128 - code if code < 0 else code
        self._set(self._terminated(code, began, process.pid == 0))
        self.log.close()

    def _target(self, process: Process) -> Target:
        return Target(self.home.network.address, self.spec, lambda argv, limit: process.execute(argv, self.env, limit))

    def _terminated(self, code: int, began: str, stillborn: bool) -> Object:
        words = self.message.read_bytes()[-4096:].decode(errors="replace")
        tail = self.log.tail.decode(errors="replace").strip()
        if code != 0 and (stillborn or tail.startswith("bwrap: ")):
            return terminated(128, "StartError", self.identity, began, tail or "the process did not start")
        if not words and code != 0 and self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            words = tail
        return terminated(code, "Completed" if code == 0 else "Error", self.identity, began, words)

    async def _watch(self, process: Process, target: Target) -> None:
        """Hook and probes of the running container; ends by being cancelled with it."""
        await self.home.event("Normal", "Started", f"Started container {self.name}")
        hook = self.spec.get("lifecycle", {}).get("postStart")
        if hook:
            words = await attempt(target, hook, 300)
            if words is not None:
                await self.home.event("Warning", "FailedPostStartHook", f"PostStartHook failed: {words}")
                self._spawn(self._kill(self._full_grace()))
                return
        probes = {
            kind: self.spec[f"{kind}Probe"]
            for kind in ("startup", "readiness", "liveness")
            if f"{kind}Probe" in self.spec
        }
        if "startup" in probes:
            await Probe("startup", probes.pop("startup"), target, self._probed, self._unhealthy).run()
        self.up.set()
        await asyncio.gather(
            *(Probe(kind, spec, target, self._probed, self._unhealthy).run() for kind, spec in probes.items())
        )

    async def _unhealthy(self, kind: str, words: str) -> None:
        await self.home.event("Warning", "Unhealthy", f"{kind.capitalize()} probe failed: {words}")

    async def _probed(self, kind: str, good: bool) -> None:
        if kind == "startup" and good:
            self.started = True
            self._set(self.state, ready="readinessProbe" not in self.spec)
        elif kind == "readiness":
            self._set(self.state, ready=good)
        elif not good and not self.ended.is_set():
            await self.home.event("Normal", "Killing", f"Container {self.name} failed {kind} probe, will be restarted")
            grace = self.spec[f"{kind}Probe"].get("terminationGracePeriodSeconds", self._full_grace())
            self._spawn(self._kill(float(grace)))

    def _full_grace(self) -> float:
        return float(self.home.obj["spec"].get("terminationGracePeriodSeconds", 30))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def stop(self, grace: float, hooks: bool = True) -> None:
        """For good: preStop, SIGTERM, and SIGKILL when the grace is over."""
        self.grace = grace
        self.ended.set()
        await self._kill(grace, hooks)

    async def _kill(self, grace: float, hooks: bool = True) -> None:
        process, image = self.process, self.image
        if process is None or image is None or not process.running:
            return
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace
        hook = self.spec.get("lifecycle", {}).get("preStop")
        if hook and hooks and grace > 0:
            ending = asyncio.ensure_future(process.outer.wait())
            hooked = asyncio.ensure_future(attempt(self._target(process), hook, grace))
            await asyncio.wait({ending, hooked}, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
            ending.cancel()
            if hooked.done() and (words := hooked.result()) is not None and process.running:
                await self.home.event("Warning", "FailedPreStopHook", f"PreStopHook failed: {words}")
            hooked.cancel()
        process.signal(signal.Signals[image.stop_signal])
        left = max(deadline - loop.time(), MINIMUM_GRACE if grace > 0 else 0.01)
        try:
            await asyncio.wait_for(process.outer.wait(), left)
        except TimeoutError:
            process.signal(signal.SIGKILL)
            await process.outer.wait()


def terminated(code: int, reason: str, identity: str, began: str, words: str = "") -> Object:
    state: Object = {
        "exitCode": code,
        "reason": reason,
        "startedAt": began,
        "finishedAt": now(),
        "containerID": identity,
    }
    if words:
        state["message"] = words
    return {"terminated": state}


def passwd(uid: int, gid: int) -> str:
    lines = ["root:x:0:0:root:/root:/bin/sh", "nobody:x:65534:65534:nobody:/:/sbin/nologin"]
    if uid not in (0, 65534):
        lines.append(f"user{uid}:x:{uid}:{gid}::/:/sbin/nologin")
    return "\n".join(lines) + "\n"
