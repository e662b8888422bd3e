# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The alerts of all roles and their cases in tests/alerts, as the tests about them need them.

A file of cases maps an alert to a list of cases:

    series  time series to what they are worth: a number, a step a minute (0+60), or promtool's own notation
    at      when to look (default: a quarter of an hour after the alert's ``for``)
    fires   severity to the labels of the alert that fires, or to a list of them; without it nothing may fire
    says    the description of what fires, as it is rendered
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.harvester_rke2.platform.plugins.plugin_utils._alerts import rule_group

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT / "tests" / "alerts"
RUNBOOKS = ROOT / "docs" / "runbooks"
_MINUTES = {"s": 1 / 60, "m": 1, "h": 60, "d": 1440}
_STEP = re.compile(r"-?[\d.]+[+-][\d.]+")


@dataclass(frozen=True)
class Source:
    """One file of alerts."""

    role: str
    group: str
    namespace: str
    alerts: Mapping[str, Mapping[str, Any]]

    def rules(self) -> dict[str, Any]:
        """The group that Prometheus is given."""
        return rule_group(self.group, self.alerts, namespace=self.namespace, runbooks="runbooks")


@dataclass(frozen=True)
class Case:
    """What must or must not fire at a time, given these series."""

    alert: str
    series: Mapping[str, Any]
    at: int
    fires: Mapping[str, Any]
    says: str | None

    def expected(self) -> list[tuple[str, dict[str, str]]]:
        """Severity and labels of each alert that must fire."""
        return [
            (severity, {name: str(value) for name, value in labels.items()})
            for severity, found in self.fires.items()
            for labels in (found if isinstance(found, list) else [found])
        ]

    def promtool(self, name: str, annotations: Mapping[str, str]) -> dict[str, Any]:
        """The case as promtool takes it."""
        alerts = [
            {"exp_labels": {**labels, "severity": severity}, "exp_annotations": dict(annotations)}
            for severity, labels in self.expected()
        ]
        return {
            "name": name,
            "interval": "1m",
            "input_series": [{"series": each, "values": self._values(value)} for each, value in self.series.items()],
            "alert_rule_test": [{"eval_time": f"{self.at}m", "alertname": self.alert, "exp_alerts": alerts}],
        }

    def _values(self, value: Any) -> str:
        text = str(value)
        return f"{text}x{self.at}" if not isinstance(value, str) or _STEP.fullmatch(text) else text


def minutes(duration: str) -> int:
    """A duration such as 8h in minutes."""
    return int(sum(float(amount) * _MINUTES[unit] for amount, unit in re.findall(r"(\d+)([smhd])", duration)))


def sources(roles: Path = ROOT / "roles") -> list[Source]:
    """All files of alerts."""
    return [
        Source(path.parts[-4], path.stem, namespace(path.parents[2]), yaml.safe_load(path.read_text()))
        for path in sorted(roles.glob("*/files/alerts/*.yml"))
    ]


def namespace(role: Path) -> str:
    """The namespace of a role's description, where it is one of the defaults."""
    said = str(yaml.safe_load((role / "meta" / "service.yml").read_text())["namespace"])
    if said.startswith("{{"):
        return str(yaml.safe_load((role / "defaults" / "main.yml").read_text())[said.strip("{} ")])
    return said


def cases(found: Sequence[Source]) -> Iterator[tuple[str, Case]]:
    """The group's name and the case, of all files of cases."""
    delays = {alert: str(rule.get("for", "0s")) for source in found for alert, rule in source.alerts.items()}
    for path in sorted(CASES.glob("*.yml")):
        for alert, written in yaml.safe_load(path.read_text()).items():
            for case in written:
                at = case.get("at") or f"{minutes(delays.get(alert, '0s')) + 15}m"
                yield path.stem, Case(alert, case["series"], minutes(at), case.get("fires", {}), case.get("says"))
