# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Alloy's configurations, held against what v1.18.1 takes: there is no Alloy here that could read them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.harvester_rke2.platform.tests.unit.platform.conftest import Play, rendered

TOKEN = re.compile(
    r"""(?P<comment>//[^\n]*)|(?P<string>"(?:\\.|[^"\\])*"|`[^`]*`)|(?P<name>[A-Za-z_][\w.]*)|(?P<number>\d+)"""
    r"""|(?P<line>\n)|(?P<space>[ \t]+)|(?P<sign>[{}\[\](),=+])"""
)
REFERENCE = re.compile(r"(?P<component>[a-z_]+(?:\.[a-z_]+)+\.\w+)\.(?P<export>\w+)")

# Component or block: its arguments, those that it must have, the blocks in it; from the sources of v1.18.1.
ARGUMENTS: dict[str, tuple[set[str], set[str], set[str]]] = {
    "discovery.kubernetes": ({"role"}, {"role"}, {"selectors", "namespaces"}),
    "selectors": ({"role", "label", "field"}, {"role"}, set()),
    "discovery.relabel": ({"targets"}, {"targets"}, {"rule"}),
    "rule": ({"source_labels", "separator", "regex", "target_label", "replacement", "action"}, set(), set()),
    "local.file_match": ({"path_targets", "sync_period", "ignore_older_than"}, {"path_targets"}, set()),
    "loki.source.file": ({"targets", "forward_to", "tail_from_end"}, {"targets", "forward_to"}, set()),
    "loki.source.kubernetes": ({"targets", "forward_to"}, {"targets", "forward_to"}, {"clustering"}),
    "loki.source.kubernetes_events": ({"forward_to", "job_name", "log_format", "namespaces"}, {"forward_to"}, set()),
    "loki.source.journal": (
        {"forward_to", "format_as_json", "labels", "matches", "max_age", "path", "relabel_rules"},
        {"forward_to"},
        set(),
    ),
    "loki.relabel": ({"forward_to"}, {"forward_to"}, {"rule"}),
    "loki.process": (
        {"forward_to"},
        {"forward_to"},
        {"stage.cri", "stage.drop", "stage.label_drop", "stage.labels", "stage.match", "stage.regex", "stage.template"},
    ),
    "stage.cri": (set(), set(), set()),
    "stage.drop": ({"older_than", "drop_counter_reason"}, set(), set()),
    "stage.label_drop": ({"values"}, {"values"}, set()),
    "stage.labels": ({"values"}, {"values"}, set()),
    "stage.match": ({"selector", "action", "drop_counter_reason"}, {"selector"}, set()),
    "stage.regex": ({"expression", "source"}, {"expression"}, set()),
    "stage.template": ({"source", "template"}, {"source", "template"}, set()),
    "loki.write": ({"external_labels"}, set(), {"endpoint"}),
    "endpoint": ({"url", "batch_wait", "batch_size", "max_backoff_retries"}, {"url"}, set()),
}
EXPORTS = {
    "discovery.kubernetes": {"targets"},
    "discovery.relabel": {"output", "rules"},
    "local.file_match": {"targets"},
    "loki.relabel": {"receiver", "rules"},
    "loki.process": {"receiver"},
    "loki.write": {"receiver"},
}


@dataclass
class Block:
    """One block: ``kind "label" { name = value, ... }`` with the blocks in it."""

    kind: str
    label: str = ""
    arguments: dict[str, str] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.kind}.{self.label}"

    def all(self) -> Iterator[Block]:
        yield self
        for block in self.blocks:
            yield from block.all()


def tokens(text: str) -> list[str]:
    found, position = [], 0
    while position < len(text):
        match = TOKEN.match(text, position)
        assert match, f"no token of Alloy's: {text[position : position + 20]!r}"
        if match.lastgroup not in ("comment", "space"):
            found.append(match[0])
        position = match.end()
    return [*found, "\n"]


def parse(text: str) -> list[Block]:
    rest = tokens(text)
    top = Block("")
    _body(top, rest)
    assert not rest, f"closed too often, before {rest[:5]}"
    return top.blocks


def _body(block: Block, rest: list[str]) -> None:
    while rest:
        word = rest.pop(0)
        if word == "}":
            assert block.kind, "a brace closes nothing"
            return
        if word == "\n":
            continue
        if rest[0] == "=":
            rest.pop(0)
            assert word not in block.arguments, f"{block.name} has {word} twice"
            block.arguments[word] = _value(rest)
            continue
        inner = Block(word, rest.pop(0).strip('"') if rest[0].startswith('"') else "")
        assert rest.pop(0) == "{", f"no block: {word}"
        block.blocks.append(inner)
        _body(inner, rest)
    assert not block.kind, f"{block.name} is never closed"


def _value(rest: list[str]) -> str:
    """An expression: it ends with the line, unless a bracket is open."""
    taken: list[str] = []
    depth = 0
    while rest[0] != "\n" or depth:
        depth += (rest[0] in "{[(") - (rest[0] in "}])")
        taken.append(rest.pop(0))
    return "".join(taken)


def faults(text: str) -> list[str]:
    """What is wrong with a configuration, a line each."""
    components = parse(text)
    known = {component.name: component.kind for component in components}
    assert len(known) == len(components), "two components have one name"
    found = []
    for component in components:
        for block in component.all():
            takes, needs, blocks = ARGUMENTS.get(block.kind, (set(), set(), set()))
            if block.kind not in ARGUMENTS:
                found.append(f"{component.name}: {block.kind} is unknown")
            found += [f"{component.name}: {block.kind} takes no {name}" for name in block.arguments.keys() - takes]
            found += [f"{component.name}: {block.kind} needs {name}" for name in needs - block.arguments.keys()]
            found += [f"{component.name}: no {b.kind} in {block.kind}" for b in block.blocks if b.kind not in blocks]
            for value in block.arguments.values():
                bare = re.sub(r'"(?:\\.|[^"\\])*"|`[^`]*`|sys\.env', "", value)
                for name, export in REFERENCE.findall(bare):
                    if export not in EXPORTS.get(known.get(name, ""), ()):
                        found.append(f"{component.name}: {name}.{export} is nowhere")
    return found


@pytest.fixture(scope="module", params=["api", "files"])
def objects(request: pytest.FixtureRequest, play: Play, tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    folder = tmp_path_factory.mktemp(request.param)
    found = rendered(play, folder, "harvester_rke2.platform.alloy", alloy_pod_logs=request.param)
    return {(document["kind"], document["metadata"]["name"]): document for _service, document in found}


@pytest.fixture(scope="module")
def node(objects: dict[Any, Any]) -> str:
    return str(objects["ConfigMap", "alloy"]["data"]["config.alloy"])


@pytest.fixture(scope="module")
def events(objects: dict[Any, Any]) -> str:
    return str(objects["ConfigMap", "alloy-events"]["data"]["config.alloy"])


def test_both_configurations_are_what_alloy_takes(node: str, events: str) -> None:
    assert faults(node) == [] and faults(events) == []


def test_each_component_leads_somewhere(node: str, events: str) -> None:
    for text in (node, events):
        components = parse(text)
        used = {
            name for c in components for b in c.all() for v in b.arguments.values() for name, _ in REFERENCE.findall(v)
        }
        ends = {c.name for c in components if c.kind.startswith("loki.source.")}
        assert {component.name for component in components} - used == ends


def test_a_fault_would_be_seen(events: str) -> None:
    assert faults(events.replace("loki.write.loki.receiver", "loki.write.other.receiver"))
    assert faults(events.replace("job_name", "job"))
    assert faults(events.replace("stage.label_drop", "stage.drop_labels"))
    assert faults(events.replace("loki.write.loki.receiver", "loki.write.loki.output"))


def test_a_node_reads_its_own_pods_and_no_events(node: str, events: str) -> None:
    components = {component.name: component for component in parse(node)}
    [selector] = components["discovery.kubernetes.pods"].blocks
    assert selector.arguments["field"] == '"spec.nodeName="+sys.env("NODE_NAME")'
    assert not [name for name in components if "events" in name]
    assert {c.kind for c in parse(events)} == {"loki.source.kubernetes_events", "loki.process", "loki.write"}


def test_what_loki_would_refuse_as_too_old_is_not_sent(node: str, events: str) -> None:
    ages = [
        b.arguments["older_than"]
        for text in (node, events)
        for c in parse(text)
        for b in c.blocks
        if b.kind == "stage.drop"
    ]
    assert ages == ['"167h"', '"50m"']


def test_the_journal_of_each_unit_is_a_source_of_its_own(node: str) -> None:
    sources = [component.arguments for component in parse(node) if component.kind == "loki.source.journal"]
    units = [source["matches"] for source in sources]
    assert '"_SYSTEMD_UNIT=rke2-server.service"' in units and '"_SYSTEMD_UNIT=rke2-agent.service"' in units
    # Without a path the volatile journal is read as well.
    assert all("path" not in source for source in sources)


def test_labels_are_few(node: str) -> None:
    targets = {b.arguments["target_label"] for c in parse(node) for b in c.all() if "target_label" in b.arguments}
    assert {target.strip('"') for target in targets} <= {
        *("namespace", "pod", "container", "app", "node", "job", "unit", "__path__")
    }


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("E0102 10:00:00.000000 1 controller.go:1] failed", "E"),
        ('{"time":"2026-01-01","level":"WARN","msg":"slow"}', "WARN"),
        ("ts=1 level=error msg=x", "err"),
        ("severity: critical", "crit"),
        ("a line about sea level rising", ""),
    ],
)
def test_levels_are_found(node: str, line: str, level: str) -> None:
    stages = [
        block.arguments["expression"].strip("`")
        for c in parse(node)
        for block in c.blocks
        if block.kind == "stage.regex"
    ]
    found = [match["level"] for match in (re.search(stage, line) for stage in stages) if match]
    assert (found or [""])[-1] == level


def test_each_node_has_one_and_the_cluster_one_for_events(objects: dict[Any, Any]) -> None:
    pod = objects["DaemonSet", "alloy"]["spec"]["template"]["spec"]
    assert pod["tolerations"] == [{"operator": "Exists"}]
    [container] = pod["containers"]
    of_host = {volume["name"] for volume in pod["volumes"] if "hostPath" in volume}
    writable = {mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert of_host & writable == {"state"}
    deployment = objects["Deployment", "alloy-events"]["spec"]
    assert (deployment["replicas"], deployment["strategy"]["type"]) == (1, "Recreate")
    assert not [volume for volume in deployment["template"]["spec"]["volumes"] if "hostPath" in volume]


def test_rights_are_the_least(objects: dict[Any, Any], node: str) -> None:
    rights = {
        (name, resource, verb)
        for (kind, name), document in objects.items()
        if kind == "ClusterRole"
        for rule in document["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    logs = {("alloy", "pods/log", "get")} if "loki.source.kubernetes" in node else set()
    reads = ("get", "list", "watch")
    assert rights == logs | {
        (name, what, verb) for name, what in (("alloy", "pods"), ("alloy-events", "events")) for verb in reads
    }


def test_a_changed_configuration_restarts_the_pods(play: Play, tmp_path: Path, objects: dict[Any, Any]) -> None:
    other = {
        document["kind"]: document
        for _service, document in rendered(play, tmp_path, "harvester_rke2.platform.alloy", alloy_journal_units=[])
    }
    annotations = [
        o["spec"]["template"]["metadata"]["annotations"] for o in (other["DaemonSet"], objects["DaemonSet", "alloy"])
    ]
    assert annotations[0] != annotations[1]
