# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""A kubeconfig is kept while it works; a token is made only when there is none that does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.harvester_rke2.platform.plugins.module_utils import _kubeconfig
from ansible_collections.harvester_rke2.platform.plugins.module_utils import _rancher_kubeconfig as files
from ansible_collections.harvester_rke2.platform.plugins.module_utils._errors import PlatformError, Unreachable
from ansible_collections.harvester_rke2.platform.plugins.modules import rancher_kubeconfig as module
from ansible_collections.harvester_rke2.platform.tests.unit.rancher.fake import TOKEN, Rancher


def options(rancher: Rancher, path: Path, token: str = TOKEN) -> dict[str, Any]:
    connection = {"rancher_url": rancher.url, "rancher_token": token, "rancher_ca_certificate": ""}
    return {**connection, "name": "production", "path": str(path), "state": "present"}


@pytest.fixture
def path(rancher: Rancher, tmp_path: Path) -> Path:
    rancher.clusters["production"] = "c-m-prod"
    return tmp_path / "folder" / "production.yaml"


def test_it_is_fetched_once(rancher: Rancher, path: Path) -> None:
    first = module.execute(options(rancher, path), check=False)
    assert (first["changed"], first["why"]) == (True, "there is none")
    assert _kubeconfig.load(str(path)).server == f"{rancher.url}/k8s/clusters/c-m-prod"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == [path.name]
    second = module.execute(options(rancher, path), check=False)
    assert not second["changed"] and rancher.minted == 1


def test_check_mode_makes_no_token(rancher: Rancher, path: Path) -> None:
    result = module.execute(options(rancher, path), check=True)
    assert result["changed"] and not path.exists() and rancher.minted == 0


def test_an_expired_one_is_replaced(rancher: Rancher, path: Path) -> None:
    module.execute(options(rancher, path), check=False)
    rancher.tokens = {TOKEN}
    result = module.execute(options(rancher, path), check=False)
    assert result["why"] == "its token is not taken any more" and rancher.minted == 2


def test_one_of_an_earlier_cluster_is_replaced(rancher: Rancher, path: Path) -> None:
    module.execute(options(rancher, path), check=False)
    rancher.clusters["production"] = "c-m-next"
    result = module.execute(options(rancher, path), check=False)
    assert result["why"].startswith("it leads to ") and result["server"].endswith("/c-m-next")


def test_a_readable_one_is_closed(rancher: Rancher, path: Path) -> None:
    module.execute(options(rancher, path), check=False)
    path.chmod(0o644)
    result = module.execute(options(rancher, path), check=False)
    assert result["changed"] and path.stat().st_mode & 0o777 == 0o600 and rancher.minted == 1


def test_no_answer_makes_no_token(rancher: Rancher, path: Path) -> None:
    module.execute(options(rancher, path), check=False)
    rancher.close()
    with pytest.raises(Unreachable):
        module.execute(options(rancher, path), check=False)
    assert rancher.minted == 1


def test_a_lost_answer_leaves_one_token(rancher: Rancher, path: Path) -> None:
    rancher.lost = 2
    module.execute(options(rancher, path), check=False)
    assert rancher.minted == 3 and list(rancher.made) == [files.token_name(str(path))]
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("moment", ["announced", "made", "written"])
def test_killed_the_next_run_leaves_one_token(
    rancher: Rancher, path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kill(*_arguments: object) -> None:
        raise Killed

    target = {"announced": module, "made": files, "written": files}[moment]
    name = {"announced": "_token", "made": "document", "written": "done"}[moment]
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(files, "done", lambda path: None)  # the one before there was anything to finish
        patched.setattr(target, name, kill)
        if moment == "written":
            patched.setattr(module, "_finish", lambda rancher, path: None)
        module.execute(options(rancher, path), check=False)
    assert len(rancher.made) == (moment != "announced")
    result = module.execute(options(rancher, path), check=False)
    assert result["changed"] == (moment != "written")
    assert list(rancher.made) == [files.token_name(str(path))] and os.listdir(path.parent) == [path.name]


def test_a_file_that_cannot_be_written_leaves_no_token(rancher: Rancher, path: Path) -> None:
    path.parent.write_text("a file where a folder should be")
    with pytest.raises(PlatformError, match=r"Writing the kubeconfig .*platform_kubeconfig"):
        module.execute(options(rancher, path), check=False)
    assert rancher.minted == 0


def test_the_token_of_a_file_that_is_replaced_goes(rancher: Rancher, path: Path) -> None:
    module.execute(options(rancher, path), check=False)
    rancher.clusters["production"] = "c-m-next"
    module.execute(options(rancher, path), check=False)
    assert rancher.minted == 2 and list(rancher.made) == [files.token_name(str(path))]


def test_a_refused_token_is_told(rancher: Rancher, path: Path) -> None:
    with pytest.raises(PlatformError, match=r"does not take the token.*Account & API Keys") as caught:
        module.execute(options(rancher, path, "token-other:" + "z" * 30), check=False)
    assert "zzz" not in str(caught.value)


def test_a_missing_cluster_is_planned_or_told(rancher: Rancher, tmp_path: Path) -> None:
    wanted = options(rancher, tmp_path / "config")
    assert module.execute(wanted, check=True)["why"] == "the cluster does not exist yet"
    with pytest.raises(PlatformError, match="Run phase 0"):
        module.execute(wanted, check=False)


def test_the_ca_is_text_or_a_file(tmp_path: Path) -> None:
    pem = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"
    file = tmp_path / "ca.crt"
    file.write_text(pem)
    assert _kubeconfig.direct("https://x", "t", pem).ca == pem
    assert _kubeconfig.from_options({"host": "https://x", "api_key": "t", "ca_cert": str(file)}).ca == pem
    with pytest.raises(PlatformError, match="ca_cert /nowhere"):
        _kubeconfig.direct("https://x", "t", "/nowhere")


@pytest.mark.parametrize(
    ("host", "token", "word"),
    [("https://x", "", "there is no token"), ("ftp://x", "t", "not an https"), ("http://x", "t", "not reached by TLS")],
)
def test_an_address_that_cannot_be_used_is_refused(host: str, token: str, word: str) -> None:
    with pytest.raises(PlatformError, match=word):
        _kubeconfig.from_options({"host": host, "api_key": token, "kubeconfig": "/nowhere"})
