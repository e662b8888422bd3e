# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What a role puts on a node: its description, and the script by which a new node does the same as the SSH way."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.harvester_rke2.platform.plugins.module_utils import _node_part
from ansible_collections.harvester_rke2.platform.plugins.module_utils._errors import PlatformError

RAW: dict[str, Any] = {
    "packages": ["nftables"],
    "files": [
        {"path": "/etc/sysctl.d/90-a.conf", "template": "a.j2"},
        {"path": "/etc/systemd/system/a.service", "template": "b.j2", "when": True},
        {"path": "/etc/old", "template": "c.j2", "when": False},
    ],
    "commands": [{"argv": ["update-ca-trust"], "early": True}, {"argv": ["echo", "it's"]}],
    "units": [{"name": "a.service"}, {"name": "swap.target", "masked": True}, {"name": "b.service", "when": False}],
    "environment": {"https_proxy": "http://proxy:3128", "no_proxy": ""},
}
CONTENTS = {
    "/etc/sysctl.d/90-a.conf": "# why\nnet.a.b = 1\n-net.c=2  3\n",
    "/etc/systemd/system/a.service": "[Unit]\n",
}


def part(**more: Any) -> dict[str, Any]:
    return _node_part.complete(_node_part.validate({**RAW, **more}, "meta/node.yml"), CONTENTS)


def test_what_is_not_wanted_is_absent_and_settings_are_told_to_the_kernel() -> None:
    found = part()
    assert [file["path"] for file in found["files"]] == list(CONTENTS)
    assert found["absent"] == ["/etc/old"]
    assert found["sysctl"] == {"net.a.b": "1", "net.c": "2 3"}
    assert found["early"] == [["update-ca-trust"]]
    assert found["commands"] == [["sysctl", "-q", "-p", "/etc/sysctl.d/90-a.conf"], ["echo", "it's"]]
    assert [unit["name"] for unit in found["units"]] == ["a.service", "swap.target"]
    assert found["environment"] == {"https_proxy": "http://proxy:3128"}


def test_one_path_may_have_two_templates_of_which_one_is_wanted() -> None:
    files = [
        {"path": "/etc/a", "template": "a.j2", "when": False},
        {"path": "/etc/a", "template": "b.j2", "when": True},
    ]
    found = _node_part.complete(_node_part.validate({"files": files}, "x"), {"/etc/a": "b"})
    assert [file["content"] for file in found["files"]] == ["b"] and found["absent"] == []


@pytest.mark.parametrize(
    "changed",
    [{"commands": []}, {"units": []}, {"files": RAW["files"][:1]}, {"files": [{**RAW["files"][0], "mode": "0600"}]}],
)
def test_the_mark_changes_with_what_must_be_put_to_work_again(changed: dict[str, Any]) -> None:
    assert part(**changed)["digest"] != part()["digest"]
    assert part(packages=["more"])["digest"] == part()["digest"]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (["a"], "no mapping"),
        ({"file": []}, "file"),
        ({"files": [{"path": "/a"}]}, "template"),
        ({"units": [{"name": "a", "state": "off"}]}, "state"),
    ],
)
def test_what_is_no_description_is_refused(raw: Any, said: str) -> None:
    with pytest.raises(PlatformError, match=rf"Reading roles/a/meta/node\.yml: .*{said}"):
        _node_part.validate(raw, "roles/a/meta/node.yml")


def test_no_secret_gets_into_user_data() -> None:
    files = [{"path": "/etc/rancher/rke2/registries.yaml", "template": "a.j2", "secret": True}]
    found = _node_part.complete(_node_part.validate({"files": files}, "x"), {})
    assert "content" not in found["secret_files"][0]
    with pytest.raises(PlatformError, match=r"registries\.yaml of rke2_node into user data: it holds a secret"):
        _node_part.cloud_config({"rke2_node": found}, ["dnf"])


def test_cloud_init_writes_the_same_files_and_runs_one_script_before_all_else() -> None:
    found = _node_part.cloud_config({"a": part()}, ["dnf", "-y", "install"])
    written = {file["path"]: file for file in found["write_files"]}
    assert [written[path]["content"] for path in CONTENTS] == list(CONTENTS.values())
    assert all(isinstance(file["permissions"], str) for file in written.values())
    assert found["runcmd"] == [["sh", _node_part.SETUP]]


def run(tmp_path: Path, found: dict[str, Any], failing: str = "") -> tuple[int, list[str]]:
    """The script with programs that only write down how they were called."""
    programs, log = tmp_path / "bin", tmp_path / "log"
    programs.mkdir(exist_ok=True)
    log.write_text("")
    for name in ("sysctl", "systemctl", "dnf", "update-ca-trust", "echo", "logger", "sleep"):
        ends = 1 if name == failing else 0
        program = programs / name
        program.write_text(f'#!/bin/sh\nprintf "%s %s\\n" "{name}" "$*" >> {log}\nexit {ends}\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    text = _node_part.script({"a": found}, ["dnf", "install"]).replace(_node_part.MARKS, str(tmp_path))
    done = subprocess.run(["sh", "-c", text], env={"PATH": f"{programs}:/usr/bin:/bin"}, check=False, timeout=30)
    return done.returncode, log.read_text().splitlines()


def test_the_script_does_it_in_order_and_leaves_the_mark(tmp_path: Path) -> None:
    code, said = run(tmp_path, part(commands=[{"argv": ["update-ca-trust"], "early": True}]))
    assert code == 0
    assert said == [
        "update-ca-trust ",
        "dnf install nftables",
        "sysctl -q -p /etc/sysctl.d/90-a.conf",
        "systemctl daemon-reload",
        "systemctl enable --now a.service",
        "systemctl mask --now swap.target",
    ]
    assert (tmp_path / "a").read_text() == part(commands=[{"argv": ["update-ca-trust"], "early": True}])["digest"]


def test_behind_a_failed_line_nothing_is_run_and_no_mark_is_left(tmp_path: Path) -> None:
    code, said = run(tmp_path, part(), failing="sysctl")
    assert code != 0
    assert said[-1].startswith("logger") and "not configured" in said[-1]
    assert not any("systemctl" in line for line in said)
    assert not (tmp_path / "a").exists()


def test_packages_are_asked_for_again(tmp_path: Path) -> None:
    code, said = run(tmp_path, part(), failing="dnf")
    assert code != 0 and len([line for line in said if line.startswith("dnf")]) == 5
