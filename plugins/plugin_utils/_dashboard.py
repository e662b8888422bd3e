# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""Grafana's JSON of a dashboard from a role's ``files/dashboards/<uid>.yml`` (private to this collection)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.harvester_rke2.platform.plugins.plugin_utils._dashboard_panel import (
    SOURCES,
    Panel,
    datasource,
    panel,
)

HOME = "home"
SCHEMA = 41
WIDTH = 24
_KEYS: dict[str, Any] = {
    "title": {"type": "str", "required": True},
    "folder": {"type": "str", "required": True},
    "summary": {"type": "str", "required": True},
    "variables": {"type": "dict", "default": {}},
    "rows": {"type": "dict", "required": True},
    "footer": {
        "type": "dict",
        "options": {
            "namespace": {"type": "str", "required": True},
            "pod": {"type": "str", "default": ".*"},
            "volumes": {"type": "bool", "default": True},
        },
    },
    "range": {"type": "str", "default": "6h"},
}
_VARIABLE: dict[str, Any] = {
    "query": {"type": "str"},
    "text": {"type": "str"},
    "values": {"type": "list", "elements": "str"},
    "label": {"type": "str"},
    "source": {"type": "str", "choices": list(SOURCES), "default": "prometheus"},
    "multi": {"type": "bool", "default": True},
    "all": {"type": "bool", "default": True},
}


def dashboard(uid: str, source: Any, *, namespace: str) -> dict[str, Any]:
    """The dashboard as Grafana provisions it from a file.

    :param uid: its file's name, by which other dashboards link to it.
    :param source: what the file holds.
    :param namespace: of the service; ``$namespace`` stands for it.
    :raises ValueError: one sentence for the first fault in it.
    """
    where = f"The dashboard '{uid}'"
    if not isinstance(source, dict):
        raise ValueError(f"{where} is no mapping; begin it with 'title:'.")
    result = ArgumentSpecValidator(_KEYS).validate(_resolved(source, namespace))
    if result.error_messages:
        raise ValueError(f"{where} cannot be used: {'; '.join(result.error_messages)}.")
    wanted = result.validated_parameters
    rows = dict(wanted["rows"])
    if wanted["footer"]:
        rows["Pods and volumes" if wanted["footer"]["volumes"] else "Pods"] = _footer(wanted["footer"])
    made: dict[str, Any] = {
        "uid": uid,
        "title": wanted["title"],
        "description": wanted["summary"],
        "tags": ["harvester-rke2", wanted["folder"]],
        "schemaVersion": SCHEMA,
        "editable": False,
        "graphTooltip": 1,
        "time": {"from": f"now-{wanted['range']}", "to": "now"},
        "refresh": "1m",
        "templating": {"list": [_variable(where, *item) for item in wanted["variables"].items()]},
        "panels": list(_placed(where, rows)),
    }
    if uid != HOME:
        made["links"] = [{"title": "Home", "type": "link", "icon": "dashboard", "url": f"/d/{HOME}"}]
    return made


def _resolved(source: Any, namespace: str) -> Any:
    if isinstance(source, dict):
        return {key: _resolved(value, namespace) for key, value in source.items()}
    if isinstance(source, list):
        return [_resolved(value, namespace) for value in source]
    return source.replace("$namespace", namespace) if isinstance(source, str) else source


def _placed(where: str, rows: Mapping[str, Any]) -> Iterator[Panel]:
    """Panels with numbers and places: from left to right, on a new line where there is no room."""
    number = top = 0
    for title, sources in rows.items():
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "panels": [],
            "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": 1},
        }
        top, left, tallest = top + 1, 0, 0
        for source in sources:
            made = panel(source, where)
            width, height = made["gridPos"]["w"], made["gridPos"]["h"]
            if left + width > WIDTH:
                top, left, tallest = top + tallest, 0, 0
            number += 1
            made |= {"id": number, "gridPos": {"x": left, "y": top, "w": width, "h": height}}
            yield made
            left, tallest = left + width, max(tallest, height)
        top += tallest


def _variable(where: str, name: str, source: Any) -> dict[str, Any]:
    result = ArgumentSpecValidator(_VARIABLE, mutually_exclusive=[("query", "text", "values")]).validate(
        {"query": source} if isinstance(source, str) else source
    )
    wanted = result.validated_parameters
    if result.error_messages:
        raise ValueError(f"{where}: its variable '{name}' cannot be used: {'; '.join(result.error_messages)}.")
    common = {"name": name, "label": wanted["label"] or name.replace("_", " ").capitalize()}
    if wanted["text"] is not None:
        return {
            **common,
            "type": "textbox",
            "query": wanted["text"],
            "current": {"text": wanted["text"], "value": wanted["text"]},
        }
    several: dict[str, Any] = {"multi": wanted["multi"], "includeAll": wanted["all"]}
    if "$" not in (wanted["query"] or ""):
        # Where the choice hangs on another variable, all are only those that it leaves.
        several["allValue"] = ".*"
    if wanted["all"]:
        several["current"] = (
            {"text": ["All"], "value": ["$__all"]} if wanted["multi"] else {"text": "All", "value": "$__all"}
        )
    if wanted["values"]:
        return {**common, **several, "type": "custom", "query": ",".join(wanted["values"])}
    # On a changed time range, so that what is gone today can still be looked at where it was there.
    asked: Any = {"query": wanted["query"], "refId": name}
    if wanted["source"] == "loki":
        asked = {"type": 1, "label": wanted["query"], "stream": "", "refId": name}
    return {
        **common,
        **several,
        "type": "query",
        "datasource": datasource(wanted["source"]),
        "query": asked,
        "definition": wanted["query"],
        "refresh": 2,
        "sort": 1,
    }


def _footer(footer: Mapping[str, Any]) -> list[Panel]:
    """What every service's dashboard ends with."""
    of = f'namespace="{footer["namespace"]}",pod=~"{footer["pod"]}"'
    volumes = of.split(",", maxsplit=1)[0]
    cpu = f'sum by (pod) (rate(container_cpu_usage_seconds_total{{{of},container!=""}}[$__rate_interval]))'
    memory = f'sum by (pod) (container_memory_working_set_bytes{{{of},container!=""}})'
    restarts = f"sum by (pod) (increase(kube_pod_container_status_restarts_total{{{of}}}[1h]))"
    used = f"kubelet_volume_stats_used_bytes{{{volumes}}} / kubelet_volume_stats_capacity_bytes{{{volumes}}}"
    panels: list[Panel] = [
        {"graph": "CPU", "question": "Which pod uses how many cores?", "query": {"{{pod}}": cpu}},
        {"graph": "Memory", "question": "Does a pod grow without end?", "query": {"{{pod}}": memory}, "unit": "bytes"},
        {
            "graph": "Restarts in the last hour",
            "question": "Does a container keep ending?",
            "query": {"{{pod}}": restarts},
        },
    ]
    if footer["volumes"]:
        panels.append(
            {
                "graph": "Volumes",
                "question": "Is a volume running full?",
                "query": {"{{persistentvolumeclaim}}": used},
                "unit": "percentunit",
                "max": 1,
                "min": 0,
                "thresholds": {0: "green", 0.8: "orange", 0.95: "red"},
            }
        )
    return [{**panel, "width": WIDTH // len(panels)} for panel in panels]
