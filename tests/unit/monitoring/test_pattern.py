# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""From the sources in a role to what Prometheus and Grafana are given."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from ansible_collections.harvester_rke2.platform.plugins.module_utils._description import validate
from ansible_collections.harvester_rke2.platform.plugins.plugin_utils._alerts import rule_group
from ansible_collections.harvester_rke2.platform.plugins.plugin_utils._dashboard import dashboard
from ansible_collections.harvester_rke2.platform.plugins.plugin_utils._scrape import scrape_configs

DESCRIPTION = {"name": "demo", "summary": "A demo", "phase": 3, "namespace": "demo", "pod_security": "restricted"}
RULE = {
    "expr": "demo_free < $threshold",
    "severity": {"warning": 15, "critical": 5},
    "summary": "Full",
    "description": "d",
}
PANEL = {"graph": "Requests", "question": "How busy is it?", "query": {"{{pod}}": "rate(a[$__rate_interval])"}}


def job(**metrics: Any) -> dict[str, Any]:
    described = validate({**DESCRIPTION, "metrics": [{"job": "demo", "port": 8080, **metrics}]}, "demo")
    return scrape_configs(described["metrics"])[0]


def relabelled(config: dict[str, Any], target: str) -> list[str]:
    return [rule["source_labels"][0] for rule in config["relabel_configs"] if rule.get("target_label") == target]


def test_pods_of_its_own_namespace_are_found_by_their_labels() -> None:
    made = job(selector={"app": "demo", "component": "server"})
    [found] = made["kubernetes_sd_configs"]
    assert found["namespaces"] == {"names": ["demo"]}
    assert found["selectors"] == [{"role": "pod", "label": "app=demo,component=server"}]
    assert relabelled(made, "namespace") and relabelled(made, "pod")


def test_a_query_in_the_path_is_a_parameter() -> None:
    made = job(path="/v1/sys/metrics?format=prometheus")
    assert (made["metrics_path"], made["params"]) == ("/v1/sys/metrics", {"format": ["prometheus"]})


def test_metrics_that_say_their_namespace_keep_it() -> None:
    made = job(honor_labels=True)
    assert made["honor_labels"] is True
    assert not relabelled(made, "namespace") and not relabelled(made, "pod")


def test_a_label_of_the_pod_is_named_as_prometheus_writes_it() -> None:
    made = job(labels={"cluster": "cnpg.io/cluster"}, node=True, drop=["a_.*", "b"])
    assert relabelled(made, "cluster") == ["__meta_kubernetes_pod_label_cnpg_io_cluster"]
    assert relabelled(made, "instance") == ["__meta_kubernetes_pod_node_name"]
    assert made["metric_relabel_configs"][0]["regex"] == "a_.*|b"


def test_a_rule_for_each_severity() -> None:
    group = rule_group("demo", {"DemoFull": RULE}, namespace="demo", runbooks="https://docs/runbooks")
    assert [(rule["labels"]["severity"], rule["expr"]) for rule in group["rules"]] == [
        ("warning", "demo_free < 15"),
        ("critical", "demo_free < 5"),
    ]
    assert group["rules"][0]["annotations"]["runbook_url"] == "https://docs/runbooks/demo.md#demofull"


def test_an_alert_is_tuned_and_switched_off_by_name() -> None:
    source = {"DemoFull": RULE, "DemoDown": {**RULE, "expr": 'up{namespace="$namespace"} == 0', "severity": "critical"}}
    tuning = {"DemoFull": {"enabled": False}, "DemoDown": {"for": "1h", "severity": "info"}}
    [rule] = rule_group("demo", source, namespace="demo", tuning=tuning)["rules"]
    assert (rule["expr"], rule["for"], rule["labels"]) == ('up{namespace="demo"} == 0', "1h", {"severity": "info"})


@pytest.mark.parametrize(
    ("alert", "changed", "sentence"),
    [
        ("DemoFull", {"severity": "fatal"}, "severity fatal is none of critical"),
        ("DemoFull", {"severity": "critical"}, "only where, its expression has $threshold"),
        ("DemoFull", {"expr": None}, "expr"),
        ("DemoFull", {"expression": "1"}, "expression"),
        ("demo_full", {}, "LikeThis"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(alert: str, changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence.replace("$", r"\$")) as refused:
        rule_group("demo", {alert: {**RULE, **changed}}, namespace="demo")
    assert f"'{alert}' of group 'demo'" in str(refused.value)


def board(**more: Any) -> dict[str, Any]:
    source = {"title": "Demo", "folder": "Services", "summary": "Is it well?", "rows": {"Load": [PANEL]}, **more}
    return dashboard("demo", source, namespace="demo-ns")


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )


def test_panels_have_numbers_and_places_of_their_own() -> None:
    stat = {"stat": "Up", "question": "Is it?", "query": "up"}
    made = board(rows={"Status": [stat] * 9, "Load": [PANEL, stat, PANEL]}, footer={"namespace": "$namespace"})
    panels = made["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) == 3 + 9 + 3 + 4
    places = [panel["gridPos"] for panel in panels]
    assert not [pair for pair in combinations(places, 2) if overlap(*pair)]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 for place in places)


def test_a_target_is_complete() -> None:
    [_, graph] = board()["panels"]
    [target] = graph["targets"]
    assert target["datasource"] == graph["datasource"] == {"type": "prometheus", "uid": "prometheus"}
    assert (target["refId"], target["expr"]) == ("A", "rate(a[$__rate_interval])")
    assert (target["legendFormat"], target["range"], target["instant"]) == ("{{pod}}", True, False)


def test_a_table_has_the_columns_that_are_asked_for() -> None:
    table = {"table": "Pods", "question": "Which?", "query": {"Used": "a", "Free": "b"}, "columns": {"pod": "Pod"}}
    [_, made] = board(rows={"All": [table]})["panels"]
    assert [target["format"] for target in made["targets"]] == ["table", "table"]
    merge, only, names = made["transformations"]
    assert merge["id"] == "merge"
    assert only["options"]["include"]["names"] == ["pod", "Value #A", "Value #B"]
    assert names["options"]["renameByName"] == {"pod": "Pod", "Value #A": "Used", "Value #B": "Free"}


def test_the_lowest_threshold_has_no_lower_end() -> None:
    stat = {"stat": "Up", "question": "Is it?", "query": "up", "thresholds": {3: "green", 0: "red"}}
    [_, made] = board(rows={"All": [stat]})["panels"]
    steps = made["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert steps == [{"value": None, "color": "red"}, {"value": 3.0, "color": "green"}]


def test_the_footer_is_about_the_services_namespace() -> None:
    panels = board(footer={"namespace": "$namespace"})["panels"]
    assert sum('namespace="demo-ns"' in panel["targets"][0]["expr"] for panel in panels if "targets" in panel) == 4


def test_every_dashboard_but_home_leads_home() -> None:
    assert board()["links"][0]["url"] == "/d/home"
    source = {"title": "Home", "folder": "Home", "summary": "All", "rows": {"Load": [PANEL]}}
    assert "links" not in dashboard("home", source, namespace="monitoring")


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"rows": {"Load": [{**PANEL, "stat": "Both"}]}}, "a panel is one of"),
        ({"rows": {"Load": [{"graph": "Requests", "query": "a"}]}}, "question"),
        ({"rows": {"Load": [{"graph": "Requests", "question": "?"}]}}, "it has no query"),
        ({"rows": {"Load": [{"list": "All", "question": "?", "query": "a"}]}}, "it takes no query"),
        ({"rows": {"Load": [{**PANEL, "colour": "red"}]}}, "colour"),
        ({"rows": {"Load": [{**PANEL, "query": {f"q{n}": "a" for n in range(27)}}]}}, "it has 27 queries"),
        ({"variables": {"pod": {"query": "a", "text": "b"}}}, "variable 'pod'"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_dashboard_that_cannot_be_is_refused(more: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as refused:
        board(**more)
    assert "The dashboard 'demo'" in str(refused.value)
