# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What a node needs before RKE2 is there, works, and stays over a restart; what has drifted is told, and mended."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCENARIO = Path(__file__).resolve().parents[1]
ROOT = SCENARIO.parents[2]
SECRET = "not-shown-anywhere"


@pytest.mark.behaviour
@pytest.mark.parametrize("authority", ["root", "mirror"])
def test_what_the_ca_has_signed_is_trusted(sut: Any, authority: str) -> None:
    signed = (SCENARIO / "files" / f"signed-by-{authority}.crt").read_text()
    done = sut.run(f"echo '{signed}' | openssl verify -CApath /etc/ssl/certs")
    assert done.returncode == 0 and "OK" in done.stdout


@pytest.mark.behaviour
@pytest.mark.parametrize("name", ["lxc_test", "cilium_test"])
def test_networkmanager_leaves_the_interfaces_of_the_cni_alone(sut: Any, name: str) -> None:
    sut.out(f"ip link add {name} type veth peer name other")
    try:
        # Long enough for NetworkManager to have taken it, as it does with `other`.
        sut.out("sleep 1")
        states = dict(line.split(":", 1) for line in sut.out("nmcli -t -f DEVICE,STATE device").splitlines())
    finally:
        sut.out(f"ip link delete {name}")
    if states["other"] == "unmanaged":
        raise RuntimeError(f"NetworkManager takes no interface at all: {states}")
    assert states[name] == "unmanaged"


@pytest.mark.behaviour
def test_the_kernel_has_the_settings(sut: Any) -> None:
    assert sut.out("sysctl -n net.ipv4.tcp_keepalive_time net.ipv4.ping_group_range").split() == ["611", "0", "1000"]


@pytest.mark.behaviour
def test_the_journal_is_kept(sut: Any) -> None:
    # As if the folder were not there, which is Red Hat's default: it is, a mount of Podman's that a restart empties.
    folder = "/etc/systemd/journald.conf.d"
    sut.out(f"mkdir -p {folder}; printf '[Journal]\\nStorage=volatile\\n' > {folder}/00-redhat.conf")
    sut.out("rm -rf /var/log/journal/*; systemctl restart systemd-journald.service; journalctl --flush")
    sut.out("logger to-be-kept; journalctl --sync")
    assert "to-be-kept" in sut.run("journalctl -D /var/log/journal -o cat").stdout


@pytest.mark.behaviour
@pytest.mark.parametrize("unit", ["swap.target", "nm-cloud-setup.timer", "nm-cloud-setup.service"])
def test_what_must_not_run_is_masked(sut: Any, unit: str) -> None:
    assert sut.run(f"systemctl is-enabled {unit}").stdout.strip() == "masked"


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("path", "mode", "text"),
    [
        ("/etc/rancher/rke2/registries.yaml", "600", SECRET),
        ("/etc/rancher/rke2/config.yaml.d/90-platform.yaml", "600", "tested=true"),
        ("/etc/default/rke2-server", "644", "HTTP_PROXY=http://proxy.example.com:3128"),
        ("/etc/default/rke2-agent", "644", "NO_PROXY=.example.com"),
        ("/etc/modules-load.d/90-rke2.conf", "644", "br_netfilter"),
    ],
)
def test_the_files_are_root_s_and_have_their_modes(sut: Any, path: str, mode: str, text: str) -> None:
    assert sut.run(f"stat -c '%U:%G %a' {path}; cat {path}").stdout.startswith(f"root:root {mode}\n")
    assert text in sut.out(f"cat {path}")


def test_dnf_is_told_nothing_on_debian(sut: Any) -> None:
    assert sut.run("test -e /etc/yum.repos.d").returncode == 1


def play(*options: str, code: int = 0) -> str:
    words = [str(Path(sys.executable).with_name("ansible-playbook")), *options, "-i"]
    words += [str(ROOT / "molecule/nodes/inventory.yml"), str(SCENARIO / "converge.yml")]
    settings = {
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible/collections"),
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_FORCE_COLOR": "0",
        "ANSIBLE_NOCOLOR": "1",
    }
    done = subprocess.run(words, env={**os.environ, **settings}, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    # Under Molecule failures are told on the other one.
    return done.stdout + done.stderr


def changed(output: str) -> set[str]:
    """Names of the tasks that say that they have changed, or would change, something."""
    parts = re.split(r"^TASK \[(?:.* : )?(.*)\] \**$", output, flags=re.MULTILINE)
    return {name for name, said in zip(parts[1::2], parts[2::2], strict=True) if "\nchanged: " in f"\n{said}"}


def test_drift_is_told_and_mended(sut: Any) -> None:
    file, setting, secret = (
        "/etc/modules-load.d/90-rke2.conf",
        "net.ipv4.tcp_keepalive_time",
        "/etc/rancher/rke2/registries.yaml",
    )
    before = sut.out(f"cat {file} {secret}")
    sut.out(f"echo drift > {file}; echo drift > {secret}; chmod 0666 /etc/default/rke2-agent")
    sut.out(f"sysctl -q -w {setting}=7200; systemctl unmask swap.target")
    state = (
        f"cat {file} {secret}; stat -c %a /etc/default/rke2-agent; sysctl {setting}; systemctl is-enabled swap.target"
    )
    drifted = sut.out(state)

    report = play("--check", "--diff")

    assert changed(report) == {
        "Write the files",
        "Write the files that hold secrets",
        "Mask the units that are never to run",
        "Have the units run",
        "Set those back that have drifted",
    }
    assert "-drift" in report and "+br_netfilter" in report and SECRET not in report
    assert f"(item={setting}=611)" in report
    assert sut.out(state) == drifted

    mended = play("--diff")

    assert SECRET not in mended
    assert sut.out(f"cat {file} {secret}") == before
    assert sut.out(f"stat -c %a /etc/default/rke2-agent; sysctl -n {setting}").split() == ["644", "611"]
    assert sut.run("systemctl is-enabled swap.target").stdout.strip() == "masked"
    assert changed(play("--check")) == set()


def test_a_clock_that_goes_its_own_way_and_selinux_that_does_not_enforce_are_refused(sut: Any) -> None:
    # The kernel's clock is the host's, whatever it does.
    clock, script = "/usr/local/bin/timedatectl", "printf '#!/bin/sh\\necho %s\\n'"
    wanted = ("--check", "-e", '{"rke2_node_time_synchronized": true, "rke2_node_selinux_enforcing": true}')
    try:
        sut.out(f"{script} no > {clock}; chmod 0755 {clock}")
        assert "it is not synchronized, and certificates and etcd depend on it" in " ".join(
            play(*wanted, code=2).split()
        )
        sut.out(f"{script} yes > {clock}")
        refused = " ".join(play(*wanted, code=2).split())
    finally:
        sut.out(f"rm {clock}")
    assert "Checking SELinux on rke2_node: it is disabled, and this role changes nothing about it" in refused


def test_it_is_still_so_after_a_restart(sut: Any) -> None:
    sut.restart()
    test_the_kernel_has_the_settings(sut)
    test_networkmanager_leaves_the_interfaces_of_the_cni_alone(sut, "lxc_test")
    test_what_must_not_run_is_masked(sut, "swap.target")
