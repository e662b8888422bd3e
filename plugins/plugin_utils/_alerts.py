# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""Prometheus's alerting rules from a role's ``files/alerts/<group>.yml`` (private to this collection)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

SEVERITIES = ("critical", "warning", "info", "none")
_RULE: dict[str, Any] = {
    "expr": {"type": "str", "required": True},
    "for": {"type": "str", "default": "0s"},
    # One of SEVERITIES, or a mapping of them to the threshold of each.
    "severity": {"type": "raw", "required": True},
    "summary": {"type": "str", "required": True},
    "description": {"type": "str", "required": True},
    "enabled": {"type": "bool", "default": True},
}
TUNABLE = ("enabled", "for", "severity")
_NAME = re.compile(r"[A-Z][A-Za-z0-9]*")


def rule_group(
    name: str, source: Any, *, namespace: str, tuning: Mapping[str, Any] | None = None, runbooks: str = ""
) -> dict[str, Any]:
    """A group of rules, as ``rule_files`` take it.

    :param name: the group, which is its file's name.
    :param source: what the file holds: the alerts by name.
    :param namespace: what ``$namespace`` in an expression stands for.
    :param tuning: by alert, what the user wants otherwise: ``enabled``, ``for``, ``severity``.
    :param runbooks: where the pages are; ``/<group>.md#<alert>`` is appended.
    :raises ValueError: one sentence for the first fault in it.
    """
    if not isinstance(source, dict):
        raise ValueError(f"The alerts of group '{name}' are no mapping of names to rules; begin with an alert's name.")
    rules = []
    for alert, written in source.items():
        rule = _checked(name, alert, {**written, **(tuning or {}).get(alert, {})})
        if rule["enabled"]:
            link = f"{runbooks}/{name}.md#{alert.lower()}"
            rules += list(_rules(alert, rule, namespace, link))
    return {"name": name, "rules": rules}


def _rules(alert: str, rule: Mapping[str, Any], namespace: str, link: str) -> Iterator[dict[str, Any]]:
    severity = rule["severity"]
    for level, threshold in severity.items() if isinstance(severity, dict) else [(severity, None)]:
        expression = rule["expr"].replace("$threshold", str(threshold)).replace("$namespace", namespace)
        yield {
            "alert": alert,
            "expr": expression.strip(),
            "for": rule["for"],
            "labels": {"severity": level},
            "annotations": {
                "summary": rule["summary"],
                "description": rule["description"],
                "runbook_url": link,
            },
        }


def _checked(group: str, alert: str, rule: Any) -> dict[str, Any]:
    result = ArgumentSpecValidator(_RULE).validate(rule)
    faults = list(result.error_messages)
    checked: dict[str, Any] = dict(result.validated_parameters)
    if not faults:
        levels = checked["severity"]
        unknown = sorted(set(levels if isinstance(levels, dict) else [levels]) - set(SEVERITIES))
        if unknown:
            faults.append(f"severity {', '.join(map(str, unknown))} is none of {', '.join(SEVERITIES)}")
        if isinstance(levels, dict) != ("$threshold" in checked["expr"]):
            faults.append("its severity has thresholds where, and only where, its expression has $threshold")
    if not _NAME.fullmatch(str(alert)):
        faults.append("its name is not written LikeThis")
    if faults:
        raise ValueError(f"The alert '{alert}' of group '{group}' cannot be used: {'; '.join(faults)}.")
    return checked
