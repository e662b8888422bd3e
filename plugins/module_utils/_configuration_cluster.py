# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What is wrong with the variables of which phase 0 makes a cluster, each fault in one sentence that says the mend.

Pure functions of the variables that are set; none of them repeats a secret.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ._configuration import CLUSTER_NAME, fault, nearest

RKE2 = re.compile(r"v1\.[0-9]{2}\.[0-9]{1,2}\+rke2r[0-9]+")
KEY_KINDS = re.compile(
    r"(ssh-(rsa|ed25519)|ecdsa-sha2-nistp(256|384|521)|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com)"
)
TOKEN = re.compile(r"[a-z0-9][-a-z0-9/]*:[a-z0-9]{20,}")
SHA512 = re.compile(r"[0-9a-f]{128}")
HIGHEST_VLAN = 4094
NAMES = (
    "harvester_vm_namespace",
    "harvester_vm_shared_namespace",
    "harvester_vm_network",
    "harvester_vm_services_network",
    "harvester_vm_image",
    "harvester_vm_account",
)
Values = Mapping[str, Any]


def check(values: Values) -> list[str]:
    """Every fault of these variables."""
    parts = (_rancher, _names, _networks, _image, _server, _nodes, _registry, _etcd, _life)
    return [sentence for part in parts for sentence in part(values)]


def https_fault(name: str, value: str, example: str) -> list[str]:
    """Faults of an address that must be reached by TLS."""
    parts = urlsplit(value)
    if parts.scheme != "https" or not parts.hostname:
        return [fault(f"{name} is '{value}', which is no https:// address", f"write it like {example}.")]
    if parts.username or parts.password:
        return [fault(f"{name} holds a user or a password", f"write it like {example}.")]
    if parts.query or parts.fragment:
        return [fault(f"{name} is '{value}', which asks for more than an address", f"write it like {example}.")]
    return []


def _rancher(values: Values) -> list[str]:
    url = str(values.get("platform_rancher_url") or "")
    token = str(values.get("platform_rancher_token") or "")
    if not url:
        return []
    faults = https_fault("platform_rancher_url", url, "https://rancher.example.com")
    if not faults and urlsplit(url).path.strip("/"):
        mend = f"give the bare address, https://{urlsplit(url).netloc}."
        faults.append(fault(f"platform_rancher_url is '{url}', which is a page of Rancher", mend))
    if not token:
        mend = "make a token without a scope under Account & API Keys in Rancher."
        faults.append(fault("platform_rancher_token is not set, but platform_rancher_url is", mend))
    elif not TOKEN.fullmatch(token):
        mend = "copy the bearer token, token-xxxxx:yyy, whole and without spaces."
        faults.append(fault("platform_rancher_token is not a token of Rancher's", mend))
    if not values.get("platform_harvester_cluster", "harvester"):
        mend = "give the name under which Harvester is imported into Rancher."
        faults.append(fault("platform_harvester_cluster is empty", mend))
    ca = str(values.get("platform_rancher_ca_certificate") or "")
    if ca and "-----BEGIN" in ca and "-----END CERTIFICATE-----" not in ca:
        mend = "give the whole certificate, to its END line."
        faults.append(fault("platform_rancher_ca_certificate is cut off", mend))
    return faults


def _names(values: Values) -> list[str]:
    mend = "use at most 63 lower-case letters, digits and '-'."
    return [
        fault(f"{name} is '{values[name]}', which is no name in Kubernetes", mend)
        for name in NAMES
        if name in values and not CLUSTER_NAME.fullmatch(str(values[name]))
    ]


def _networks(values: Values) -> list[str]:
    faults = []
    for name in ("harvester_vm_network_vlan", "harvester_vm_services_vlan"):
        if not 0 <= int(values.get(name, 0)) <= HIGHEST_VLAN:
            mend = f"choose 1 to {HIGHEST_VLAN}, or 0 for untagged."
            faults.append(fault(f"{name} is {values[name]}, which is no VLAN", mend))
    first, second = values.get("harvester_vm_network"), values.get("harvester_vm_services_network", "services-network")
    if first is not None and first == second:
        what = f"harvester_vm_network and harvester_vm_services_network are both '{first}'"
        faults.append(fault(what, "name two: the workers have an interface in each."))
    return faults


def _image(values: Values) -> list[str]:
    faults = []
    if "harvester_vm_image_url" in values:
        name, url = "harvester_vm_image_url", str(values["harvester_vm_image_url"])
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            mend = "give the address that Harvester itself downloads it from."
            faults.append(fault(f"{name} is '{url}', which is no http(s):// address", mend))
        elif not parts.path.endswith((".qcow2", ".img", ".raw", ".qcow2.xz", ".img.xz")):
            mend = "give a disk image, .qcow2, .img or .raw: an installation medium never becomes a node."
            faults.append(fault(f"{name} ends in '{parts.path.rsplit('/', 1)[-1]}', which is no disk image", mend))
    checksum = str(values.get("harvester_vm_image_checksum") or "")
    if checksum and not SHA512.fullmatch(checksum):
        mend = "give the SHA-512 checksum, 128 hexadecimal digits."
        faults.append(fault(f"harvester_vm_image_checksum has {len(checksum)} characters", mend))
    return faults


def _server(values: Values) -> list[str]:
    value = str(values.get("harvester_vm_api_server") or "")
    if not value:
        return []
    faults = https_fault("harvester_vm_api_server", value, "https://192.0.2.10:6443")
    if not faults and "/k8s/clusters/" in value:
        mend = "give Harvester's own address: the cloud provider's token does not pass Rancher."
        faults.append(fault("harvester_vm_api_server leads through Rancher", mend))
    return faults


def _nodes(values: Values) -> list[str]:
    faults = []
    version = str(values.get("rke2_cluster_version") or "v1.34.8+rke2r2")
    if not RKE2.fullmatch(version):
        mend = "write it as Rancher lists it, such as v1.34.8+rke2r2."
        faults.append(fault(f"rke2_cluster_version is '{version}', which is no release of RKE2", mend))
    for number, key in enumerate(values.get("rke2_cluster_ssh_authorized_keys") or [], 1):
        why = _key_fault(str(key))
        if why:
            mend = "copy the whole line of a .pub file."
            faults.append(fault(f"rke2_cluster_ssh_authorized_keys, entry {number}, {why}", mend))
    pools = values.get("platform_pools") or {}
    for name in values.get("rke2_cluster_allow_roll") or []:
        if name not in pools:
            guess = nearest(str(name), pools)
            mend = f"did you mean {guess}?" if guess else f"there are {', '.join(sorted(pools))}."
            faults.append(fault(f"rke2_cluster_allow_roll names '{name}', which is no pool", mend))
    return faults


def _key_fault(key: str) -> str:
    if "PRIVATE KEY" in key:
        return "is a private key"
    words = key.split()
    kinds = [index for index, word in enumerate(words) if KEY_KINDS.fullmatch(word)]
    if not kinds or len(words) <= kinds[0] + 1:
        return "is no public key"
    kind, body = words[kinds[0]], words[kinds[0] + 1]
    try:
        data = base64.b64decode(body, validate=True)
    except binascii.Error:
        return "is damaged"
    # A key says its kind again inside.
    length = int.from_bytes(data[:4], "big")
    return "" if data[4 : 4 + length] == kind.encode() and len(data) > 4 + length else "is damaged"


def _registry(values: Values) -> list[str]:
    user, password = values.get("rke2_cluster_registry_username"), values.get("rke2_cluster_registry_password")
    if bool(user) != bool(password) and (user or password):
        have, lacks = ("username", "password") if user else ("password", "username")
        what = f"rke2_cluster_registry_{have} is set, but rke2_cluster_registry_{lacks} is not"
        return [fault(what, "set both, or none for anonymous pulls.")]
    return []


def _etcd(values: Values) -> list[str]:
    schedule = str(values.get("rke2_cluster_etcd_snapshot_schedule") or "0 * * * *")
    faults = []
    if len(schedule.split()) != 5 and not schedule.startswith("@"):
        mend = "write five fields, such as 0 */6 * * *."
        faults.append(fault(f"rke2_cluster_etcd_snapshot_schedule is '{schedule}', which is no schedule of cron", mend))
    if int(values.get("rke2_cluster_etcd_snapshot_retention", 1)) < 1:
        mend = "keep at least one."
        faults.append(fault("rke2_cluster_etcd_snapshot_retention keeps no snapshot", mend))
    return faults


def _life(values: Values) -> list[str]:
    """What a playbook for a cluster that is there was asked to do."""
    action = values.get("rke2_cluster_action")
    if action not in ("scale", "upgrade", "destroy"):
        return []
    if not values.get("platform_rancher_url"):
        mend = "set platform_rancher_url, or do it where the cluster was made."
        return [fault(f"The cluster is not made by Rancher here, and nothing can {action} it", mend)]
    name = str(values.get("platform_cluster_name"))
    if action == "destroy" and str(values.get("rke2_cluster_confirm_destroy")) != name:
        given = values.get("rke2_cluster_confirm_destroy")
        mend = f"to destroy it, give confirm_destroy its name, {name}."
        return [fault(f"The cluster {name} is kept, as confirm_destroy is '{given}'", mend)]
    return _scale(values) if action == "scale" else []


def _scale(values: Values) -> list[str]:
    pools, name = values.get("platform_pools") or {}, str(values.get("rke2_cluster_pool") or "")
    quantity = int(values.get("rke2_cluster_quantity", -1))
    if name not in pools:
        guess = nearest(name, pools)
        mend = f"did you mean {guess}?" if guess else f"give -e pool= one of {', '.join(sorted(pools))}."
        return [fault(f"pool is '{name}', which is no pool of platform_pools", mend)]
    pool = pools[name]
    least, most = int(pool["minimum"]), int(pool["maximum"])
    if quantity < 0:
        return [
            fault(f"quantity is not set for the pool {name}", f"give -e quantity= a number from {least} to {most}.")
        ]
    if pool.get("control_plane") and quantity % 2 == 0:
        mend = "choose an odd number (1, 3 or 5), as etcd needs a majority."
        return [fault(f"quantity {quantity} is even, and {name} is a control plane", mend)]
    if not least <= quantity <= most:
        mend = f"choose {least} to {most}, or change platform_pools.{name} first: the next run would bring it back."
        return [fault(f"quantity {quantity} is outside of what platform_pools.{name} allows", mend)]
    return []
