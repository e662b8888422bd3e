# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""One panel of a dashboard: from its compact source to Grafana's JSON, without its place (private to this collection).

The shapes are those that Grafana 12 writes itself (schema version 41).
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

Panel = dict[str, Any]

# Word in the source: Grafana's type, width (of 24), height.
KINDS: dict[str, tuple[str, int, int]] = {
    "stat": ("stat", 4, 4),
    "gauge": ("gauge", 4, 5),
    "graph": ("timeseries", 12, 8),
    "bars": ("bargauge", 8, 8),
    "table": ("table", 12, 8),
    "states": ("state-timeline", 12, 8),
    "logs": ("logs", 24, 12),
    "list": ("dashlist", 6, 8),
}
SOURCES = ("prometheus", "loki")
_NO_QUERY = ("list",)
_AT_ONCE = ("bars", "table")
_LAST = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}

_KEYS: dict[str, Any] = {
    **{kind: {"type": "str"} for kind in KINDS},
    "question": {"type": "str", "required": True},
    "query": {"type": "raw"},
    "unit": {"type": "str", "default": "short"},
    "units": {"type": "dict", "default": {}},
    "source": {"type": "str", "choices": list(SOURCES), "default": "prometheus"},
    "thresholds": {"type": "dict", "default": {}},
    "width": {"type": "int"},
    "height": {"type": "int"},
    "min": {"type": "float"},
    "max": {"type": "float"},
    "stack": {"type": "bool", "default": False},
    "instant": {"type": "bool"},
    "links": {"type": "str"},
    "columns": {"type": "dict", "default": {}},
    "tags": {"type": "list", "elements": "str", "default": []},
}


def panel(source: Any, where: str) -> Panel:
    """A panel without ``id`` and position; ``gridPos`` has its width and height.

    :param source: its mapping in the source; its kind is the key that holds its title.
    :param where: the dashboard, for the message.
    :raises ValueError: one sentence that names the panel and its faults.
    """
    kinds = [kind for kind in KINDS if isinstance(source, dict) and kind in source]
    if len(kinds) != 1:
        raise ValueError(f"{where}: a panel is one of {', '.join(KINDS)} with its title, but this one is: {source}.")
    kind = kinds[0]
    result = ArgumentSpecValidator(_KEYS).validate(source)
    faults, wanted = list(result.error_messages), result.validated_parameters
    if not faults and (wanted["query"] is None) != (kind in _NO_QUERY):
        faults.append("it has no query" if wanted["query"] is None else "it takes no query")
    if not faults and isinstance(wanted["query"], dict) and len(wanted["query"]) > len(string.ascii_uppercase):
        faults.append(f"it has {len(wanted['query'])} queries, of which Grafana can name {len(string.ascii_uppercase)}")
    if faults:
        raise ValueError(f"{where}: the panel '{source[kind]}' cannot be used: {'; '.join(faults)}.")
    return _panel(kind, wanted)


def _panel(kind: str, wanted: Mapping[str, Any]) -> Panel:
    of, width, height = KINDS[kind]
    made: Panel = {
        "type": of,
        "title": wanted[kind],
        "description": wanted["question"],
        "gridPos": {"w": wanted["width"] or width, "h": wanted["height"] or height},
        "options": _options(kind, wanted),
    }
    if wanted["links"]:
        made["links"] = [{"title": f"Open {wanted['links']}", "url": f"/d/{wanted['links']}"}]
    if kind in _NO_QUERY:
        return made
    made["datasource"] = datasource(wanted["source"])
    made["targets"] = _targets(kind, wanted)
    if kind != "logs":
        made["fieldConfig"] = {"defaults": _field(kind, wanted), "overrides": _overrides(wanted["units"])}
    if kind == "table":
        made["transformations"] = _columns(wanted, made["targets"])
    return made


def datasource(source: str) -> dict[str, str]:
    """The data source by the uid that Grafana is provisioned with, which is its kind's name."""
    return {"type": source, "uid": source}


def _targets(kind: str, wanted: Mapping[str, Any]) -> list[Panel]:
    query = wanted["query"]
    queries = query if isinstance(query, dict) else {"": query}
    at_once = kind in _AT_ONCE if wanted["instant"] is None else wanted["instant"]
    targets = []
    for letter, (legend, expression) in zip(string.ascii_uppercase, queries.items(), strict=False):
        target: Panel = {
            "refId": letter,
            "datasource": datasource(wanted["source"]),
            "expr": str(expression).strip(),
            "legendFormat": legend or "__auto",
        }
        if wanted["source"] == "loki":
            target["queryType"] = "instant" if at_once else "range"
        else:
            target |= {"instant": at_once, "range": not at_once}
            if kind == "table":
                target["format"] = "table"
        targets.append(target)
    return targets


def _field(kind: str, wanted: Mapping[str, Any]) -> Panel:
    field: Panel = {"unit": wanted["unit"]}
    field |= {limit: wanted[limit] for limit in ("min", "max") if wanted[limit] is not None}
    if wanted["thresholds"]:
        steps = sorted(wanted["thresholds"].items(), key=lambda step: float(step[0]))
        # The first step has no lower end, whatever its value says.
        field["thresholds"] = {
            "mode": "absolute",
            "steps": [
                {"value": None if place == 0 else float(value), "color": colour}
                for place, (value, colour) in enumerate(steps)
            ],
        }
        field["color"] = {"mode": "thresholds"}
    if kind == "graph":
        field["custom"] = {
            "fillOpacity": 30 if wanted["stack"] else 8,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if wanted["stack"] else "none"},
        }
        if wanted["thresholds"]:
            field["color"] = {"mode": "palette-classic"}
            field["custom"]["thresholdsStyle"] = {"mode": "line"}
    return field


def _overrides(units: Mapping[str, str]) -> list[Panel]:
    return [
        {"matcher": {"id": "byName", "options": name}, "properties": [{"id": "unit", "value": unit}]}
        for name, unit in units.items()
    ]


def _options(kind: str, wanted: Mapping[str, Any]) -> Panel:
    coloured = "background" if wanted["thresholds"] else "value"
    options: dict[str, Panel] = {
        "stat": {**_LAST, "colorMode": coloured, "graphMode": "area", "textMode": "auto"},
        "gauge": _LAST,
        "graph": {
            "legend": {"displayMode": "list", "placement": "bottom", "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "bars": {**_LAST, "orientation": "horizontal", "displayMode": "gradient"},
        "table": {"showHeader": True},
        "states": {"showValue": "auto", "mergeValues": True},
        "logs": {"showTime": True, "wrapLogMessage": True, "enableLogDetails": True, "sortOrder": "Descending"},
        "list": {"showSearch": True, "showStarred": False, "showHeadings": False, "tags": wanted["tags"]},
    }
    return options[kind]


def _columns(wanted: Mapping[str, Any], targets: list[Panel]) -> list[Panel]:
    """One table of all queries: a column a query, named by its legend; only the columns that are asked for."""
    values = {
        "Value" if len(targets) == 1 else f"Value #{target['refId']}": target["legendFormat"]
        for target in targets
        if target["legendFormat"] != "__auto"
    }
    names = {**wanted["columns"], **values}
    made: list[Panel] = [{"id": "merge", "options": {}}]
    if wanted["columns"]:
        shown = [*names, *([] if values else ["Value"])]
        made.append({"id": "filterFieldsByName", "options": {"include": {"names": shown}}})
    order = {name: place for place, name in enumerate(names)}
    options = {"renameByName": names, "indexByName": order, "excludeByName": {"Time": True}}
    made.append({"id": "organize", "options": options})
    return made
