# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What is to be said about a volume: whether it may grow, and if not, why not. Nothing here asks or writes anything."""

from __future__ import annotations

import datetime
import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from policies import GIB, Policy, size_of
from usage import Usage

Json = dict[str, Any]
PREFIX = "storage-autoscaler.harvester-rke2.io"
GROWTHS = f"{PREFIX}/growths"
CLUSTER_LABEL = "cnpg.io/cluster"
ROLE_LABEL = "cnpg.io/pvcRole"
# Where a CNPG cluster says the size of the volumes of a role.
ROLE_FIELDS = {"PG_DATA": "storage", "PG_WAL": "walStorage"}
DAY = 86400.0
MANY_A_DAY = 3
LONG_COOLDOWN = 6 * 3600.0
STUCK_AFTER = 900.0
# A filesystem keeps a few percent of its volume for itself.
SMALLEST_FILESYSTEM = 0.8


class State(enum.StrEnum):
    """What is to be said about a volume. From ``NOT_EXPANDABLE`` on it needs room and does not get it."""

    OK = "ok"
    GROW = "grow"
    COOLDOWN = "cooldown"
    LATER = "later"
    RESIZING = "resizing"
    NO_DATA = "no_data"
    STALE = "stale"
    NOT_BOUND = "not_bound"
    DELETING = "deleting"
    NOT_EXPANDABLE = "not_expandable"
    UNSUPPORTED = "unsupported"
    UNREADABLE = "unreadable"
    RESIZE_FAILED = "resize_failed"
    RESIZE_STUCK = "resize_stuck"
    LIMIT = "limit"
    DAILY_CAP = "daily_cap"
    REFUSED = "refused"


BLOCKED = frozenset(list(State)[list(State).index(State.NOT_EXPANDABLE) :])


@dataclass(frozen=True)
class Growth:
    """One growth, as it is remembered on the object itself: so it survives restarts and the change of leaders."""

    at: datetime.datetime
    before: int
    after: int

    def written(self) -> Json:
        """As it stands in the annotation."""
        at = self.at.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"at": at, "fromBytes": self.before, "toBytes": self.after}


def read_growths(owner: Json) -> list[Growth]:
    """The growths that an object remembers, oldest first.

    :raises ValueError: if somebody has spoilt the annotation.
    """
    text = (owner["metadata"].get("annotations") or {}).get(GROWTHS)
    if text is None:
        return []
    try:
        growths = []
        for entry in json.loads(text):
            at = datetime.datetime.fromisoformat(entry["at"])
            growths.append(Growth(at, int(entry["fromBytes"]), int(entry["toBytes"])))
            if at.tzinfo is None:
                raise ValueError(f"'{entry['at']}' has no time zone")
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"the annotation {GROWTHS} cannot be read ({error!r}): correct or remove it") from error
    return sorted(growths, key=lambda growth: growth.at)


def write_growths(growths: list[Growth], more: Growth) -> str:
    """The annotation's text after one more growth: what is older than a day no longer matters."""
    kept = [growth for growth in growths if (more.at - growth.at).total_seconds() < DAY]
    return json.dumps([growth.written() for growth in [*kept, more]], separators=(",", ":"))


@dataclass(frozen=True)
class Claim:
    """A PVC and what the kubelet says of it."""

    pvc: Json
    policy: Policy
    usage: Usage | None

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.pvc["metadata"]["namespace"], self.pvc["metadata"]["name"]

    @property
    def requested(self) -> int:
        """Bytes asked for."""
        return size_of(self.pvc["spec"]["resources"]["requests"]["storage"])

    @property
    def capacity(self) -> int:
        """Bytes that the volume has."""
        return size_of(self.pvc.get("status", {}).get("capacity", {}).get("storage", "0"))

    @property
    def ratio(self) -> float:
        """How full it is, or -1 where that is not known."""
        return self.usage.ratio if self.usage is not None and self.usage.usable else -1.0

    def conditions(self) -> dict[str, Json]:
        """The conditions that hold, by their type."""
        found = self.pvc.get("status", {}).get("conditions") or []
        return {condition["type"]: condition for condition in found if condition.get("status") == "True"}

    def failure(self) -> str:
        """What the resizer says about a growth that it could not do, or nothing."""
        for kind in ("ControllerResizeError", "NodeResizeError"):
            if condition := self.conditions().get(kind):
                return f"{kind}: {condition.get('message', '')}"
        progress = self._progress()
        return f"the resizer says {progress}" if progress.endswith(("Infeasible", "Failed")) else ""

    def resizing(self) -> bool:
        """Whether a growth is under way: one change at a time."""
        return (
            self.requested > self.capacity
            or bool(self._progress())
            or not self.conditions().keys().isdisjoint(("Resizing", "FileSystemResizePending"))
            or self._small_filesystem()
        )

    def _small_filesystem(self) -> bool:
        usage = self.usage
        return usage is not None and usage.usable and usage.capacity < SMALLEST_FILESYSTEM * self.capacity

    def _progress(self) -> str:
        return str((self.pvc.get("status", {}).get("allocatedResourceStatuses") or {}).get("storage", ""))


@dataclass(frozen=True)
class Volume:
    """What grows as one: a PVC, or all PVCs of a role of a CNPG cluster, whose size stands in the Cluster.

    CNPG resizes its PVCs itself, and takes one of another size than the Cluster's for drift.
    """

    claims: tuple[Claim, ...]
    cluster: Json | None = None

    @property
    def owner(self) -> Json:
        """The object that is written to."""
        return self.claims[0].pvc if self.cluster is None else self.cluster

    @property
    def fullest(self) -> Claim:
        """The PVC that decides."""
        return max(self.claims, key=lambda claim: claim.ratio)

    @property
    def role_field(self) -> str:
        """The field of the Cluster's spec that has the size."""
        labels = self.claims[0].pvc["metadata"].get("labels") or {}
        return ROLE_FIELDS.get(labels.get(ROLE_LABEL, "PG_DATA"), "")

    @property
    def size(self) -> int:
        """Bytes asked for."""
        if self.cluster is None:
            return self.claims[0].requested
        return size_of(self.cluster["spec"][self.role_field]["size"])

    @property
    def patch(self) -> tuple[str, Json]:
        """The path of the object, and the fields that say which state of it is changed."""
        meta = self.owner["metadata"]
        kind = ("v1", "PersistentVolumeClaim") if self.cluster is None else ("postgresql.cnpg.io/v1", "Cluster")
        root = "/api/v1" if self.cluster is None else "/apis/postgresql.cnpg.io/v1"
        plural = "persistentvolumeclaims" if self.cluster is None else "clusters"
        body = {
            "apiVersion": kind[0],
            "kind": kind[1],
            "metadata": {name: meta[name] for name in ("name", "namespace", "resourceVersion")},
        }
        return f"{root}/namespaces/{meta['namespace']}/{plural}/{meta['name']}", body

    def fields(self, gib: int) -> Json:
        """The one field that is changed."""
        if self.cluster is None:
            return {"resources": {"requests": {"storage": f"{gib}Gi"}}}
        return {self.role_field: {"size": f"{gib}Gi"}}


@dataclass(frozen=True)
class Verdict:
    """What is to be said about a volume, why, and the size to ask for where it may grow."""

    state: State
    why: str = ""
    gib: int = 0


def judge(volume: Volume, classes: Mapping[str, bool], now: datetime.datetime) -> Verdict:
    """Decide about a volume. ``classes`` says which StorageClasses let their volumes grow."""
    claim = volume.fullest
    policy = claim.policy
    objects = [volume.owner, *(claim.pvc for claim in volume.claims)]
    if any("deletionTimestamp" in item["metadata"] for item in objects):
        return Verdict(State.DELETING)
    if any(claim.pvc.get("status", {}).get("phase") != "Bound" for claim in volume.claims):
        return Verdict(State.NOT_BOUND)
    try:
        growths = read_growths(volume.owner)
        unsupported = _unsupported(volume)
        if not unsupported and (verdict := _under_way(volume, growths, now)) is not None:
            return verdict
        if claim.usage is None:
            return Verdict(State.NO_DATA)
        if not claim.usage.usable:
            return Verdict(State.STALE)
        if claim.ratio * 100 < policy.threshold_percent:
            return Verdict(State.OK)
        if unsupported:
            return Verdict(State.UNSUPPORTED, unsupported)
        return _room(volume, policy, growths, classes, now)
    except ValueError as error:
        return Verdict(State.UNREADABLE, str(error))


def _unsupported(volume: Volume) -> str:
    if volume.cluster is None:
        return ""
    if not volume.role_field:
        return "it is a tablespace of a CNPG cluster: raise its size in the Cluster"
    storage = volume.cluster["spec"].get(volume.role_field) or {}
    if "size" not in storage:
        return f"its Cluster is not there, or has no spec.{volume.role_field}.size"
    if storage.get("resizeInUseVolumes") is False:
        return f"its Cluster says spec.{volume.role_field}.resizeInUseVolumes: false"
    return ""


def _under_way(volume: Volume, growths: list[Growth], now: datetime.datetime) -> Verdict | None:
    """A growth that was asked for and is not there yet, or failed."""
    for claim in volume.claims:
        if failure := claim.failure():
            return Verdict(State.RESIZE_FAILED, failure)
    claims = volume.claims
    if any(claim.resizing() or volume.size > claim.requested for claim in claims):
        since = [growths[-1].at] if growths else []
        since += [
            datetime.datetime.fromisoformat(condition["lastTransitionTime"])
            for claim in claims
            for condition in claim.conditions().values()
            if condition.get("lastTransitionTime")
        ]
        full = volume.fullest.ratio * 100 >= volume.fullest.policy.threshold_percent
        # Nobody says since when: better a word too early than a full volume that nobody speaks of.
        if full and (not since or (now - max(since)).total_seconds() > STUCK_AFTER):
            asked = f"asked for at {max(since):%Y-%m-%d %H:%M} UTC " if since else ""
            return Verdict(State.RESIZE_STUCK, f"the growth {asked}is not there yet")
        return Verdict(State.RESIZING)
    return None


def _room(
    volume: Volume, policy: Policy, growths: list[Growth], classes: Mapping[str, bool], now: datetime.datetime
) -> Verdict:
    """Whether a volume that is full enough may grow."""
    names = {str(claim.pvc["spec"].get("storageClassName")) for claim in volume.claims}
    if fixed := sorted(name for name in names if not classes.get(name)):
        return Verdict(State.NOT_EXPANDABLE, f"StorageClass {', '.join(fixed)} has no allowVolumeExpansion: true")
    gib = policy.next_gib(volume.size)
    if gib is None:
        size = volume.size / GIB
        return Verdict(State.LIMIT, f"it has {size:g} GiB, and its policy's maximum is {policy.maximum_gib} GiB")
    if growths:
        today = sum((now - growth.at).total_seconds() < DAY for growth in growths)
        cooldown = max(policy.cooldown_seconds, LONG_COOLDOWN if today >= MANY_A_DAY else 0.0)
        if (now - growths[-1].at).total_seconds() < cooldown:
            return Verdict(State.COOLDOWN)
    return Verdict(State.GROW, gib=gib)


def grown_today(volumes: list[Volume], now: datetime.datetime) -> int:
    """Bytes that all volumes together have grown by in the last day."""
    total = 0
    for volume in volumes:
        try:
            growths = read_growths(volume.owner)
        except ValueError:
            continue
        recent = [growth for growth in growths if (now - growth.at).total_seconds() < DAY]
        total += sum(max(0, growth.after - growth.before) for growth in recent) * len(volume.claims)
    return total
