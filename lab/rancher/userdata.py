# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Whether cloud-init would take a machine's user data: its own schema check where the machine has it, else a strict
small one."""

from __future__ import annotations

import base64
import functools
import hashlib
import shutil
import subprocess
import tempfile
from typing import Any

import yaml

HEADERS = ("#cloud-config",)
TEXT, LIST, MAPPING, FLAG, NUMBER = "text", "list", "mapping", "flag", "number"
# Top-level keys of cloud-config and what they may be
KEYS: dict[str, tuple[str, ...]] = {
    "apt": (MAPPING,),
    "bootcmd": (LIST,),
    "ca_certs": (MAPPING,),
    "chpasswd": (MAPPING,),
    "cloud_config_modules": (LIST,),
    "cloud_final_modules": (LIST,),
    "cloud_init_modules": (LIST,),
    "create_hostname_file": (FLAG,),
    "datasource": (MAPPING,),
    "datasource_list": (LIST,),
    "device_aliases": (MAPPING,),
    "disable_root": (FLAG,),
    "disable_root_opts": (TEXT,),
    "disk_setup": (MAPPING,),
    "final_message": (TEXT,),
    "fqdn": (TEXT,),
    "fs_setup": (LIST,),
    "groups": (TEXT, LIST, MAPPING),
    "growpart": (MAPPING,),
    "hostname": (TEXT,),
    "keyboard": (MAPPING,),
    "locale": (TEXT, FLAG),
    "locale_configfile": (TEXT,),
    "manage_etc_hosts": (FLAG, TEXT),
    "manage_resolv_conf": (FLAG,),
    "merge_how": (TEXT, LIST),
    "merge_type": (TEXT, LIST),
    "mounts": (LIST,),
    "mount_default_fields": (LIST,),
    "network": (MAPPING,),
    "no_ssh_fingerprints": (FLAG,),
    "ntp": (MAPPING,),
    "output": (MAPPING,),
    "package_reboot_if_required": (FLAG,),
    "package_update": (FLAG,),
    "package_upgrade": (FLAG,),
    "packages": (LIST,),
    "password": (TEXT,),
    "phone_home": (MAPPING,),
    "power_state": (MAPPING,),
    "prefer_fqdn_over_hostname": (FLAG,),
    "preserve_hostname": (FLAG,),
    "random_seed": (MAPPING,),
    "resize_rootfs": (FLAG, TEXT),
    "resolv_conf": (MAPPING,),
    "rh_subscription": (MAPPING,),
    "rsyslog": (MAPPING,),
    "runcmd": (LIST,),
    "snap": (MAPPING,),
    "ssh": (MAPPING,),
    "ssh_authorized_keys": (LIST,),
    "ssh_deletekeys": (FLAG,),
    "ssh_fp_console_blacklist": (LIST,),
    "ssh_genkeytypes": (LIST,),
    "ssh_import_id": (LIST,),
    "ssh_keys": (MAPPING,),
    "ssh_publish_hostkeys": (MAPPING,),
    "ssh_pwauth": (FLAG, TEXT),
    "ssh_quiet_keygen": (FLAG,),
    "swap": (MAPPING,),
    "timezone": (TEXT,),
    "ubuntu_advantage": (MAPPING,),
    "updates": (MAPPING,),
    "user": (TEXT, MAPPING),
    "users": (LIST, TEXT, MAPPING),
    "vendor_data": (MAPPING,),
    "version": (TEXT,),
    "wireguard": (MAPPING,),
    "write_files": (LIST,),
    "yum_repo_dir": (TEXT,),
    "yum_repos": (MAPPING,),
    "zypper": (MAPPING,),
}
FILE_KEYS = {"path", "content", "source", "owner", "permissions", "encoding", "append", "defer"}
ENCODINGS = {"text/plain", "gz", "gzip", "gz+base64", "gzip+base64", "gz+b64", "gzip+b64", "b64", "base64"}


def refusal(text: str) -> str:
    """Why the user data is not taken; empty when it is."""
    return _refusal(text) if text else ""


def decoded(text: str) -> str:
    """From a Secret's data."""
    return base64.b64decode(text).decode(errors="replace")


@functools.lru_cache(maxsize=256)
def _refusal(text: str) -> str:
    return small_check(text) or (real_check(text) if program() else "")


@functools.lru_cache(maxsize=1)
def program() -> str:
    return shutil.which("cloud-init") or ""


def real_check(text: str) -> str:
    with tempfile.NamedTemporaryFile("w", prefix=hashlib.sha256(text.encode()).hexdigest()[:8]) as file:
        file.write(text)
        file.flush()
        words = [program(), "schema", "--config-file", file.name]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    return (done.stdout + done.stderr).strip()[-500:] if done.returncode else ""


def small_check(text: str) -> str:
    if text.split("\n", 1)[0].strip() not in HEADERS:
        return "Cloud config schema errors: format-l1.c1: no valid cloud-config header on the first line"
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        return f"Cloud config schema errors: invalid YAML: {str(error).splitlines()[0]}"
    if found is None:
        return ""
    if not isinstance(found, dict):
        return "Cloud config schema errors: the YAML is not a mapping"
    for key, value in found.items():
        if key not in KEYS:
            return f"Cloud config schema errors: Additional properties are not allowed ('{key}' was unexpected)"
        if value is not None and kind(value) not in KEYS[key]:
            return f"Cloud config schema errors: {key}: {value!r} is not of type {' or '.join(KEYS[key])}"[:300]
    return _commands(found) or _files(found) or _users(found)


def kind(value: Any) -> str:
    if isinstance(value, bool):
        return FLAG
    if isinstance(value, list):
        return LIST
    if isinstance(value, dict):
        return MAPPING
    return TEXT if isinstance(value, str) else NUMBER


def _commands(found: dict[str, Any]) -> str:
    for key in ("runcmd", "bootcmd"):
        for number, entry in enumerate(found.get(key) or []):
            if not isinstance(entry, str | list) and entry is not None:
                return f"Cloud config schema errors: {key}.{number}: {entry!r} is neither text nor a list"
    for number, entry in enumerate(found.get("packages") or []):
        if not isinstance(entry, str | list | dict):
            return f"Cloud config schema errors: packages.{number}: {entry!r} is not valid"
    return ""


def _files(found: dict[str, Any]) -> str:
    for number, entry in enumerate(found.get("write_files") or []):
        where = f"Cloud config schema errors: write_files.{number}"
        if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
            return f"{where}: 'path' is a required property"
        if unknown := set(entry) - FILE_KEYS:
            return f"{where}: Additional properties are not allowed ({sorted(unknown)} unexpected)"
        if "content" in entry and not isinstance(entry["content"], str):
            return f"{where}.content: {entry['content']!r} is not of type 'string'"[:300]
        if "permissions" in entry and not isinstance(entry["permissions"], str):
            return f"{where}.permissions: {entry['permissions']!r} is not of type 'string'"
        if entry.get("encoding", "text/plain") not in ENCODINGS:
            return f"{where}.encoding: {entry['encoding']!r} is not one of {sorted(ENCODINGS)}"
    return ""


def _users(found: dict[str, Any]) -> str:
    users = found.get("users")
    for number, entry in enumerate(users if isinstance(users, list) else []):
        if not isinstance(entry, str | list) and not (
            isinstance(entry, dict) and ("name" in entry or "snapuser" in entry)
        ):
            return f"Cloud config schema errors: users.{number}: 'name' is a required property"
    return ""
