# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""Applying a bundle of objects in order, and pruning what it no longer has (private to this collection)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from . import _applyset as applysets
from . import _diff
from . import _managed_fields as fields
from ._bundle_object import LATE, Applier
from ._bundle_order import Item, never_pruned, title, waves
from ._bundle_plan import HANDS, MANAGER, ONCE, Frozen, Plan, Rule
from ._errors import PlatformError
from ._kube_client import CRDS, KubeClient, UnknownKind
from ._kube_discovery import group_of
from ._ready_rules import established

_AT_ONCE = 8
In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True)
class Options:
    name: str = ""
    namespace: str = ""
    left_to: tuple[Rule, ...] = ()
    set_once: tuple[Rule, ...] = ()
    frozen: tuple[Frozen, ...] = ()
    take_over: tuple[str, ...] = HANDS
    check: bool = False
    diff: bool = False

    @classmethod
    def read(cls, params: Mapping[str, Any], *, check: bool, diff: bool) -> Options:
        return cls(
            name=params["name"],
            namespace=params["namespace"],
            left_to=tuple(Rule.read(rule) for rule in params["left_to"]),
            set_once=tuple(Rule.read(rule) for rule in params["set_once"]),
            frozen=tuple(Frozen.read(rule) for rule in params["frozen"]),
            take_over=tuple(params["take_over"]),
            check=check,
            diff=diff,
        )


@dataclass
class Report:
    """What has been done so far; it goes into the result of a run that fails, too."""

    objects: list[dict[str, Any]] = field(default_factory=list)
    diff: list[dict[str, str]] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    frozen: list[str] = field(default_factory=list)
    changed: bool = False

    def add(self, entry: dict[str, Any], diff: dict[str, str] | None = None) -> None:
        self.objects.append(entry)
        if entry["result"] != "unchanged":
            self.changed = True
            if diff is not None:
                self.diff.append(diff)

    def result(self) -> dict[str, Any]:
        result: dict[str, Any] = {"changed": self.changed, "objects": self.objects}
        if self.diff:
            result["diff"] = self.diff
        if self.kept:
            result["kept"] = self.kept
        if self.frozen:
            result["frozen"] = self.frozen
        return result


class Bundle:
    """One bundle on one cluster."""

    def __init__(self, client: KubeClient, items: Sequence[Item], options: Options) -> None:
        self.client = client
        self.items = list(items)
        self.options = options
        self.report = Report()
        self.set = applysets.ApplySet(options.name)
        labels = {applysets.PART_OF: self.set.id} if options.name else {}
        self.applier = Applier(
            client,
            check=options.check,
            left_to=options.left_to,
            set_once=options.set_once,
            take_over=options.take_over,
            labels=labels,
        )
        self.members: dict[tuple[str, str, str, str], dict[str, Any]] = {}
        self.unserved: set[applysets.GroupKind] = set()

    def present(self) -> Report:
        """Apply everything; raises on the first wave that has a refused object, before any of that wave is written."""
        try:
            self.place()
            self._open_set()
            for wave in waves(self.items):
                self._apply_wave(wave)
            if self.options.name:
                self._close_set()
        except PlatformError as exc:
            exc.data = {**self.report.result(), **exc.data}
            raise
        return self.report

    def parallel(self, function: Callable[[In], Out], things: Iterable[In]) -> tuple[list[Out], list[PlatformError]]:
        """Map in threads; the first failure keeps what has not started from starting."""
        errors: list[tuple[int, PlatformError]] = []

        def guarded(numbered: tuple[int, In]) -> list[Out]:
            if self.applier.stop.is_set():
                return []
            try:
                return [function(numbered[1])]
            except PlatformError as exc:
                self.applier.stop.set()
                errors.append((numbered[0], exc))
                return []

        work = list(enumerate(things))
        if len(work) < 2:
            results = [guarded(one) for one in work]
        else:
            with ThreadPoolExecutor(min(_AT_ONCE, len(work))) as pool:
                results = list(pool.map(guarded, work))
        ordered = [exc for _, exc in sorted(errors, key=lambda pair: pair[0])]
        return [result for found in results for result in found], ordered

    def place(self) -> None:
        """Give namespaced objects that name none the bundle's namespace."""
        scopes = {
            (item.obj["spec"]["group"], item.obj["spec"]["names"]["kind"]): item.obj["spec"].get("scope")
            for item in self.items
            if item.kind == "CustomResourceDefinition"
        }
        for item in self.items:
            if item.namespace:
                continue
            try:
                namespaced = self.client.resource(item.obj["apiVersion"], item.kind).namespaced
            except UnknownKind:
                namespaced = scopes.get((item.group, item.kind)) == "Namespaced"
            if not namespaced:
                continue
            if not self.options.namespace:
                raise PlatformError(
                    f"Reading {item.title} of {item.source}",
                    "it names no namespace, and the bundle has none either",
                    "Set metadata.namespace in the template, or `namespace`.",
                )
            item.obj["metadata"] = {**item.obj["metadata"], "namespace": self.options.namespace}

    def _open_set(self) -> None:
        """Read what the set has, and write its parent before its first new member."""
        if not self.options.name:
            return
        self.set = applysets.ApplySet.read(self.client, self.options.name)
        kinds = {(item.group, item.kind) for item in self.items} | self.set.kinds
        if not self.options.check:
            namespaces = {item.namespace for item in self.items} | self.set.namespaces
            self.set.write(self.client, kinds, namespaces - {"", applysets.NAMESPACE}, MANAGER)
        versions = {(item.group, item.kind): item.obj["apiVersion"] for item in self.items}
        lists, errors = self.parallel(
            lambda key: (key, self.set.members(self.client, key, versions.get(key))), sorted(kinds)
        )
        if errors:
            raise errors[0]
        for key, found in lists:
            if found is None:
                self.unserved.add(key)
            for live in found or []:
                meta = live["metadata"]
                self.members[(*key, meta.get("namespace") or "", meta["name"])] = live

    def _apply_wave(self, wave: list[Item]) -> None:
        if not self.options.check:
            self._expect_kinds(wave)
        known = bool(self.options.name)
        plans, errors = self.parallel(
            lambda item: self.applier.plan(item, self.members.get(item.key), known=known and item.key in self.members),
            wave,
        )
        if errors:
            others = [exc.data["refused"] for exc in errors[1:] if "refused" in exc.data]
            raise _with(errors[0], also_refused=others) if others else errors[0]
        self._respect_frozen(plans)
        done: list[Plan] = plans
        if not self.options.check:
            done, errors = self.parallel(self.applier.carry_out, plans)
        for plan in done:
            self.report.add(plan.entry(), plan.diff() if self.options.diff and plan.result != "unchanged" else None)
        if errors:
            raise errors[0]
        crds = [item for item in wave if item.kind == "CustomResourceDefinition"]
        if crds and not self.options.check:
            if any(plan.pending for plan in done):
                self.client.discovery.forget()
            self._await_established({item.name for item in crds}, LATE)

    def _respect_frozen(self, plans: list[Plan]) -> None:
        """Refuse changes whose consequence nobody has agreed to, all in one sentence; check mode tells them."""
        found = [
            (plan.item, rule, changes)
            for plan in plans
            for rule in self.options.frozen
            if (rule.kind, rule.name) == (plan.item.kind, plan.item.name) and (changes := rule.changes(plan))
        ]
        if not found:
            return
        error = PlatformError(
            "Changing " + ", ".join(f"{item.title} ({', '.join(changes)})" for item, _, changes in found),
            "; ".join(dict.fromkeys(rule.why for _, rule, _ in found)),
            " ".join(dict.fromkeys(rule.mend for _, rule, _ in found)),
            refused={"objects": [item.title for item, _, _ in found]},
        )
        if not self.options.check:
            raise error
        self.report.frozen.append(str(error))

    def _expect_kinds(self, wave: list[Item]) -> None:
        """A kind whose CRD has just been made (by us, or by a chart) may not be served yet."""
        for api_version, kind in dict.fromkeys((item.obj["apiVersion"], item.kind) for item in wave):
            try:
                self.client.resource(api_version, kind)
            except UnknownKind:
                group = group_of(api_version)
                names = {
                    crd["metadata"]["name"]
                    for crd in self.client.list_all(CRDS)["items"]
                    if crd["spec"]["group"] == group and crd["spec"]["names"]["kind"] == kind
                }
                if names:
                    self._await_established(names, LATE)
                    self._await_served(api_version, kind, LATE)

    def _await_established(self, names: set[str], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        missing = names
        while True:
            live = {crd["metadata"]["name"]: crd for crd in self.client.list_all(CRDS)["items"]}
            missing = {name for name in missing if name not in live or not established(live[name]).ready}
            if not missing:
                return
            if time.monotonic() > deadline:
                reasons = [
                    f"{name} ({established(live[name]).reason if name in live else 'gone'})" for name in sorted(missing)
                ]
                raise PlatformError(
                    "Waiting until the CustomResourceDefinitions are established",
                    f"not yet: {', '.join(reasons)}",
                    "Look at their conditions; names that another CRD has taken are refused there.",
                    again=True,
                )
            time.sleep(0.2)

    def _await_served(self, api_version: str, kind: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            self.client.discovery.forget()
            try:
                self.client.resource(api_version, kind)
            except UnknownKind as exc:
                if time.monotonic() > deadline:
                    raise _with(exc, again=True) from exc
                time.sleep(0.3)
            else:
                return

    def _close_set(self) -> None:
        """Delete what the templates no longer have, then narrow the parent to what is left."""
        wanted = {item.key for item in self.items}
        orphans = {key: live for key, live in self.members.items() if key not in wanted and applied_by_us(live)}
        kept = {key: live for key, live in orphans.items() if never_pruned(key[0], key[1])}
        self.report.kept = sorted(title(live) for live in kept.values())
        doomed = [
            Item(0, "(pruned)", live)
            for key, live in orphans.items()
            if key not in kept and not live["metadata"].get("deletionTimestamp")
        ]
        for wave in reversed(waves(doomed)):
            _, errors = self.parallel(self._prune, wave)
            if errors:
                raise errors[0]
        if not self.options.check:
            left = wanted | set(kept)
            kinds = {(key[0], key[1]) for key in left} | self.unserved
            self.set.write(self.client, kinds, {key[2] for key in left if key[2]}, MANAGER)

    def _prune(self, item: Item) -> None:
        start = time.monotonic()
        self.client.delete(
            self.client.path_of(item.obj), dry_run=self.options.check, uid=str(item.obj["metadata"].get("uid") or "")
        )
        plan = Plan(item, item.obj, {}, item.obj, "pruned", seconds=time.monotonic() - start)
        self.report.add(plan.entry(), self.gone(item))

    def gone(self, item: Item) -> dict[str, str] | None:
        """The diff of a deletion: our fields, and nothing."""
        if not self.options.diff:
            return None
        about = {"apiVersion": item.obj["apiVersion"], "kind": item.kind, "metadata": {"name": item.name}}
        return _diff.pair(item.title, item.source, _diff.ours(item.obj, about, MANAGER), {})


def applied_by_us(live: Mapping[str, Any]) -> bool:
    """Controllers copy labels (a Service's to its EndpointSlices): only what we have applied is a member."""
    return fields.applied(live, MANAGER) is not None or fields.applied(live, ONCE) is not None


def planned(items: Sequence[Item], why: str, *, diff: bool) -> Report:
    """What check mode says when there is no API to ask."""
    report = Report()
    for item in items:
        plan = Plan(item, item.obj, item.obj, None, "planned", why=why)
        report.add(plan.entry(), plan.diff() if diff else None)
    return report


def _with(exc: PlatformError, **data: Any) -> PlatformError:
    exc.data = {**exc.data, **data}
    return exc
