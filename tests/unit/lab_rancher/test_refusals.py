# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What the webhook, cloud-init and the kubelet do not take; tokens and faults."""

from __future__ import annotations

import base64
import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from lab.rancher import guests, server, tokens
from lab.rancher.admission import Refusal, judge
from lab.rancher.faults import Faults
from lab.rancher.lifecycle import seconds
from lab.rancher.settings import Times, times_from_environment
from lab.rancher.userdata import small_check
from lab.rancher.webhook import review
from lab.settings import LabError


def request(name: str = "platform", operation: str = "CREATE", old: Any = None, **config: Any) -> dict[str, Any]:
    item = {"metadata": {"name": name, "namespace": "fleet-default"}, "spec": {"rkeConfig": config}}
    return {"uid": "1", "operation": operation, "kind": {"kind": "Cluster"}, "object": item, "oldObject": old}


def test_a_good_cluster_is_allowed() -> None:
    judge(request(machinePools=[{"name": "general"}], dataDirectories={"k8sDistro": "/data/rke2"}))


@pytest.mark.parametrize("name", ["local", "c-abcde", "Upper", "-a", "x" * 64, "a"])
def test_names(name: str) -> None:
    with pytest.raises(Refusal, match="cluster name"):
        judge(request(name))


@pytest.mark.parametrize(
    ("directories", "words"),
    [
        ({"k8sDistro": "data"}, "absolute"),
        ({"k8sDistro": "/data/$(id)"}, "absolute"),
        ({"k8sDistro": "/data", "provisioning": "/data"}, "equals or holds"),
        ({"k8sDistro": "/data", "provisioning": "/data/sub"}, "equals or holds"),
    ],
)
def test_data_directories(directories: dict[str, str], words: str) -> None:
    with pytest.raises(Refusal, match=words):
        judge(request(dataDirectories=directories))


def test_what_may_not_change() -> None:
    before = request(dataDirectories={"k8sDistro": "/a"})["object"]
    judge(request(operation="UPDATE", old=before, dataDirectories={"k8sDistro": "/a"}))
    with pytest.raises(Refusal, match="cannot be changed"):
        judge(request(operation="UPDATE", old=before, dataDirectories={"k8sDistro": "/b"}))
    changed = request(operation="UPDATE", old=before, dataDirectories={"k8sDistro": "/a"})
    changed["object"]["metadata"]["annotations"] = {"field.cattle.io/creatorId": "me"}
    with pytest.raises(Refusal, match="creatorId"):
        judge(changed)
    leaving = request(operation="UPDATE", old=before)
    leaving["object"]["metadata"]["deletionTimestamp"] = "now"
    judge(leaving)


def test_a_pools_name() -> None:
    with pytest.raises(Refusal, match="pool name"):
        judge(request(machinePools=[{"name": "x" * 64}]))


def test_a_review_is_answered() -> None:
    answer = review(json.dumps({"request": request("local")}).encode())["response"]
    assert answer["uid"] == "1" and not answer["allowed"] and answer["status"]["code"] == 422
    assert review(json.dumps({"request": request()}).encode())["response"]["allowed"]


@pytest.mark.parametrize(
    "text",
    [
        "#cloud-config\n",
        "#cloud-config\npackages: [a, [b, '1']]\nruncmd: [ls, [ls, -l]]\nssh_authorized_keys: [k]\n",
        "#cloud-config\nwrite_files: [{path: /a, content: b, permissions: '0644', encoding: b64, defer: true}]\n",
        "#cloud-config\nca_certs: {trusted: [x]}\nusers: [default, {name: a}]\n",
    ],
)
def test_user_data_that_cloud_init_takes(text: str) -> None:
    assert small_check(text) == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("packages: [a]\n", "header"),
        ("#cloud-config\na: [", "YAML"),
        ("#cloud-config\n- a\n", "mapping"),
        ("#cloud-config\nrunncmd: [ls]\n", "runncmd"),
        ("#cloud-config\nruncmd: ls\n", "runcmd"),
        ("#cloud-config\nruncmd: [{a: b}]\n", "runcmd.0"),
        ("#cloud-config\nwrite_files: [{content: b}]\n", "path"),
        ("#cloud-config\nwrite_files: [{path: /a, permissions: 420}]\n", "permissions"),
        ("#cloud-config\nwrite_files: [{path: /a, mode: '0644'}]\n", "mode"),
        ("#cloud-config\nwrite_files: [{path: /a, encoding: base32}]\n", "encoding"),
        ("#cloud-config\nusers: [{shell: /bin/sh}]\n", "name"),
        ("#cloud-config\npackage_update: sometimes\n", "package_update"),
    ],
)
def test_user_data_that_cloud_init_refuses(text: str, words: str) -> None:
    assert words in small_check(text)


def test_labels_that_a_kubelet_may_not_set() -> None:
    assert guests.refused_label({"workload-type": "a", "node.kubernetes.io/x": "b"}) == ""
    assert guests.refused_label({"node-role.kubernetes.io/worker": "true"}) == "node-role.kubernetes.io/worker"


def test_configuration_goes_by_labels() -> None:
    selector = {"matchLabels": {guests.POOL: "general"}}
    config = {
        "machineGlobalConfig": {"cni": "cilium", "node-label": ["a=1"]},
        "machineSelectorConfig": [
            {"machineLabelSelector": selector, "config": {"node-label": ["workload-type=general"]}},
            {"config": {"cloud-provider-name": "harvester"}},
        ],
    }
    general = guests.agent_config(config, {guests.POOL: "general"})
    assert guests.node_labels(general) == {"a": "1", "workload-type": "general"}
    assert general["cloud-provider-name"] == "harvester"
    assert guests.node_labels(guests.agent_config(config, {guests.POOL: "database"})) == {"a": "1"}
    assert guests.node_taints({"node-taint": ["a=b:NoSchedule"]}) == [
        {"key": "a", "value": "b", "effect": "NoSchedule"}
    ]


def test_tokens() -> None:
    token, secret = tokens.make("token-a", datetime.timedelta(days=1), "")
    assert secret not in json.dumps(token)
    assert tokens.accepts(token, f"token-a:{secret}") and not tokens.accepts(token, "token-a:other")
    later = tokens.now() + datetime.timedelta(days=2)
    assert not tokens.accepts(token, f"token-a:{secret}", later)
    assert tokens.shown(token, "https://r", later)["expired"] and "token" not in tokens.shown(token, "https://r")
    endless, _ = tokens.make("token-b", datetime.timedelta(0), "")
    assert not tokens.expired(endless, later)
    assert tokens.bearer("Bearer a:b") == "a:b" == tokens.bearer(f"Basic {base64.b64encode(b'a:b').decode()}")
    assert tokens.bearer("Nothing") == ""


def test_faults_are_read_again_and_used_up(tmp_path: Path) -> None:
    file = tmp_path / "faults.json"
    faults = Faults(file)
    assert not faults.on("rancher_500") and not faults.take("conflict_500")
    file.write_text(
        '{"conflict_500": 2, "vm_never_reports": "general", "rancher_500": 30, "image_import_fails": "bad"}'
    )
    assert [faults.take("conflict_500") for _ in range(3)] == [True, True, False]
    assert faults.matches("vm_never_reports", "general") and not faults.matches("vm_never_reports", "database")
    assert faults.matches("image_import_fails", "https://x/bad.img", part=True)
    assert 0 < faults.lasts("rancher_500") <= 30
    file.unlink()
    assert not faults.on("rancher_500")


def test_times() -> None:
    assert json.loads(times_from_environment({"LAB_RANCHER_TIMES": '{"boot": 3}'}))["boot"] == 3
    assert json.loads(times_from_environment({})) == vars(Times())
    with pytest.raises(LabError, match="bot"):
        times_from_environment({"LAB_RANCHER_TIMES": '{"bot": 3}'})
    assert seconds("1h2m3s") == 3723 and seconds("0s") == 0


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("rancher.lab.example.com", "https://rancher.lab.example.com"),
        ("127.0.0.1:31000", "https://127.0.0.1:31000"),
        ("evil.example.com", "https://rancher.lab.example.com"),
    ],
)
def test_a_kubeconfig_names_the_way_by_which_it_was_asked_for(host: str, expected: str) -> None:
    assert server.base(host) == expected
