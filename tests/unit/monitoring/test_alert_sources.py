# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What every alert must bring: cases, a page, a description that says something, and names that exist."""

from __future__ import annotations

import re
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.harvester_rke2.platform.tests.unit.monitoring.own_metrics import OF_REAL_PROGRAMS, own_metrics

from tests.tools import alerts

FACTS = alerts.ROOT.parent / "shared" / "facts" / "metrics.md"
SOURCES = alerts.sources()
ALERTS = {alert: (source, rule) for source in SOURCES for alert, rule in source.alerts.items()}
CASES = list(alerts.cases(SOURCES))
# Nothing can silence it: that is what it is for.
ALWAYS = {"Watchdog"}
WORDS = {"and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "offset", "bool"}


def levels(rule: Any) -> list[str]:
    severity = rule["severity"]
    return list(severity) if isinstance(severity, dict) else [severity]


def metrics(expression: str) -> set[str]:
    """The names of metrics in an expression: what is neither label, function, word nor number."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|#.*", " ", bare)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    bare = re.sub(r"\boffset\s+\w+|\$threshold", " ", bare)
    return set(re.findall(r"\b[a-z_:][\w:]*\b(?!\s*\()", bare)) - WORDS


def spelled_out(text: str) -> set[str]:
    """The names in the facts, with a_{b,c}_d read as two."""
    found = set()
    for word in re.findall(r"[\w:]*(?:\{[\w,]+\}[\w:]*)+|[\w:]+", text):
        parts = [part.split(",") for part in re.split(r"[{}]", word)]
        found |= {"".join(choice) for choice in product(*parts)}
        # A set of labels after a name looks the same.
        found.add(word.split("{")[0])
    return found


def test_the_reader_of_expressions_reads() -> None:
    expression = """
      100 * sum by (namespace, le) (rate(a_total{job="x", code=~"5..|429"}[5m]))
        / on (pod) group_left (owner) b > $threshold
      unless c{job="y"} offset 10m and time() - (d > 0) < 2 * 3600
    """
    assert metrics(expression) == {"a_total", "b", "c", "d"}
    assert {"x_a_total", "x_b_total"} <= spelled_out("`x_{a,b}_total`")


def test_an_alert_has_one_source() -> None:
    found = Counter(alert for source in SOURCES for alert in source.alerts)
    assert [alert for alert, number in found.items() if number > 1] == []


def test_cases_are_of_alerts_and_of_their_group() -> None:
    strangers = [(group, case.alert) for group, case in CASES if case.alert not in ALERTS]
    assert strangers == []
    assert [case.alert for group, case in CASES if ALERTS[case.alert][0].group != group] == []


@pytest.mark.parametrize("alert", ALERTS)
def test_each_severity_has_a_case_that_fires_and_one_that_does_not(alert: str) -> None:
    _, rule = ALERTS[alert]
    own = [case for _, case in CASES if case.alert == alert]
    fires = {severity: [severity in case.fires for case in own] for severity in levels(rule)}
    assert all(any(found) for found in fires.values()), f"no case fires: {fires}"
    assert {severity for case in own for severity in case.fires} <= set(fires)
    if alert not in ALWAYS:
        assert not all(all(found) for found in fires.values()), f"no case that does not fire: {fires}"
        for severity, found in fires.items():
            assert not all(found), f"{severity} has no case that does not fire"


@pytest.mark.parametrize("alert", sorted(set(ALERTS) - ALWAYS))
def test_what_does_not_fire_is_near_to_what_fires(alert: str) -> None:
    read = metrics(str(ALERTS[alert][1]["expr"]))
    for case in (case for _, case in CASES if case.alert == alert and not case.fires):
        given = {series.split("{")[0] for series in case.series}
        assert given <= read and given, f"{sorted(given)} of a case that does not fire is not what it reads"


@pytest.mark.parametrize("alert", ALERTS)
def test_it_is_whole(alert: str) -> None:
    _, rule = ALERTS[alert]
    assert "for" in rule
    assert not str(rule["summary"]).endswith(".") and "{{" not in str(rule["summary"])
    # Of a missing series there is neither a value nor a label that could be said.
    silent = str(rule["expr"]).startswith("absent(")
    assert re.search(r"\{\{ \$(value|labels\.)", str(rule["description"])) or silent
    assert any(case.says for _, case in CASES if case.alert == alert), "no case says how the description reads"


@pytest.mark.parametrize("group", sorted({source.group for source in SOURCES}))
def test_each_alert_has_its_section(group: str) -> None:
    page = (alerts.RUNBOOKS / f"{group}.md").read_text()
    sections = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    wanted = {alert for alert, (source, _) in ALERTS.items() if source.group == group}
    assert set(sections) == wanted
    for alert, text in sections.items():
        assert all(f"**{word}**" in text for word in ("See", "Why", "Do")), alert
        link = f"runbooks/{group}.md#{alert.lower()}"
        assert {rule["annotations"]["runbook_url"] for rule in ALERTS[alert][0].rules()["rules"]} >= {link}


@pytest.mark.parametrize("page", sorted(alerts.RUNBOOKS.glob("*.md")), ids=lambda page: str(page.stem))
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    for name, anchor in re.findall(r"\]\(([\w./-]*\.md)?(?:#([\w-]+))?\)", page.read_text()):
        target = page.parent / name if name else page
        assert target.is_file(), name
        heads = {head.lower().replace(" ", "-") for head in re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)}
        assert not anchor or anchor in heads, f"{name}#{anchor}"


def test_jobs_exist() -> None:
    jobs = set()
    for path in (alerts.ROOT / "roles").glob("*/meta/service.yml"):
        jobs |= {entry["job"] for entry in yaml.safe_load(path.read_text()).get("metrics", [])}
    for path in (alerts.ROOT / "roles" / "prometheus" / "files" / "scrape").glob("*.yml"):
        jobs |= {job["job_name"] for job in yaml.safe_load(path.read_text())["scrape_configs"]}
    read = {
        (alert, job) for alert, (_, rule) in ALERTS.items() for job in re.findall(r'\bjob="([^"]+)"', str(rule["expr"]))
    }
    assert {(alert, job) for alert, job in read if job not in jobs} == set()


@pytest.mark.skipif(not FACTS.is_file(), reason=f"the names of metrics are compared with {FACTS}, which is not here")
def test_metrics_exist() -> None:
    facts = FACTS.read_text()
    known = spelled_out(facts) | OF_REAL_PROGRAMS | own_metrics()
    # Written short where a family was named before: ..._out_of_order_total
    endings = tuple(set(re.findall(r"\.\.\.(\w*_\w{7,})", facts)))
    unknown = {
        (alert, name)
        for alert, (_, rule) in ALERTS.items()
        for name in metrics(str(rule["expr"])) - known
        if not name.endswith(endings)
    }
    assert unknown == set()
