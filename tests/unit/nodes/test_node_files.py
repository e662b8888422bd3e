# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The module node_files, run by the real ansible-playbook on a folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.harvester_rke2.platform.tests.unit.platform.conftest import Play

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the files of a node are root's")
# Name of the answer to what the module is asked and how.
TASKS: dict[str, dict[str, Any]] = {
    "would": {"of": {"files": "{{ files }}"}, "check_mode": True, "diff": True},
    "wrote": {"of": {"files": "{{ files }}"}},
    "again": {"of": {"files": "{{ files }}"}},
    "drift": {"of": {"files": "{{ opened }}"}, "check_mode": True},
    "opened": {"of": {"files": "{{ opened }}"}},
    "mended": {"of": {"files": "{{ files }}"}},
    "removed": {"of": {"absent": ["{{ folder }}/b"]}, "diff": True},
    "gone": {"of": {"absent": ["{{ folder }}/b"]}},
    "refused": {"of": {"files": [{"path": "{{ folder }}/new/a/x", "content": "x"}]}, "failed_when": False},
}


def playbook() -> str:
    """Each task, and all answers in one file."""
    module = "harvester_rke2.platform.node_files"
    tasks = [
        {module: task["of"], "register": name, **{key: value for key, value in task.items() if key != "of"}}
        for name, task in TASKS.items()
    ]
    answers = "{{ dict(" + ", ".join(f"{name}={name}" for name in TASKS) + ") | to_json }}"
    tasks.append({"ansible.builtin.copy": {"content": answers, "dest": "answers.json", "mode": "0600"}})
    files = [
        {"path": "{{ folder }}/new/a", "content": "one\n"},
        {"path": "{{ folder }}/b", "content": "two", "mode": "0600"},
    ]
    opened = [{"path": "{{ folder }}/b", "content": "two", "mode": "0666"}]
    return yaml.safe_dump(
        [{"hosts": "all", "gather_facts": False, "vars": {"files": files, "opened": opened}, "tasks": tasks}]
    )


@pytest.fixture(scope="module")
def answers(play: Play, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("files")
    done = play(folder, playbook(), {"node": {"folder": str(folder / "root")}})
    assert (folder / "answers.json").exists(), done.stdout
    return {**json.loads((folder / "answers.json").read_text()), "root": folder / "root"}


def test_check_mode_says_what_it_would_write_where_no_folder_is(answers: dict[str, Any]) -> None:
    assert answers["would"]["changed"] and answers["wrote"]["paths"] == answers["would"]["paths"]
    assert [diff["after"] for diff in answers["would"]["diff"]] == ["one\n", "two"]


def test_files_are_written_whole_with_their_mode_and_only_once(answers: dict[str, Any]) -> None:
    root: Path = answers["root"]
    assert (root / "new" / "a").read_bytes() == b"one\n"
    assert answers["wrote"]["paths"] == [str(root / "new" / "a"), str(root / "b")]
    assert answers["again"]["changed"] is False and answers["again"]["paths"] == []


def test_a_mode_that_has_drifted_is_set_back(answers: dict[str, Any]) -> None:
    assert answers["drift"]["paths"] == answers["mended"]["paths"] == [str(answers["root"] / "b")]


def test_what_is_not_wanted_is_removed_once(answers: dict[str, Any]) -> None:
    assert answers["removed"]["changed"] and answers["removed"]["diff"][0]["before"] == "two"
    assert not (answers["root"] / "b").exists() and answers["gone"]["changed"] is False


def test_a_path_that_cannot_be_is_one_sentence(answers: dict[str, Any]) -> None:
    assert "/new/a/x: Not a directory." in answers["refused"]["msg"]
