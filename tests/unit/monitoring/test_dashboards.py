# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Every role's dashboards against what Grafana requires, as no Grafana is to be had here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from itertools import combinations, pairwise, product
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.harvester_rke2.platform.plugins.module_utils._yaml import LOADER, yaml
from ansible_collections.harvester_rke2.platform.plugins.plugin_utils._dashboard import dashboard
from ansible_collections.harvester_rke2.platform.tests.unit.monitoring.own_metrics import OF_REAL_PROGRAMS, own_metrics

ROOT = Path(__file__).parents[3]
FACTS = ROOT.parent / "shared" / "facts" / "metrics.md"
PATHS = sorted(ROOT.glob("roles/*/files/dashboards/*.yml"))
LIMIT = 1 << 20
NAMESPACE = "its-own-namespace"
Panel = dict[str, Any]

# The document's, section 9: a link may lead to one whose service is yet to come.
FOLDERS = {
    "Home": {"home"},
    "RKE2": {"etcd"},
    "Kubernetes": {"node-detail", "apiserver"},
    "Networking": {"cilium", "coredns", "traefik"},
    "Loki": {"loki", "loki-stack"},
    "Services": {
        *("vault", "cert-manager", "argocd", "argo-rollouts", "harbor", "keycloak", "mattermost", "gitlab", "redis"),
        "node-labeler",
    },
    "Storage": {"storage", "cnpg"},
    "Security": {"security-advanced", "oauth2-proxy"},
    "Operations": {"firing-alerts"},
}
# Those of this phase have a figure on Home; the later ones are found by Home's lists.
SINCE_PHASE_3 = {
    *("etcd", "node-detail", "apiserver", "cilium", "coredns", "traefik", "loki", "loki-stack", "vault"),
    *("cert-manager", "node-labeler", "storage", "cnpg", "security-advanced", "firing-alerts"),
}
UNITS = {
    *("none", "short", "bool_yes_no", "percentunit", "bytes", "Bps", "s", "ms", "d"),
    *("reqps", "ops", "cps", "iops", "pps"),
}
SOURCES = ({"type": "prometheus", "uid": "prometheus"}, {"type": "loki", "uid": "loki"})
# Grafana's own variables; the other ones are declared.
BUILT_IN = {"__rate_interval", "__range", "__auto", "__interval"}
VARIABLE = re.compile(r"\$\{?([A-Za-z_]\w*)\}?")

# Of Prometheus itself, and of every client library.
STANDARD = {
    *("up", "ALERTS", "ALERTS_FOR_STATE", "go_goroutines"),
    *("process_cpu_seconds_total", "process_resident_memory_bytes"),
}
# Names that the facts abbreviate ("..._returned"), or give by a wildcard ("cnpg_collector_*").
ABBREVIATED = {
    "cilium_bpf_progs_virtual_memory_max_bytes",
    *(f"cnpg_pg_stat_database_tup_{done}" for done in ("returned", "fetched", "inserted", "updated", "deleted")),
    *(f"cnpg_pg_stat_checkpointer_checkpoints_{why}" for why in ("timed", "req")),
    *(f"cnpg_pg_stat_database_{what}" for what in ("blks_hit", "blks_read", "conflicts")),
    *("cnpg_collector_first_recoverability_point", "cnpg_collector_last_failed_backup_timestamp"),
    "loki_distributor_lines_received_total",
    *("node_memory_Buffers_bytes", "node_memory_Cached_bytes"),
    "traefik_entrypoint_responses_bytes_total",
    "vault_audit_log_response_failure",
}
WORDS = {"and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "bool", "offset", "inf"}


@cache
def built(path: Path) -> dict[str, Any]:
    return dashboard(path.stem, yaml.load(path.read_text(), Loader=LOADER), namespace=NAMESPACE)


def panels(path: Path) -> list[Panel]:
    return [panel for panel in built(path)["panels"] if panel["type"] != "row"]


def targets(path: Path) -> Iterator[tuple[str, Panel]]:
    for panel in panels(path):
        for target in panel.get("targets", []):
            yield panel["title"], target


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def test_uids_and_titles_are_unique() -> None:
    for name in ("uid", "title"):
        said = [built(path)[name] for path in PATHS]
        assert sorted(set(said)) == sorted(said)


def test_it_is_one_of_the_documents_in_its_folder(path: Path) -> None:
    source = yaml.load(path.read_text(), Loader=LOADER)
    assert path.stem in FOLDERS[source["folder"]]


def test_its_config_map_is_small_enough(path: Path) -> None:
    assert len(json.dumps(built(path))) < LIMIT


def test_it_says_what_it_answers(path: Path) -> None:
    made = built(path)
    assert made["description"].endswith("?")
    for panel in panels(path):
        assert panel["description"].endswith("?"), panel["title"]


def test_titles_of_panels_are_unique(path: Path) -> None:
    said = [panel["title"] for panel in panels(path)]
    assert not {title for title in said if said.count(title) > 1}


def test_ids_are_unique_and_panels_lie_beside_each_other(path: Path) -> None:
    made = built(path)["panels"]
    assert len({panel["id"] for panel in made}) == len(made)
    places = [panel["gridPos"] for panel in made]
    for one, other in combinations(places, 2):
        apart = [
            one[start] + one[size] <= other[start] or other[start] + other[size] <= one[start]
            for start, size in (("x", "w"), ("y", "h"))
        ]
        assert any(apart), (one, other)
    assert all(place["x"] + place["w"] <= 24 for place in places)


def test_lines_are_full(path: Path) -> None:
    """But for a row's last: a hole in the middle is no fault of Grafana's, but a sign of a wrong width."""
    made = built(path)["panels"]
    lines: dict[int, int] = {}
    for panel in made:
        lines[panel["gridPos"]["y"]] = lines.get(panel["gridPos"]["y"], 0) + panel["gridPos"]["w"]
    rows = {panel["gridPos"]["y"] for panel in made if panel["type"] == "row"}
    tops = sorted(lines)
    assert not [top for top, below in pairwise(tops) if below not in rows and lines[top] < 24]


def test_each_target_is_complete(path: Path) -> None:
    for panel in panels(path):
        if panel["type"] == "dashlist":
            assert set(panel["options"]["tags"]) <= {"harvester-rke2", *FOLDERS}
            continue
        assert panel["datasource"] in SOURCES
        references = [target["refId"] for target in panel["targets"]]
        assert references and len(set(references)) == len(references)
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"], panel["title"]
            assert target["expr"], panel["title"]
            if panel["type"] == "table":
                assert target["format"] == "table"


def test_expressions_are_balanced(path: Path) -> None:
    for title, target in targets(path):
        text, open_ones = re.sub(r'"[^"]*"|`[^`]*`', "", target["expr"]), []
        for letter in text:
            if letter in "([{":
                open_ones.append(letter)
            elif letter in ")]}":
                assert open_ones and "([{".index(open_ones.pop()) == ")]}".index(letter), title
        assert not open_ones, title


def test_variables_are_declared_and_used(path: Path) -> None:
    declared = {variable["name"]: variable for variable in built(path)["templating"]["list"]}
    texts = [target["expr"] for _, target in targets(path)]
    texts += [variable["definition"] for variable in declared.values() if "definition" in variable]
    used = {name for text in texts for name in VARIABLE.findall(text)}
    assert used - BUILT_IN == set(declared)


def test_several_values_are_matched_as_a_pattern(path: Path) -> None:
    """Grafana writes more than one value as (a|b), which only =~ and !~ read."""
    several = {variable["name"] for variable in built(path)["templating"]["list"] if variable.get("multi")}
    for title, target in targets(path):
        equal = re.findall(r'[^!=]=\s*"\$\{?(\w+)', target["expr"])
        assert not several & set(equal), title


def test_a_rate_is_taken_over_the_interval_that_grafana_finds(path: Path) -> None:
    for title, target in targets(path):
        if target["datasource"]["type"] == "prometheus":
            assert not re.search(r"\brate\([^()]*\[(?!\$__rate_interval|\d+[hd]\])", target["expr"]), title


def test_a_rate_lies_inside_the_sum(path: Path) -> None:
    """rate(sum()) hides a counter's reset."""
    for title, target in targets(path):
        assert not re.search(r"\b(rate|increase)\(\s*(sum|max|min|avg)\b", target["expr"]), title


def test_legends_name_labels_that_the_expression_keeps(path: Path) -> None:
    for title, target in targets(path):
        wanted = set(re.findall(r"\{\{\s*(\w+)\s*\}\}", target["legendFormat"]))
        outer = re.match(
            r"^(?:topk\(\d+, |bottomk\(\d+, )?(?:sum|max|min|avg|count) by \(([^)]*)\)", target["expr"].strip()
        )
        if outer and wanted:
            kept = {label.strip() for label in outer[1].split(",")}
            assert wanted <= kept, f"{title}: {wanted - kept}"


def test_units_are_grafanas(path: Path) -> None:
    for panel in panels(path):
        field = panel.get("fieldConfig", {"defaults": {"unit": "short"}, "overrides": []})
        overridden = [found["value"] for override in field["overrides"] for found in override["properties"]]
        assert {field["defaults"]["unit"], *overridden} <= UNITS, panel["title"]
        names = {override["matcher"]["options"] for override in field["overrides"]}
        shown = {target["legendFormat"] for target in panel.get("targets", [])}
        for step in panel.get("transformations", []):
            shown |= set(step["options"].get("renameByName", {}).values())
        assert names <= shown, panel["title"]


def test_a_share_is_a_share(path: Path) -> None:
    """Thresholds of a share are below 1, so a percentage is not taken for one."""
    for panel in panels(path):
        field = panel.get("fieldConfig", {}).get("defaults", {})
        if field.get("unit") == "percentunit":
            steps = [step["value"] for step in field.get("thresholds", {}).get("steps", []) if step["value"]]
            assert all(value < 1 for value in steps), panel["title"]


def test_links_lead_somewhere(path: Path) -> None:
    known = {uid for uids in FOLDERS.values() for uid in uids}
    links = [*built(path).get("links", []), *(link for panel in panels(path) for link in panel.get("links", []))]
    assert {link["url"].removeprefix("/d/") for link in links} <= known


def test_home_leads_to_each_dashboard_that_there_is() -> None:
    [home] = [path for path in PATHS if path.stem == "home"]
    links = {link["url"].removeprefix("/d/") for panel in panels(home) for link in panel.get("links", [])}
    assert links >= {path.stem for path in PATHS if path != home and path.stem in SINCE_PHASE_3}
    tags = {tag for panel in panels(home) for tag in panel["options"].get("tags", [])}
    assert tags == {"harvester-rke2", *FOLDERS} - {"Home"}


def test_those_that_phase_3_has_are_there() -> None:
    assert {path.stem for path in PATHS} >= {"home", *SINCE_PHASE_3}


def test_a_figure_of_home_is_there_without_the_service() -> None:
    [home] = [path for path in PATHS if path.stem == "home"]
    for panel in panels(home):
        if panel["type"] == "stat":
            assert all(target["expr"].endswith("or vector(0)") for target in panel["targets"]), panel["title"]


def test_nothing_is_left_to_fill_in(path: Path) -> None:
    text = json.dumps(built(path))
    assert "$namespace" not in text and "DS_" not in text and "__inputs" not in text


def metrics(expression: str) -> set[str]:
    """The names of the series that an expression of PromQL reads."""
    text = re.sub(r'"[^"]*"', "", expression)
    text = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", text)
    text = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", text)
    return {
        found[1]
        for found in re.finditer(r"(?<![\w.$])([A-Za-z_:][\w:]*)\b(?!\s*\()", text)
        if found[1].lower() not in WORDS
    }


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('sum by (pod) (rate(a_total{pod=~"$pod"}[5m])) / on (pod) b or vector(0)', {"a_total", "b"}),
        ('count(up{job="x"} == 0) + 1e9 * time()', {"up"}),
        ("a and on (x) b unless ignoring (y) c > bool 3", {"a", "b", "c"}),
    ],
)
def test_names_are_read_from_an_expression(expression: str, names: set[str]) -> None:
    assert metrics(expression) == names


def expanded(text: str) -> Iterator[str]:
    """``a_{b,c}_d`` as a_b_d and a_c_d."""
    parts = re.split(r"\{([\w,]*,[\w,]*)\}", text)
    yield from ("".join(choice) for choice in product(*(part.split(",") for part in parts)))


def family(name: str) -> str:
    """Of a histogram or summary: its name."""
    return re.sub(r"_(bucket|count|sum)$", "", name)


@cache
def known() -> set[str]:
    names = {word for quoted in re.findall(r"`([^`]+)`", FACTS.read_text()) for word in names_of(quoted)}
    return {family(name) for name in names | own_metrics() | STANDARD | ABBREVIATED | OF_REAL_PROGRAMS}


def names_of(quoted: str) -> Iterator[str]:
    for found in re.finditer(r"[A-Za-z_:][\w:]*(?:\{[\w,]*,[\w,]*\}\w*)*", quoted):
        yield from expanded(found[0])
    # node_load1/5/15
    for stem, rest in re.findall(r"([a-z_]+)\d+((?:/\d+)+)", quoted):
        yield from (stem + number for number in rest[1:].split("/"))


@pytest.mark.skipif(not FACTS.exists(), reason=f"the list of names that exist, {FACTS}, is not here")
def test_names_of_metrics_exist(path: Path) -> None:
    for title, target in targets(path):
        if target["datasource"]["type"] == "prometheus":
            unknown = {name for name in metrics(target["expr"]) if family(name) not in known()}
            assert not unknown, f"{title}: {unknown}"


@pytest.mark.skipif(not FACTS.exists(), reason=f"the list of names that exist, {FACTS}, is not here")
def test_names_of_metrics_in_variables_exist(path: Path) -> None:
    for variable in built(path)["templating"]["list"]:
        found = re.match(r"label_values\((.*), \w+\)$", variable.get("definition", ""))
        if found:
            assert {family(name) for name in metrics(found[1])} <= known(), variable["name"]
