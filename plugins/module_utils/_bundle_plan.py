# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""What is to be done to one object of a bundle, and by which rules (private to this collection)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import _diff
from . import _managed_fields as fields
from ._bundle_order import Item

MANAGER = "harvester-rke2-platform"
ONCE = f"{MANAGER}-once"
SHARED = "platform.harvester-rke2.io/shared"
# Hands, not controllers: what they changed in our fields is drift.
HANDS = (
    "kubectl-edit",
    "kubectl-patch",
    "kubectl-label",
    "kubectl-annotate",
    "kubectl-set",
    "kubectl-replace",
)


@dataclass(frozen=True)
class Rule:
    """Fields of some objects that are not simply ours."""

    kind: str
    paths: tuple[fields.Path, ...]
    name: str = ""
    manager: str = ""
    # Of fields that are set once: a number outside is brought back to the nearer end.
    minimum: int | None = None
    maximum: int | None = None

    @classmethod
    def read(cls, option: Mapping[str, Any]) -> Rule:
        return cls(
            kind=option["kind"],
            paths=tuple(fields.parse(text) for text in option["fields"]),
            name=option.get("name") or "",
            manager=option.get("manager") or "",
            minimum=option.get("minimum"),
            maximum=option.get("maximum"),
        )

    def clamped(self, value: Any) -> Any:
        """The value that a field may keep."""
        if isinstance(value, bool) or not isinstance(value, int):
            return value
        low = value if self.minimum is None else max(value, self.minimum)
        return low if self.maximum is None else min(low, self.maximum)

    def concerns(self, item: Item) -> bool:
        return self.kind in (item.kind, f"{item.kind}.{item.group}") and self.name in ("", item.name)


@dataclass(frozen=True)
class Frozen:
    """An object whose change has a consequence that somebody must have agreed to."""

    kind: str
    name: str
    why: str
    mend: str
    free: tuple[fields.Path, ...] = ()

    @classmethod
    def read(cls, option: Mapping[str, Any]) -> Frozen:
        free = tuple(fields.parse(text) for text in option.get("free") or ())
        return cls(option["kind"], option["name"], option["why"], option["mend"], free)

    def changes(self, plan: Plan) -> list[str]:
        """The top-level fields that would change, but for those that are free."""
        if plan.result != "changed" or plan.live is None or not plan.after:
            return []
        before, after = dict(plan.live), dict(plan.after)
        for path in self.free:
            before, after = fields.without(before, path), fields.without(after, path)
        names = {key for key in {*before, *after} if key not in ("metadata", "status", "kind", "apiVersion")}
        return sorted(f".{key}" for key in names if before.get(key) != after.get(key))


@dataclass
class Plan:
    """What one object needs; ``result`` is what the report will say about it."""

    item: Item
    obj: dict[str, Any]
    config: dict[str, Any]
    live: dict[str, Any] | None = None
    result: str = "unchanged"
    after: dict[str, Any] = field(default_factory=dict)
    force: bool = False
    once: tuple[fields.Path, ...] = ()
    hand_over: tuple[fields.Path, ...] = ()
    bring_back: tuple[tuple[fields.Path, Any], ...] = ()
    adopt: tuple[fields.Path, ...] = ()
    trim: bool = False
    release: bool = False
    why: str = ""
    seconds: float = 0.0

    @property
    def pending(self) -> bool:
        return self.result in ("created", "changed")

    @property
    def special(self) -> bool:
        """Whether more is to be done than to apply the configuration."""
        return bool(self.hand_over or self.bring_back or self.trim or self.release)

    def diff(self) -> dict[str, str]:
        before = _diff.ours(self.live, self.config, MANAGER)
        after = _diff.ours(self.after, self.config, MANAGER) if self.after else self.obj
        pair = _diff.pair(self.item.title, self.item.source, before, after)
        if pair["before"] == pair["after"] and self.result == "changed":
            pair["after"] += f"# the fields are now owned by {MANAGER}\n"
        if self.result in ("planned", "unvalidated"):
            pair["after_header"] += f": would {'create' if self.live is None else 'change'}, not validated"
        return pair

    def entry(self) -> dict[str, Any]:
        item = self.item
        entry: dict[str, Any] = {
            "source": item.source,
            "kind": item.kind,
            "namespace": item.namespace,
            "name": item.name,
            "result": self.result,
            "ms": round(self.seconds * 1000, 1),
        }
        if self.why:
            entry["why"] = self.why
        return entry
