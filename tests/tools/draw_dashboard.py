# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Draw dashboards as Grafana would place them, with the data of a real Prometheus: no Grafana is to be had there.

usage: python tests/tools/draw_dashboard.py PROMETHEUS_URL FOLDER [UID...]

Writes FOLDER/<uid>.html of each dashboard, and says of each how many of its queries return data.
"""

from __future__ import annotations

import html
import json
import pathlib
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import yaml
from ansible_collections.harvester_rke2.platform.plugins.plugin_utils._dashboard import dashboard
from ansible_collections.harvester_rke2.platform.tests.tools.alerts import namespace

ROOT = pathlib.Path(__file__).parents[2]
COLUMN, LINE, SPAN = 60, 34, 900
COLOURS = ("#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#1f78c1", "#ba43a9", "#705da0")
Panel = dict[str, Any]
Series = dict[str, Any]


class Prometheus:
    """Its HTTP API; variables of a dashboard match everything."""

    def __init__(self, url: str) -> None:
        self.url, self.now = url.rstrip("/"), time.time()

    def ask(self, expression: str, over: bool) -> list[Series]:
        text = expression.replace("$__rate_interval", "1m").replace("$__range", "15m").replace("$__auto", "1m")
        # Not $1, which is label_replace's own.
        text = re.sub(r"\$\{?[a-z_]\w*\}?", ".*", text)
        asked: dict[str, Any] = {"query": text}
        if over:
            asked |= {"start": self.now - SPAN, "end": self.now, "step": 15}
        words = urllib.parse.urlencode(asked)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/query{'_range' if over else ''}?{words}") as answer:
                found = json.load(answer)["data"]
        except urllib.error.HTTPError as refused:
            sys.exit(f"{text}: {json.load(refused)['error']}")
        return list(found["result"]) if found["resultType"] != "scalar" else [{"metric": {}, "value": found["result"]}]


def shown(value: float, unit: str) -> str:
    if unit == "percentunit":
        return f"{value:.1%}"
    for sign, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size and unit not in ("s", "d", "ms"):
            return f"{value / size:.1f} {sign}{unit if unit not in ('short', 'none') else ''}"
    return f"{value:.3g} {unit if unit not in ('short', 'none') else ''}"


def legend(target: Panel, metric: dict[str, str]) -> str:
    if target["legendFormat"] == "__auto":
        return ", ".join(f"{name}={value}" for name, value in metric.items() if name != "__name__")
    return re.sub(r"\{\{ *(\w+) *\}\}", lambda found: metric.get(found[1], ""), target["legendFormat"])


def colour(panel: Panel, value: float) -> str:
    steps = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])
    reached = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return reached[-1] if reached else "#1f2430"


def lines(panel: Panel, found: list[tuple[str, Series]], width: int, height: int) -> Iterator[str]:
    points = [[(float(when), float(value)) for when, value in series["values"]] for _, series in found]
    values = [value for line in points for _, value in line if value == value]
    unit = panel["fieldConfig"]["defaults"]["unit"]
    if not values:
        return
    low, high = min(0.0, *values), max(values) or 1.0
    begin = min(line[0][0] for line in points)
    yield f'<svg width="{width}" height="{height}">'
    for number, line in enumerate(points):
        place = [
            f"{(when - begin) / SPAN * width:.1f},{height - 4 - (value - low) / ((high - low) or 1) * (height - 8):.1f}"
            for when, value in line
            if value == value
        ]
        stroke = COLOURS[number % len(COLOURS)]
        yield f'<polyline fill="none" stroke="{stroke}" stroke-width="1.5" points="{" ".join(place)}"/>'
    yield f'<text x="2" y="12" fill="#999" font-size="11">{html.escape(shown(high, unit))}</text></svg>'
    yield '<div class="legend">'
    for number, (name, _) in enumerate(found[:8]):
        yield f'<span style="color:{COLOURS[number % len(COLOURS)]}">&#9644; {html.escape(name)}</span> '
    yield f"{'' if len(found) <= 8 else f'and {len(found) - 8} more'}</div>"


def table(found: list[tuple[str, Series]], rows: int) -> Iterator[str]:
    yield "<table>"
    for name, series in found[:rows]:
        said = name or ", ".join(series["metric"].values())
        yield f"<tr><td>{html.escape(said)}</td><td>{html.escape(str(series['value'][1]))}</td></tr>"
    yield "</table>"


def drawn(panel: Panel, prometheus: Prometheus) -> tuple[str, int, int]:
    """The panel's inside, how many queries it has, and how many of them return something."""
    targets = [target for target in panel.get("targets", []) if target["datasource"]["type"] == "prometheus"]
    over = panel["type"] == "timeseries"
    answers = [prometheus.ask(target["expr"], over) for target in targets]
    found = [
        (legend(target, series["metric"]), series)
        for target, answer in zip(targets, answers, strict=True)
        for series in answer
    ]
    width, height = panel["gridPos"]["w"] * COLUMN - 20, panel["gridPos"]["h"] * LINE - 60
    if not found:
        inside = '<div class="none">No data</div>' if targets else f'<div class="none">({panel["type"]})</div>'
    elif over:
        inside = "".join(lines(panel, found, width, max(20, height - 30)))
    elif panel["type"] in ("stat", "gauge"):
        unit = panel["fieldConfig"]["defaults"]["unit"]
        inside = "".join(
            f'<div class="figure" style="background:{colour(panel, float(series["value"][1]))}">'
            f"{html.escape(shown(float(series['value'][1]), unit))} <small>{html.escape(name)}</small></div>"
            for name, series in found[:6]
        )
    else:
        inside = "".join(table(found, max(1, height // 20)))
    return inside, len(targets), sum(1 for answer in answers if answer)


def page(made: Panel, prometheus: Prometheus) -> tuple[str, int, int]:
    parts, queries, answered = [], 0, 0
    for panel in made["panels"]:
        place = panel["gridPos"]
        box = (
            f"left:{place['x'] * COLUMN}px;top:{place['y'] * LINE + 50}px;"
            f"width:{place['w'] * COLUMN - 6}px;height:{place['h'] * LINE - 6}px"
        )
        inside = ""
        if panel["type"] != "row":
            inside, asked, had = drawn(panel, prometheus)
            queries, answered = queries + asked, answered + had
        title = html.escape(panel["title"])
        parts.append(f'<div class="{panel["type"]}" style="{box}"><b>{title}</b>{inside}</div>')
    style = (
        "body{background:#111217;color:#ccc;font:13px sans-serif}body>div{position:absolute;overflow:hidden;"
        "background:#181b1f;padding:4px;box-sizing:border-box}.row{background:none!important}.legend{font-size:11px}"
        ".figure{font-size:20px;margin-top:4px;padding:4px}.none{color:#777;margin-top:20px;text-align:center}"
        "td{padding:1px 8px}"
    )
    return f"<style>{style}</style><h3>{html.escape(made['title'])}</h3>{''.join(parts)}", queries, answered


def main(url: str, folder: str, wanted: list[str]) -> None:
    prometheus, target = Prometheus(url), pathlib.Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(ROOT.glob("roles/*/files/dashboards/*.yml")):
        if wanted and path.stem not in wanted:
            continue
        made = dashboard(path.stem, yaml.safe_load(path.read_text()), namespace=namespace(path.parents[2]))
        text, queries, answered = page(made, prometheus)
        (target / f"{path.stem}.html").write_text(text)
        print(f"{path.stem:20} {queries:4} queries, {answered:4} with data")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
