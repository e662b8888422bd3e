# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""Waiting for many objects with one watch a kind (private to this collection)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from . import _helm_release as helm
from ._applyset import ApplySet
from ._errors import PlatformError
from ._kube_client import KubeClient, UnknownKind
from ._kube_discovery import group_of
from ._ready_custom import COMPANIONS, judge
from ._ready_explain import explain, sentence
from ._ready_rules import Verdict

_RELIST_EVERY = 60.0


@dataclass(frozen=True, order=True)
class Target:
    """One object to wait for."""

    api_version: str
    kind: str
    namespace: str
    name: str

    @classmethod
    def of(cls, obj: Mapping[str, Any]) -> Target:
        meta = obj["metadata"]
        return cls(obj["apiVersion"], obj["kind"], meta.get("namespace") or "", meta["name"])


@dataclass
class _State:
    verdicts: dict[Target, Verdict] = field(default_factory=dict)
    objects: dict[Target, Mapping[str, Any] | None] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def put(self, target: Target, verdict: Verdict, obj: Mapping[str, Any] | None) -> None:
        with self.changed:
            self.verdicts[target] = verdict
            self.objects[target] = obj
            self.changed.notify_all()

    def pending(self, targets: Iterable[Target]) -> list[Target]:
        with self.changed:
            return [target for target in targets if not self.verdicts[target].ready]

    def over(self, targets: Iterable[Target]) -> bool:
        verdicts = [self.verdicts[target] for target in targets]
        return all(verdict.ready for verdict in verdicts) or any(verdict.hopeless for verdict in verdicts)


class Waiter:
    """Waits for a fixed set of objects."""

    def __init__(self, client: KubeClient, targets: Iterable[Target]) -> None:
        self.client = client
        self.targets = sorted(set(targets))
        self._state = _State()
        self._late_binding: frozenset[str] = frozenset()
        self._deadline = 0.0

    def wait(self, timeout: float) -> list[dict[str, Any]]:
        """Wait at most this long; returns what is not ready, with reasons (empty when all is)."""
        self._deadline = time.monotonic() + timeout
        self._read_classes()
        targets = self.targets
        while targets:
            self._wait_for(targets)
            if self._state.pending(self.targets):
                break
            targets = self._companions(targets)
            self.targets = [*self.targets, *targets]
        return [
            explain(
                self.client,
                target.kind,
                target.namespace,
                target.name,
                self._state.objects[target],
                self._state.verdicts[target],
            )
            for target in self._state.pending(self.targets)
        ]

    def _read_classes(self) -> None:
        if any(target.kind == "PersistentVolumeClaim" for target in self.targets):
            classes = self.client.list_all("/apis/storage.k8s.io/v1/storageclasses").get("items") or []
            self._late_binding = frozenset(
                found["metadata"]["name"]
                for found in classes
                if found.get("volumeBindingMode") == "WaitForFirstConsumer"
            )

    def _companions(self, targets: Sequence[Target]) -> list[Target]:
        known, result = set(self.targets), []
        for target in targets:
            obj = self._state.objects[target]
            rule = COMPANIONS.get((group_of(target.api_version), target.kind))
            for reference in rule(obj) if rule is not None and obj is not None else ():
                companion = Target(*reference)
                if companion not in known:
                    known.add(companion)
                    result.append(companion)
        return result

    def _wait_for(self, targets: Sequence[Target]) -> None:
        groups: dict[tuple[str, str], list[Target]] = {}
        for target in targets:
            self._state.put(target, Verdict(False, "has not been read yet"), None)
            groups.setdefault((target.api_version, target.kind), []).append(target)
        for group in groups.values():
            # Daemons: one that still reads a watch must not keep the module from ending.
            threading.Thread(target=self._guard, args=(group,), daemon=True).start()
        with self._state.changed:
            while not self._state.over(targets):
                left = self._deadline - time.monotonic()
                if left <= 0:
                    return
                self._state.changed.wait(left)

    def _guard(self, group: list[Target]) -> None:
        """Errors of the API are reasons for not being ready: they may pass."""
        while self._state.pending(group) and time.monotonic() < self._deadline:
            try:
                self._follow(group)
            except PlatformError as exc:
                for target in self._state.pending(group):
                    self._state.put(target, Verdict(False, exc.why), None)
                if isinstance(exc, UnknownKind):
                    self.client.discovery.forget()
                time.sleep(1.0)

    def _follow(self, group: list[Target]) -> None:
        """List once, then watch until all of the group are ready."""
        resource = self.client.resource(group[0].api_version, group[0].kind)
        namespaces = {target.namespace if resource.namespaced else "" for target in group}
        path = resource.path(namespaces.pop() if len(namespaces) == 1 else None)
        query = {"fieldSelector": f"metadata.name={group[0].name}"} if len(group) == 1 else {}
        wanted = {(target.namespace if resource.namespaced else "", target.name): target for target in group}
        listing = self.client.list_all(path, query=query)
        found = {(item["metadata"].get("namespace") or "", item["metadata"]["name"]): item for item in listing["items"]}
        for key, target in wanted.items():
            self._see(target, found.get(key))
        if not self._state.pending(group):
            return
        left = min(self._deadline - time.monotonic(), _RELIST_EVERY)
        version = listing["metadata"]["resourceVersion"]
        for event in self.client.watch(path, resource_version=version, query=query, timeout=left):
            meta = event["object"].get("metadata") or {}
            if event["type"] == "ERROR":
                return
            seen = wanted.get((meta.get("namespace") or "", meta.get("name", "")))
            if seen is None or event["type"] == "BOOKMARK":
                continue
            self._see(seen, None if event["type"] == "DELETED" else event["object"])
            if not self._state.pending(group):
                return

    def _see(self, target: Target, obj: Mapping[str, Any] | None) -> None:
        if obj is None:
            self._state.put(target, Verdict(False, "does not exist"), None)
            return
        whole = {**obj, "apiVersion": target.api_version, "kind": target.kind}
        self._state.put(target, judge(whole, self._late_binding), whole)


def of_applysets(client: KubeClient, names: Iterable[str]) -> list[Target]:
    def one(name: str) -> list[Target]:
        found = ApplySet.read(client, name)
        if not found.exists:
            raise PlatformError(
                f"Looking for the objects of '{name}'", "nothing has been deployed by this name", "Deploy it first."
            )
        return [Target.of(obj) for kind in sorted(found.kinds) for obj in found.members(client, kind) or []]

    return _all_at_once(one, names)


def _all_at_once(one: Callable[[Any], list[Target]], wanted: Iterable[Any]) -> list[Target]:
    """A phase has a dozen of them, each some requests long."""
    with ThreadPoolExecutor(8) as pool:
        return [target for found in pool.map(one, list(wanted)) for target in found]


def of_releases(client: KubeClient, releases: Iterable[Mapping[str, Any]]) -> list[Target]:
    def one(wanted: Mapping[str, Any]) -> list[Target]:
        release = helm.find(client, wanted["namespace"], wanted["name"])
        return [
            Target.of(obj)
            for obj in helm.objects(client, release)
            # A list of all definitions is megabytes; of those that are served nothing more is to be known.
            if (obj["apiVersion"], obj["kind"]) != helm.CRD or not client.discovery.serves(obj["metadata"]["name"])
        ]

    return _all_at_once(one, releases)


def timed_out(not_ready: Sequence[Mapping[str, Any]], total: int, seconds: float) -> PlatformError:
    """The failure that lists what is not ready."""
    hopeless = [entry for entry in not_ready if entry["hopeless"]]
    shown = hopeless or list(not_ready)
    what = f"{len(shown)} of {total} objects" if total != 1 else "it"
    when = "will not become ready" if hopeless else f"not ready after {seconds:.0f} s"
    listed = "; ".join(sentence(entry) for entry in shown[:10])
    more = f"; and {len(shown) - 10} more" if len(shown) > 10 else ""
    return PlatformError(
        f"Waiting for {total} object{'s' if total != 1 else ''} to be ready",
        f"{what} {when}: {listed}{more}",
        "Mend the cause named." if hopeless else "Mend the cause named, or raise the time-out.",
        not_ready=list(not_ready),
        waited_for=total,
        hopeless=bool(hopeless),
    )
