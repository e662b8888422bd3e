# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""The callback `report`, in real runs of ansible-playbook and by its counting rule."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import typing
from xml.etree import ElementTree

import pytest
from ansible_collections.harvester_rke2.platform.plugins.callback.report import module_executions
from ansible_collections.harvester_rke2.platform.plugins.module_utils import _run_report

COLLECTIONS = pathlib.Path(__file__).resolve().parents[3] / ".ansible/collections"
ANSIBLE_PLAYBOOK = os.path.join(os.path.dirname(sys.executable), "ansible-playbook")
INTERPRETER = f"ansible_python_interpreter={sys.executable}"
CANARY = "canary-5f1c1f0e"
PLAYBOOK = f"""
- name: One
  hosts: all
  gather_facts: false
  tags: [phase3, vault]
  vars: {{secret: {CANARY}}}
  tasks:
    - name: Remember
      ansible.builtin.set_fact: {{word: "{{{{ secret }}}}"}}
    - name: Say it on the target
      ansible.builtin.command: "printf {{{{ secret }}}}"
    - name: Twice, and once not
      ansible.builtin.command: "true {{{{ item }}}}"
      loop: [1, 2, 3]
      when: item < 3
      changed_when: false
    - name: Not at all
      ansible.builtin.command: "false"
      when: false
    - name: Fail and go on
      ansible.builtin.command: "cat /nonexistent/{{{{ secret }}}}"
      ignore_errors: true
    - name: Try three times
      ansible.builtin.command: "false"
      register: tried
      until: tried is success
      retries: 2
      delay: 0
      when: inventory_hostname == "a"
"""


@pytest.fixture
def run(tmp_path: pathlib.Path) -> typing.Callable[..., subprocess.CompletedProcess[str]]:
    (tmp_path / "playbook.yml").write_text(PLAYBOOK)

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [ANSIBLE_PLAYBOOK, "playbook.yml", "-i", "a,b", "-c", "local", "-e", INTERPRETER, *arguments],
            cwd=tmp_path,
            env={
                **os.environ,
                "ANSIBLE_CALLBACKS_ENABLED": "harvester_rke2.platform.report",
                "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
                "ANSIBLE_HOME": str(tmp_path / "home"),
                "ANSIBLE_NOCOLOR": "1",
                **environment,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def test_counts_names_and_durations(run: typing.Callable[..., typing.Any], tmp_path: pathlib.Path) -> None:
    done = run()
    assert done.returncode == 2, done.stderr
    report = json.loads((tmp_path / ".run/report.json").read_text())
    # a: 1 + 2 items + 1 + 3 attempts; b: the same without the attempts; set_fact is none
    assert report["totals"] == {
        "tasks": 9,
        "module_executions": 11,
        "ok": 6,
        "changed": 2,
        "failed": 1,
        "unreachable": 0,
        "ignored": 2,
        "skipped": 3,
    }
    assert report["hosts"]["a"]["module_executions"] == 7
    assert report["phases"] == {"phase3": {**report["totals"], "seconds": report["phases"]["phase3"]["seconds"]}}
    assert report["playbook"] == "playbook.yml"
    assert report["check_mode"] is False
    first = report["tasks"][0]
    assert (first["play"], first["task"], first["action"]) == ("One", "Remember", "ansible.builtin.set_fact")
    assert all(task["seconds"] >= 0 for task in report["tasks"])
    assert (
        done.stdout.rstrip().splitlines()[-1].startswith("tasks 9, module executions 11, changed 2, failed 1, seconds ")
    )


def test_no_result_content_is_written(run: typing.Callable[..., typing.Any], tmp_path: pathlib.Path) -> None:
    assert CANARY in run("-vvv").stdout  # the negative control: the run did handle it
    for name in ("report.json", "junit.xml"):
        assert CANARY not in (tmp_path / ".run" / name).read_text()


def test_junit_tells_failed_and_skipped_apart(run: typing.Callable[..., typing.Any], tmp_path: pathlib.Path) -> None:
    run("--check", HARVESTER_RKE2_REPORT_DIRECTORY="elsewhere")
    assert json.loads((tmp_path / "elsewhere/report.json").read_text())["check_mode"] is True
    run(HARVESTER_RKE2_REPORT_DIRECTORY="elsewhere")
    suite = ElementTree.parse(tmp_path / "elsewhere/junit.xml").getroot().find("testsuite")
    assert suite is not None
    assert suite.attrib | {"time": ""} == {
        "name": "One",
        "tests": "12",
        "failures": "1",
        "errors": "0",
        "skipped": "3",
        "time": "",
    }
    failed = [case.attrib["name"] for case in suite if case.find("failure") is not None]
    assert failed == ["[a] Try three times"]


def test_a_folder_that_cannot_be_written_is_only_warned_about(
    run: typing.Callable[..., typing.Any], tmp_path: pathlib.Path
) -> None:
    (tmp_path / "file").write_text("")
    done = run("-t", "none", HARVESTER_RKE2_REPORT_DIRECTORY="file/below")
    assert done.returncode == 0
    assert "Name another folder in HARVESTER_RKE2_REPORT_DIRECTORY" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("action", "result", "executions"),
    [
        ("ansible.builtin.command", {}, 1),
        ("ansible.builtin.set_fact", {}, 0),
        ("debug", {}, 0),
        ("harvester_rke2.platform.bundle", {}, 1),
        ("harvester_rke2.platform.charts", {"module_executions": 0}, 0),
        ("harvester_rke2.platform.ready", {"module_executions": 4}, 4),
        ("somebody.else.debug", {}, 1),
    ],
)
def test_what_counts_as_a_module_execution(action: str, result: dict[str, typing.Any], executions: int) -> None:
    assert module_executions(action, result) == executions


def test_names_that_xml_cannot_hold_are_made_holdable() -> None:
    entry = _run_report.Entry("play", "role", "a\x00b\x1b <&>", "x", "", "host", "ok", 1, 0.0, 0.0)
    report = _run_report.report([entry], seconds=1.0, playbook="site.yml")
    root = ElementTree.fromstring(_run_report.junit(report))
    assert [case.attrib["name"] for case in root.iter("testcase")] == ["[host] a?b? <&>"]


def test_a_failed_write_leaves_the_old_report(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = _run_report.report([], seconds=1.0, playbook="site.yml")
    _run_report.write(tmp_path, report)

    def refuse(*_unused: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="No space"):
        _run_report.write(tmp_path, {**report, "seconds": 2.0})
    assert json.loads((tmp_path / "report.json").read_text())["seconds"] == 1.0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["junit.xml", "report.json"]
