# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""One run at a time on a cluster: a Lease on Harvester, held as long as its run lives (private to this collection).

Whether a holder lives is judged as Kubernetes' own leader election does it, by whether the Lease changes while one
looks, and never by comparing the clocks of two machines. A holder of this machine is simply looked for.
"""

from __future__ import annotations

import datetime
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ._errors import PlatformError
from ._kube_client import ApiError, KubeClient
from ._vault_keys import FIELD_MANAGER, ensure_namespace

PROCESS = "platform.harvester-rke2.io/process"
# Long enough for an outage of Rancher or Harvester, short enough to wait for after a machine was lost.
DURATION = 120
PAUSE = 15.0
_LOOK = 1.0
_WATCH = 0.5
_FAREWELL = 20.0
# Seconds in which a run that is told to stop ends its tasks.
_GRACE = 10.0
# A process of somebody else, where the system shows nobody's but one's own.
_HIDDEN = "hidden"


@dataclass(frozen=True)
class Run:
    """Who wants the Lease: in words, and as a process that others on the same machine can look for."""

    holder: str
    process: str


def process_of(pid: int) -> str:
    """Machine, process namespace, number and start of a process; nothing where the system does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')} {pid} {_started(pid)}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When it began, in the kernel's ticks; nothing for one that has ended, also if nobody has taken note yet."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return _HIDDEN if _exists(pid) else ""
    return "" if fields[0] in ("Z", "X") else fields[19]


def began(pid: int) -> float:
    """When a process began, in seconds since 1970; this moment where the system does not tell."""
    ticks = _started(pid)
    try:
        with open("/proc/uptime", encoding="ascii") as file:
            up = float(file.read().split()[0])
    except OSError:
        return time.time()
    return time.time() - up + int(ticks) / os.sysconf("SC_CLK_TCK") if ticks.isdigit() else time.time()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def lives(pid: int, process: str) -> bool:
    if process:
        return process_of(pid) == process
    return _exists(pid)


def fate(process: str) -> bool | None:
    """Whether a holder lives; None for one of another machine, of which nothing can be said from here."""
    parts = process.split(" ")
    if len(parts) != 4 or not parts[2].isdigit():
        return None
    here = process_of(int(parts[2])).split(" ")
    if here[:2] != parts[:2] or here[-1] == _HIDDEN:
        return None
    return here == parts


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Held(PlatformError):
    """Another run has the cluster."""


class RunLease:
    """The Lease of one cluster, as one run sees it."""

    def __init__(
        self, client: KubeClient, namespace: str, name: str, run: Run, cluster: str, duration: int = DURATION
    ) -> None:
        self.client, self.namespace, self.name, self.run, self.cluster = client, namespace, name, run, cluster
        self.duration = duration
        self._folder = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"

    def read(self) -> dict[str, Any] | None:
        return self.client.get_or_none(f"{self._folder}/{self.name}")

    def acquire(self) -> dict[str, Any]:
        """Take it, from whoever has not shown himself for its duration; or say who has it.

        ``overlapped`` says that somebody else had it while this was going on, ``taken_from`` who did not give it back.
        """
        first: Mapping[str, Any] | None = None
        silent_at = 0.0
        while True:
            lease = self.read()
            if lease is None:
                if self._create():
                    return {"already": False, "taken_from": "", "renewed": ""}
                continue
            spec = lease.get("spec") or {}
            holder = str(spec.get("holderIdentity") or "")
            said = str((lease["metadata"].get("annotations") or {}).get(PROCESS) or "")
            if holder == self.run.holder:
                return {"already": True, "taken_from": "", "renewed": ""}
            alive = fate(said) if holder else False
            if alive:
                raise self._held(spec)
            if first is None:
                first, silent_at = spec, time.monotonic() + float(spec.get("leaseDurationSeconds") or self.duration)
            elif alive is None and _mark(spec) != _mark(first):
                raise self._held(spec)
            if alive is False or time.monotonic() >= silent_at:
                if self._take(lease):
                    return {"already": False, "taken_from": holder, "renewed": str(spec.get("renewTime") or "")}
                first = None
            else:
                time.sleep(_LOOK)

    def renew(self) -> bool:
        """Show that the run lives; False when somebody else has the Lease now."""
        lease = self.read()
        if lease is None:
            return self._create() or self.renew()
        holder = (lease.get("spec") or {}).get("holderIdentity")
        if holder not in (None, self.run.holder):
            return False
        return self._take(lease) or self.renew()

    def release(self) -> None:
        """Give it back, if it is still ours."""
        lease = self.read()
        if lease is None or (lease.get("spec") or {}).get("holderIdentity") != self.run.holder:
            return
        spec = {key: value for key, value in lease["spec"].items() if key not in ("holderIdentity", "acquireTime")}
        if not self._put({**lease, "spec": {**spec, "renewTime": _now()}}):
            self.release()

    def _lease(self, meta: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
        moment, mine = _now(), spec.get("holderIdentity") == self.run.holder
        changes = int(spec.get("leaseTransitions") or 0)
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {**meta, "annotations": {**(meta.get("annotations") or {}), PROCESS: self.run.process}},
            "spec": {
                "holderIdentity": self.run.holder,
                "leaseDurationSeconds": self.duration,
                "acquireTime": spec["acquireTime"] if mine and spec.get("acquireTime") else moment,
                "renewTime": moment,
                "leaseTransitions": changes if mine else changes + 1,
            },
        }

    def _create(self) -> bool:
        """Make it ours; False when somebody was quicker, or when its namespace had to be made first."""
        lease = self._lease({"namespace": self.namespace, "name": self.name}, {})
        try:
            self.client.create(lease, field_manager=FIELD_MANAGER)
        except ApiError as exc:
            if exc.status == 404:
                ensure_namespace(self.client, self.namespace)
            elif exc.status != 409:
                raise
            return False
        return True

    def _take(self, lease: Mapping[str, Any]) -> bool:
        return self._put(self._lease(lease["metadata"], lease.get("spec") or {}))

    def _put(self, lease: Mapping[str, Any]) -> bool:
        """Write what was read and changed; False when it has changed meanwhile."""
        query = {"fieldManager": FIELD_MANAGER}
        try:
            self.client.request("PUT", f"{self._folder}/{self.name}", body=lease, query=query)
        except ApiError as exc:
            if not exc.conflict and exc.status != 404:
                raise
            return False
        return True

    def _held(self, spec: Mapping[str, Any]) -> Held:
        seconds = int(spec.get("leaseDurationSeconds") or self.duration)
        since = str(spec.get("acquireTime") or "an unknown moment").partition(".")[0].removesuffix("Z")
        return Held(
            f"Keeping other runs away from the cluster {self.cluster}",
            f"{spec.get('holderIdentity')} has it since {since} UTC, and is at work",
            f"Wait until that run has ended. Should it be dead, run again: after {seconds} s without a sign of life "
            "the cluster is taken over.",
            held_by=str(spec.get("holderIdentity") or ""),
            since=since,
        )


def _mark(spec: Mapping[str, Any]) -> tuple[Any, ...]:
    return spec.get("holderIdentity"), spec.get("renewTime")


def keep(lease: RunLease, pid: int, pause: float = PAUSE) -> None:
    """Renew the Lease as long as the run's process lives, then give it back."""
    following = time.monotonic() + pause
    while lives(pid, lease.run.process):
        time.sleep(_WATCH)
        if time.monotonic() < following:
            continue
        # What cannot be reached now is tried again soon: the Lease lasts for many attempts.
        following = time.monotonic() + pause / 5
        with suppress(PlatformError):
            if not lease.renew():
                _stop(pid, lease)
                return
            following = time.monotonic() + pause
    deadline = time.monotonic() + _FAREWELL
    while time.monotonic() < deadline:
        with suppress(PlatformError):
            lease.release()
            return
        time.sleep(_LOOK)


def _stop(pid: int, lease: RunLease) -> None:
    """This run was silent for so long (a machine asleep, a network away) that another one has begun."""
    with suppress(OSError), open(f"/proc/{pid}/fd/2", "a", encoding="utf-8") as terminal:
        terminal.write(f"\nAnother run has taken over the cluster {lease.cluster}: this one is stopped.\n")
    # A run that a script has started in the background does not hear the first.
    for name in (signal.SIGINT, signal.SIGTERM):
        if lives(pid, lease.run.process):
            os.kill(pid, name)
        deadline = time.monotonic() + _GRACE
        while lives(pid, lease.run.process) and time.monotonic() < deadline:
            time.sleep(_WATCH)


def in_background(work: Callable[[], None]) -> None:
    """Do the work in a process of its own, with nothing of ours but memory: who started us must not wait for it."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.closerange(3, 4096)
        # The terminal's keys are for the run.
        for name in (signal.SIGINT, signal.SIGHUP):
            signal.signal(name, signal.SIG_IGN)
        work()
    finally:
        sys.stdout = sys.stderr = None
        os._exit(0)
