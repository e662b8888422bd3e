# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""One source, two ways in: what cloud-init makes of a fresh node is, byte for byte, what Ansible makes over SSH."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).parents[1]
MARKS = "/var/lib/rke2-node"
SEED = "/var/lib/cloud/seed/nocloud"
# What the cloud would say, and what a container does not let cloud-init do.
CLOUD = """datasource_list: [NoCloud]
network: {config: disabled}
locale: C.UTF-8
ssh_genkeytypes: []
warnings: {dsid_missing_source: off}
"""


def playbook(name: str, *more: str) -> str:
    words = [
        Path(sys.executable).with_name("ansible-playbook"),
        "-i",
        HERE.parent / "inventory.yml",
        HERE / name,
        *more,
    ]
    done = subprocess.run(words, cwd=HERE.parents[2], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    return done.stdout


@pytest.fixture(scope="module")
def user_data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("user-data")
    for name in ("one", "other"):
        playbook("render.yml", "-e", f"destination={folder / name}")
    # A changed byte would replace every node of the pool.
    assert (folder / "one").read_bytes() == (folder / "other").read_bytes()
    return (folder / "one").read_text()


def listing(node: Any, user_data: str) -> str:
    """Mode, owner and checksum of every file that the user data writes but its own script, and the marks."""
    paths = [file["path"] for file in yaml.safe_load(user_data)["write_files"]]
    told = " ".join(path for path in paths if path != f"{MARKS}/setup")
    found = node.run(
        f"for f in {told} $(ls {MARKS}/* | grep -v /setup); do stat -c '%n %a %U:%G' $f; sha256sum < $f; done"
    )
    return str(found.stdout + found.stderr)


@pytest.fixture(scope="module")
def by_ssh(sut: Any, user_data: str) -> str:
    return listing(sut, user_data)


@pytest.mark.behaviour
def test_over_ssh_every_file_is_there(by_ssh: str, user_data: str) -> None:
    assert "No such file" not in by_ssh
    assert by_ssh.count(f"{MARKS}/") >= 2


@pytest.fixture(scope="module")
def fresh(by_ssh: str, sut: Any, user_data: str) -> Any:
    """The node anew, which cloud-init then configures as at a first boot."""
    variables = subprocess.run(
        [
            Path(sys.executable).with_name("ansible-inventory"),
            "-i",
            HERE.parent / "inventory.yml",
            "--host",
            "user_data",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    of = json.loads(variables.stdout)
    subprocess.run([HERE.parent / "containers", "up", "user_data", of["nodes_suite"], of["nodes_services"]], check=True)
    for path, text in {
        "/etc/cloud/cloud.cfg.d/99-test.cfg": CLOUD,
        f"{SEED}/user-data": user_data,
        f"{SEED}/meta-data": "instance-id: fresh\n",
    }.items():
        words = ["podman", "exec", "-i", sut.name, "sh", "-c", f"mkdir -p $(dirname {path}); cat > {path}"]
        subprocess.run(words, input=text, text=True, check=True)
    schema = sut.run(f"cloud-init schema --config-file {SEED}/user-data")
    assert schema.returncode == 0, schema.stdout + schema.stderr
    sut.restart()
    status = sut.run("cloud-init status --wait --long", timeout=120)
    assert "status: done" in status.stdout, status.stdout + sut.run("journalctl -b --no-pager | tail -50").stdout
    return sut


def test_cloud_init_takes_it_without_an_error(fresh: Any) -> None:
    assert json.loads(fresh.out("cat /run/cloud-init/result.json"))["v1"]["errors"] == []


def test_it_begins_as_rancher_wants_it(user_data: str) -> None:
    assert user_data.startswith("#cloud-config\n")
    assert isinstance(yaml.safe_load(user_data)["runcmd"], list)


def test_by_cloud_init_the_files_are_the_same(fresh: Any, by_ssh: str, user_data: str) -> None:
    assert listing(fresh, user_data) == by_ssh


def test_ansible_has_nothing_left_to_do_on_it(fresh: Any) -> None:
    said = playbook("converge.yml")
    assert " changed=0 " in said, said[-3000:]


def test_a_second_boot_changes_nothing(fresh: Any, by_ssh: str, user_data: str) -> None:
    when = fresh.out(f"stat -c %y {MARKS}/*")
    fresh.restart()
    fresh.run("cloud-init status --wait", timeout=120)
    assert listing(fresh, user_data) == by_ssh
    assert fresh.out(f"stat -c %y {MARKS}/*") == when
    said = playbook("converge.yml")
    assert " changed=0 " in said, said[-3000:]
