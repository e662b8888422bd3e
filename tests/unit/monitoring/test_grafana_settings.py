# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Grafana's settings and provisioning, held against what its pod really has: there is no Grafana here."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.harvester_rke2.platform.tests.unit.platform.conftest import ROOT, Play, rendered

Objects = dict[tuple[str, str], dict[str, Any]]
FILE = re.compile(r"\$__file\{(.+)/(.+)\}")
REALM = "https://keycloak.lab.example.com/realms/platform"


def render(play: Play, folder: Path, **variables: Any) -> Objects:
    found = rendered(play, folder, "harvester_rke2.platform.grafana", **variables)
    return {(document["kind"], document["metadata"]["name"]): document for _service, document in found}


def settings(objects: Objects) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(objects["ConfigMap", "grafana"]["data"]["grafana.ini"])
    return parser


def pod(objects: Objects) -> dict[str, Any]:
    return dict(objects["Deployment", "grafana"]["spec"]["template"]["spec"])


def secrets(objects: Objects) -> dict[str, str]:
    """Folder in Grafana's container to the Secret that is mounted there."""
    names = {volume["name"]: volume["secret"]["secretName"] for volume in pod(objects)["volumes"] if "secret" in volume}
    mounts = pod(objects)["containers"][0]["volumeMounts"]
    return {mount["mountPath"]: names[mount["name"]] for mount in mounts if mount["name"] in names}


@pytest.fixture(scope="module")
def local(play: Play, tmp_path_factory: pytest.TempPathFactory) -> Objects:
    return render(play, tmp_path_factory.mktemp("local"))


@pytest.fixture(scope="module")
def oidc(play: Play, tmp_path_factory: pytest.TempPathFactory) -> Objects:
    return render(play, tmp_path_factory.mktemp("oidc"), grafana_oidc_enabled=True, grafana_oidc_issuer=REALM)


def description() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "roles" / "grafana" / "meta" / "service.yml").read_text()))


def test_each_secret_setting_is_a_file_that_is_there(local: Objects) -> None:
    [made] = description()["secrets"]
    security = settings(local)["security"]
    for setting, key in (
        ("admin_user", "admin-user"),
        ("admin_password", "admin-password"),
        ("secret_key", "secret-key"),
    ):
        match = FILE.fullmatch(security[setting])
        assert match and match[2] == key and key in made["keys"]
        assert secrets(local)[match[1]] == made["name"]


def test_data_sources_have_the_uids_that_dashboards_name(local: Objects) -> None:
    sources = yaml.safe_load(local["ConfigMap", "grafana"]["data"]["datasources.yaml"])["datasources"]
    assert [(source["uid"], source["type"]) for source in sources] == [
        (n, n) for n in ("prometheus", "loki", "alertmanager")
    ]
    assert [source["uid"] for source in sources if source.get("isDefault")] == ["prometheus"]
    assert sources[2]["jsonData"]["implementation"] == "prometheus"


def test_grafana_reads_where_the_sidecar_writes(local: Objects) -> None:
    [provider] = yaml.safe_load(local["ConfigMap", "grafana"]["data"]["dashboards.yaml"])["providers"]
    grafana, sidecar = pod(local)["containers"]
    folder = {entry["name"]: entry["value"] for entry in sidecar["env"]}["FOLDER"]
    assert provider["options"] == {"path": folder, "foldersFromFilesStructure": True}
    # With a folder of its own the provider ignores the directories.
    assert not {"folder", "folderUid"} & provider.keys()
    for container, read_only in ((grafana, True), (sidecar, False)):
        [mount] = [mount for mount in container["volumeMounts"] if mount["name"] == "dashboards"]
        assert (mount["mountPath"], mount.get("readOnly", False)) == (folder, read_only)
    assert settings(local)["dashboards"]["default_home_dashboard_path"] == f"{folder}/Home/home.json"


def test_provisioning_lies_where_grafana_looks(local: Objects) -> None:
    [config] = [volume["configMap"] for volume in pod(local)["volumes"] if volume["name"] == "config"]
    assert {item["key"] for item in config["items"]} == local["ConfigMap", "grafana"]["data"].keys()
    assert {item["path"] for item in config["items"]} == {
        *("grafana.ini", "provisioning/datasources/platform.yaml", "provisioning/dashboards/platform.yaml")
    }


def test_one_writer_has_the_volume(local: Objects) -> None:
    spec = local["Deployment", "grafana"]["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert local["PersistentVolumeClaim", "grafana"]["spec"]["resources"]["requests"]["storage"] == "10Gi"
    # What the storage autoscaler has grown is not set back.
    assert [rule["kind"] for rule in description()["left_to"]] == ["PersistentVolumeClaim"]


def test_nothing_goes_to_the_internet(local: Objects) -> None:
    found = settings(local)
    assert set(found["analytics"].values()) == {"false"}
    assert found["security"]["disable_gravatar"] == found["plugins"]["preinstall_disabled"] == "true"


def test_oidc_is_off_until_it_is_switched_on(local: Objects, oidc: Objects) -> None:
    assert "auth.generic_oauth" not in settings(local) and "/etc/secrets/oidc" not in secrets(local)
    found = settings(oidc)["auth.generic_oauth"]
    match = FILE.fullmatch(found["client_secret"])
    assert match and secrets(oidc)[match[1]] == "grafana-oidc"
    assert found["auth_url"].startswith(REALM) and found["token_url"].startswith(REALM)
    annotations = [o["Deployment", "grafana"]["spec"]["template"]["metadata"]["annotations"] for o in (local, oidc)]
    assert annotations[0] != annotations[1]


def test_keycloak_sends_users_back_to_where_grafana_is(oidc: Objects) -> None:
    [client] = description()["oidc"]
    [redirect] = client["redirect_uris"]
    host = settings(oidc)["server"]["root_url"]
    assert (
        redirect.replace("{{ grafana_host }}.{{ platform_domain }}", "grafana.lab.example.com")
        == f"{host}login/generic_oauth"
    )
    assert settings(oidc)["auth.generic_oauth"]["client_id"] == client["client_id"]


def test_what_oidc_trusts_is_mounted(oidc: Objects) -> None:
    [mount] = [m for m in pod(oidc)["containers"][0]["volumeMounts"] if m["name"] == "platform-ca"]
    assert settings(oidc)["auth.generic_oauth"]["tls_client_ca"] == f"{mount['mountPath']}/ca.crt"


def test_the_sidecar_reads_config_maps_only(local: Objects) -> None:
    assert local["ClusterRole", "grafana-dashboards"]["rules"] == [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]}
    ]
