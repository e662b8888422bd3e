# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The real promtool judges the alerts of all roles, and their cases in tests/alerts. Needs no lab, only its program."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import parts
from tests.tools import alerts

PROMETHEUS = parts.find(parts.table()["prometheus"])

pytestmark = pytest.mark.skipif(PROMETHEUS is None, reason="the part prometheus is not built: make lab-up")

SOURCES = alerts.sources()
CASES = list(alerts.cases(SOURCES))
GROUPS = sorted({source.group for source in SOURCES})


def promtool(*arguments: str, folder: Path) -> str:
    assert PROMETHEUS is not None
    done = subprocess.run(
        [str(PROMETHEUS["promtool"]), *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_rules_are_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = []
    for source in SOURCES:
        files.append(f"rules-{source.role}-{source.group}.yml")
        (tmp_path / files[-1]).write_text(yaml.safe_dump({"groups": [source.rules()]}))
    said = promtool("check", "rules", *files, folder=tmp_path)
    found = sum(int(number) for number in re.findall(r"(\d+) rules found", said))
    names = {alert for source in SOURCES for alert in source.alerts}
    with capsys.disabled():
        print(f"\nalerts: {len(names)} in {len(GROUPS)} groups, {found} rules, {len(CASES)} cases")
    assert found == sum(len(source.rules()["rules"]) for source in SOURCES)


def judge(folder: Path, group: str, kept: tuple[str, ...], chosen: Callable[[alerts.Case], bool]) -> None:
    """Each alert with its own cases only: promtool evaluates all the rules that it has, a case's every minute."""
    tests: dict[str, list[dict[str, Any]]] = {}
    for number, (named, case) in enumerate(CASES):
        if named == group and chosen(case):
            annotations = {"description": case.says or ""} if kept else {}
            tests.setdefault(case.alert, []).append(case.promtool(f"{case.alert}, case {number}", annotations))
    rules: dict[str, list[dict[str, Any]]] = {}
    for source in SOURCES:
        for rule in source.rules()["rules"]:
            said = {name: text for name, text in rule["annotations"].items() if name in kept}
            rules.setdefault(rule["alert"], []).append({**rule, "annotations": said})
    for alert, wanted in tests.items():
        groups = [{"name": group, "rules": rules[alert]}]
        (folder / f"rules-{alert}.yml").write_text(yaml.safe_dump({"groups": groups}))
        content = {"rule_files": [f"rules-{alert}.yml"], "evaluation_interval": "1m", "tests": wanted}
        (folder / f"cases-{alert}.yml").write_text(yaml.safe_dump(content, sort_keys=False))
    promtool("test", "rules", *(f"cases-{alert}.yml" for alert in tests), folder=folder)


@pytest.mark.parametrize("group", GROUPS)
def test_what_must_fire_fires_and_nothing_else(group: str, tmp_path: Path) -> None:
    judge(tmp_path, group, (), lambda case: True)


@pytest.mark.parametrize("group", GROUPS)
def test_descriptions_are_rendered(group: str, tmp_path: Path) -> None:
    judge(tmp_path, group, ("description",), lambda case: case.says is not None)
