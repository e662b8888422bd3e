# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What the storage autoscaler is allowed to do: its settings and the policies of the volumes."""

from __future__ import annotations

import fnmatch
import json
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from controller import Replica, Settings

GIB = 2**30
_FACTORS = {f"{letter}i": 2 ** (10 * power) for power, letter in enumerate("KMGTPE", 1)}
_FACTORS |= {letter: 10 ** (3 * power) for power, letter in enumerate("kMGTPE", 1)}


def size_of(quantity: object) -> int:
    """Bytes of a quantity as Kubernetes writes it.

    :raises ValueError: if it is none.
    """
    text = str(quantity)
    suffix = next((suffix for suffix in _FACTORS if text.endswith(suffix)), "")
    factor = _FACTORS.get(suffix, 1)
    text = text.removesuffix(suffix)
    try:
        return int(Decimal(text) * factor)
    except (InvalidOperation, OverflowError) as error:
        raise ValueError(f"'{quantity}' is no quantity") from error


@dataclass(frozen=True)
class Policy:
    """When a volume grows, by how much, how far and how often."""

    namespace: str
    pvc: str
    maximum_gib: int
    threshold_percent: int
    step_percent: int
    step_gib: int
    cooldown_seconds: int

    def __post_init__(self) -> None:
        where = f"the policy of {self.namespace}/{self.pvc}"
        if not self.namespace or not self.pvc:
            raise ValueError(f"{where}: namespace and pvc must be named")
        for name, least, most in (
            ("maximum_gib", 1, 2**20),
            ("threshold_percent", 1, 99),
            ("step_percent", 0, 100),
            ("step_gib", 1, 2**20),
            ("cooldown_seconds", 60, 7 * 86400),
        ):
            if not least <= (value := getattr(self, name)) <= most:
                raise ValueError(f"{where}: {name} is {value}, but must be from {least} to {most}")

    def concerns(self, namespace: str, name: str) -> bool:
        """Whether it is about this PVC."""
        return namespace == self.namespace and fnmatch.fnmatchcase(name, self.pvc)

    def next_gib(self, size: int) -> int | None:
        """The size to ask for after ``size`` bytes; None if the maximum leaves no room for a whole GiB.

        Whole GiB, because Harvester rounds to 2 MiB, takes a smaller growth for a shrinking and then tries for ever.
        """
        step = max(size * self.step_percent // 100, self.step_gib * GIB)
        wanted = min(-(-(size + step) // GIB), self.maximum_gib)
        return wanted if wanted * GIB - size >= GIB else None


@dataclass(frozen=True)
class Config(Settings):
    """What the Deployment's environment and the mounted file say."""

    prometheus_url: str
    interval_seconds: float
    daily_gib: int
    dry_run: bool
    policies: tuple[Policy, ...]

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Config:
        """Read both.

        :raises ValueError: naming what is missing or cannot be.
        """
        replica = Replica.from_environment(environment, "POLICIES")
        path = Path(environment["POLICIES"])
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} cannot be read: {error}") from error
        if not isinstance(said, dict):
            raise ValueError(f"{path} holds no object")
        return cls.from_object(said, replica)

    @classmethod
    def from_object(cls, said: Mapping[str, Any], replica: Replica) -> Config:
        """The settings that the file's object holds."""
        keys = {"prometheus_url", "interval_seconds", "daily_gib", "dry_run", "defaults", "policies"}
        _closed("the file", said, keys, keys)
        url = urllib.parse.urlsplit(str(said["prometheus_url"]))
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(f"prometheus_url is '{said['prometheus_url']}', but must begin with http:// or https://")
        if not isinstance(said["dry_run"], bool):
            raise ValueError(f"dry_run is {said['dry_run']!r}, but must be true or false")
        numbers = {name: _whole("the file", name, said[name]) for name in ("interval_seconds", "daily_gib")}
        for name, value in numbers.items():
            if value < 1:
                raise ValueError(f"the file: {name} is {value}, but must be above 0")
        return cls(
            prometheus_url=str(said["prometheus_url"]).rstrip("/"),
            interval_seconds=float(numbers["interval_seconds"]),
            daily_gib=numbers["daily_gib"],
            dry_run=said["dry_run"],
            policies=tuple(_policy(entry, said["defaults"]) for entry in said["policies"]),
            replica=replica,
        )

    def policy_of(self, namespace: str, name: str) -> Policy | None:
        """The first policy that concerns the PVC; without one it is left alone."""
        return next((policy for policy in self.policies if policy.concerns(namespace, name)), None)


def _closed(where: str, said: Mapping[str, Any], known: set[str], needed: set[str]) -> None:
    if unknown := sorted(said.keys() - known):
        raise ValueError(f"{where} has the unknown key {', '.join(unknown)}")
    if missing := sorted(needed - said.keys()):
        raise ValueError(f"{where} lacks {', '.join(missing)}")


def _whole(where: str, name: str, value: object) -> int:
    """A whole number, also one that Ansible passes on as text."""
    try:
        return int(str(value))
    except ValueError as error:
        raise ValueError(f"{where}: {name} is {value!r}, but must be a whole number") from error


def _policy(entry: Mapping[str, Any], defaults: Mapping[str, Any]) -> Policy:
    names = {field.name for field in fields(Policy)}
    # An option that is not set is null where a specification has filled it in.
    said = {**defaults, **{name: value for name, value in entry.items() if value is not None}}
    where = f"the policy of {said.get('namespace')}/{said.get('pvc')}"
    _closed(where, said, names, names)
    numbers = {name: _whole(where, name, said[name]) for name in names - {"namespace", "pvc"}}
    return Policy(namespace=str(said["namespace"]), pvc=str(said["pvc"]), **numbers)
