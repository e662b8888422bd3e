# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The control plane can be scraped as RKE2's: at every node's address, with a token, certificates for the loopback."""

from __future__ import annotations

from pathlib import Path

import yaml
from cryptography import x509

from lab import controlplane, kubelet, pki, seed, settings, stages
from lab.processes import Program
from lab.settings import CLUSTER, SERVERS, SOURCES, Lab

LAB = Lab("unit")


def options(program: Program) -> dict[str, str]:
    return dict(word.split("=", 1) for word in program.argv if word.startswith("--") and "=" in word)


def test_every_nodes_address_answers() -> None:
    assert options(controlplane.etcd(LAB, "1"))["--listen-metrics-urls"] == "http://0.0.0.0:2381"
    for program, port in (
        (controlplane.scheduler(LAB, "1"), "10259"),
        (controlplane.controller_manager(LAB, CLUSTER, "1"), "10257"),
    ):
        given = options(program)
        assert (given["--bind-address"], given["--secure-port"]) == ("0.0.0.0", port)
        assert given["--authentication-kubeconfig"] == given["--authorization-kubeconfig"] == given["--kubeconfig"]


def test_the_other_controller_managers_hold_no_port() -> None:
    for server in SERVERS[1:]:
        given = options(controlplane.controller_manager(LAB, server, "1"))
        assert given["--secure-port"] == "0" and "--bind-address" not in given


def test_the_port_that_prometheus_asks_is_not_kwoks() -> None:
    given = options(controlplane.kwok(LAB, "1"))
    assert given["--server-address"] == f"0.0.0.0:{given['--node-port']}" != f"0.0.0.0:{kubelet.PORT}"
    assert "kubelet" in controlplane.all_names()


def test_certificates_of_scheduler_and_controller_manager_name_the_loopback_only(tmp_path: Path) -> None:
    lab = Lab("unit", tmp_path)
    lab.directory.mkdir()
    pki.prepare(lab, {server.name: 1 for server in SERVERS})
    for program in (controlplane.scheduler(lab, "1"), controlplane.controller_manager(lab, CLUSTER, "1")):
        certificate = x509.load_pem_x509_certificate(Path(options(program)["--tls-cert-file"]).read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["localhost"]
        assert {str(address) for address in names.get_values_for_type(x509.IPAddress)} == {"127.0.0.1", "::1"}
    assert Path(options(controlplane.kubelet(lab))["--kubeconfig"]).exists()


def test_coredns_is_found_by_its_pod() -> None:
    objects = list(yaml.safe_load_all((SOURCES / "manifests" / "objects" / "cluster.yaml").read_text()))
    assert all(item["kind"] in seed.PLURALS for item in objects)
    template = next(
        item["spec"]["template"]
        for item in objects
        if item["kind"] == "Deployment" and item["metadata"]["name"] == "rke2-coredns-rke2-coredns"
    )
    assert template["metadata"]["labels"]["k8s-app"] == "kube-dns"
    assert template["metadata"]["annotations"] == {"lab.harvester-rke2.io/address": settings.DNS_SERVER}
    assert 9153 in [port["containerPort"] for port in template["spec"]["containers"][0]["ports"]]
    ready = next(stage for stage in stages.load() if stage["metadata"]["name"] == "pod-ready")
    assert '"lab.harvester-rke2.io/address"' in ready["spec"]["next"]["statusTemplate"]
