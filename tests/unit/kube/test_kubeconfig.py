# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What of a kubeconfig is used, and what is refused."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.harvester_rke2.platform.plugins.module_utils._errors import NoConnection, PlatformError
from ansible_collections.harvester_rke2.platform.plugins.module_utils._kubeconfig import load

CANARY = "token-canary-77aa"


def write(path: Path, user: dict[str, Any], **cluster: Any) -> str:
    cluster = {"server": "https://cluster.example.com:6443/k8s/clusters/c-m-1", **cluster}
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": "main",
                "clusters": [{"name": "c", "cluster": cluster}],
                "users": [{"name": "u", "user": user}],
                "contexts": [{"name": "main", "context": {"cluster": "c", "user": "u"}}],
            }
        )
    )
    return str(path)


def test_a_token_is_used_and_never_shown(tmp_path: Path) -> None:
    config = load(write(tmp_path / "k", {"token": CANARY}))
    assert config.bearer() == CANARY
    assert CANARY not in repr(config)


def test_a_token_file_is_read_anew_each_time(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("one\n")
    config = load(write(tmp_path / "k", {"tokenFile": "token"}))
    assert config.bearer() == "one"
    token.write_text("two\n")
    assert config.bearer() == "two"


@pytest.mark.parametrize(
    ("user", "cluster", "word"),
    [
        ({"exec": {"command": "aws"}}, {}, "exec plugin"),
        ({"auth-provider": {"name": "gcp"}}, {}, "auth-provider"),
        ({"username": "a", "password": CANARY}, {}, "basic authentication"),
        ({"token": CANARY}, {"insecure-skip-tls-verify": True}, "insecure-skip-tls-verify"),
        ({"token": CANARY}, {"proxy-url": "http://proxy"}, "proxy-url"),
        ({"token": CANARY}, {"server": "http://cluster.example.com"}, "not reached by TLS"),
        ({"token": CANARY}, {"server": "cluster.example.com"}, "not an https:// address"),
        ({"token": CANARY}, {"certificate-authority-data": "%%%"}, "not base64"),
        ({"client-certificate": "/nowhere.crt"}, {}, "/nowhere.crt"),
    ],
)
def test_what_is_not_safe_or_not_unattended_is_refused_by_name(
    tmp_path: Path, user: dict[str, Any], cluster: dict[str, Any], word: str
) -> None:
    with pytest.raises(PlatformError, match=word) as caught:
        load(write(tmp_path / "k", user, **cluster))
    assert CANARY not in str(caught.value)


def test_a_missing_file_is_no_connection_yet(tmp_path: Path) -> None:
    with pytest.raises(NoConnection, match="does not exist"):
        load(str(tmp_path / "none"))


def test_broken_yaml_names_the_line_and_not_its_content(tmp_path: Path) -> None:
    (tmp_path / "k").write_text(f"users:\n  - token: '{CANARY}\n  x: [\n")
    with pytest.raises(PlatformError, match="not YAML") as caught:
        load(str(tmp_path / "k"))
    assert CANARY not in str(caught.value)


def test_a_wrong_context_names_those_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match=r"no context 'other'.*main"):
        load(write(tmp_path / "k", {"token": "x"}), "other")


def test_several_files_merge_as_kubectl_merges_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = write(tmp_path / "1", {"token": "first"}), write(tmp_path / "2", {"token": "second"})
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join((first, second, str(tmp_path / "missing"))))
    monkeypatch.delenv("K8S_AUTH_KUBECONFIG", raising=False)
    assert load().bearer() == "first"


def test_a_broken_client_key_is_refused_without_its_content(tmp_path: Path) -> None:
    pem = base64.b64encode(f"-----BEGIN {CANARY}".encode()).decode()
    config = load(write(tmp_path / "k", {"client-certificate-data": pem, "client-key-data": pem}))
    before = set(tmp_path.iterdir())
    with pytest.raises(PlatformError, match="not a pair") as caught:
        config.ssl_context()
    assert CANARY not in str(caught.value)
    assert set(tmp_path.iterdir()) == before
