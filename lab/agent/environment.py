# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Environment, fields of the pod and quantities, as the kubelet resolves them."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Any

from lab.kube import Object

REFERENCE = re.compile(r"\$(?:\$|\(([^()]*)\))")
SUFFIXES = {
    **{suffix: Decimal(1024) ** (power + 1) for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"))},
    **{"n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1), "k": Decimal(1000)},
    **{suffix: Decimal(1000) ** (power + 2) for power, suffix in enumerate(("M", "G", "T", "P", "E"))},
}

# reads an object of the pod's namespace; None when it does not exist
Read = Callable[[str, str], Awaitable[Object | None]]


class ContainerConfigError(Exception):
    """Reason CreateContainerConfigError, with the kubelet's words."""


def expand(text: str, values: Mapping[str, str]) -> str:
    """`$(NAME)` is replaced when known, kept when not; `$$` is a dollar sign."""

    def one(found: re.Match[str]) -> str:
        if found.group(1) is None:
            return "$"
        return values.get(found.group(1), found.group(0))

    return REFERENCE.sub(one, text)


def quantity(text: str) -> Decimal:
    found = re.fullmatch(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([a-zA-Z]*)", str(text))
    if not found or found.group(2) not in SUFFIXES:
        raise ValueError(f"not a quantity: {text}")
    return Decimal(found.group(1)) * SUFFIXES[found.group(2)]


def field_value(pod: Object, path: str, addresses: Mapping[str, str]) -> str:
    """What a fieldRef names; `addresses` has what only the kubelet knows (status.podIP, status.hostIP)."""
    if path in addresses:
        return addresses[path]
    keyed = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
    if keyed:
        return str(pod["metadata"].get(keyed.group(1), {}).get(keyed.group(2), ""))
    if path in ("metadata.labels", "metadata.annotations"):
        entries = pod["metadata"].get(path.removeprefix("metadata."), {})
        return "".join(f"{key}={quoted(value)}\n" for key, value in sorted(entries.items()))
    value: Any = pod
    for part in path.split("."):
        value = value.get(part, "") if isinstance(value, dict) else ""
    return str(value)


def quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'


def resource_value(pod: Object, container: Object, reference: Object, allocatable: Mapping[str, str]) -> str:
    """requests.* and limits.* of a container, rounded up; an absent limit is what the node has."""
    name = reference.get("containerName")
    every = [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]
    target = next((item for item in every if item["name"] == name), container) if name else container
    kind, _, resource = str(reference["resource"]).partition(".")
    resources = target.get("resources", {})
    found = resources.get(kind, {}).get(resource)
    if found is None and kind == "requests":
        found = resources.get("limits", {}).get(resource)
    if found is None:
        found = allocatable.get(resource, "0") if kind == "limits" else "0"
    divisor = quantity(reference.get("divisor") or "1") or Decimal(1)
    return str(math.ceil(quantity(found) / divisor))


def service_variables(services: list[Object]) -> dict[str, str]:
    """NAME_SERVICE_HOST and the Docker link variables of each Service with an address of its own."""
    result: dict[str, str] = {}
    for service in services:
        spec = service["spec"]
        address, ports = spec.get("clusterIP"), spec.get("ports", [])
        if not ports or address in (None, "", "None"):
            continue
        prefix = service["metadata"]["name"].upper().replace("-", "_")
        result[f"{prefix}_SERVICE_HOST"] = address
        result[f"{prefix}_SERVICE_PORT"] = str(ports[0]["port"])
        first = ports[0]
        result[f"{prefix}_PORT"] = f"{first.get('protocol', 'TCP').lower()}://{address}:{first['port']}"
        for port in ports:
            if port.get("name"):
                result[f"{prefix}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(port["port"])
            protocol = port.get("protocol", "TCP")
            link = f"{prefix}_PORT_{port['port']}_{protocol}"
            result[link] = f"{protocol.lower()}://{address}:{port['port']}"
            result[f"{link}_PROTO"] = protocol.lower()
            result[f"{link}_PORT"] = str(port["port"])
            result[f"{link}_ADDR"] = address
    return result


async def resolve(
    pod: Object,
    container: Object,
    base: Mapping[str, str],
    read: Read,
    addresses: Mapping[str, str],
    allocatable: Mapping[str, str],
) -> dict[str, str]:
    """The environment of a container: `base`, then envFrom, then env in its order."""
    result = dict(base)
    namespace = pod["metadata"]["namespace"]
    for source in container.get("envFrom", []):
        kind = "configMap" if "configMapRef" in source else "secret"
        reference = source[f"{kind}Ref"]
        found = await read(f"{kind.lower()}s", reference["name"])
        if found is None:
            if reference.get("optional"):
                continue
            raise ContainerConfigError(f'{kind.lower()} "{reference["name"]}" not found')
        for key in {**found.get("data", {}), **found.get("binaryData", {})}:
            result[source.get("prefix", "") + key] = text_of(found, key)
    for entry in container.get("env", []):
        source = entry.get("valueFrom")
        if source is None:
            result[entry["name"]] = expand(entry.get("value", ""), result)
        elif "fieldRef" in source:
            result[entry["name"]] = field_value(pod, source["fieldRef"]["fieldPath"], addresses)
        elif "resourceFieldRef" in source:
            result[entry["name"]] = resource_value(pod, container, source["resourceFieldRef"], allocatable)
        else:
            value = await key_value(namespace, source, read)
            if value is not None:
                result[entry["name"]] = value
    return result


async def key_value(namespace: str, source: Object, read: Read) -> str | None:
    kind = "configMap" if "configMapKeyRef" in source else "secret"
    reference = source[f"{kind}KeyRef"]
    name, key, optional = reference["name"], reference["key"], reference.get("optional", False)
    found = await read(f"{kind.lower()}s", name)
    if found is None:
        if optional:
            return None
        raise ContainerConfigError(f'{kind.lower()} "{name}" not found')
    if key not in found.get("data", {}) and key not in found.get("binaryData", {}):
        if optional:
            return None
        raise ContainerConfigError(f"couldn't find key {key} in {kind[0].upper()}{kind[1:]} {namespace}/{name}")
    return text_of(found, key)


def bytes_of(found: Object, key: str) -> bytes:
    """A key of a ConfigMap or Secret."""
    if key in (found.get("binaryData") or {}):
        return base64.b64decode(found["binaryData"][key])
    value = found["data"][key]
    return base64.b64decode(value) if found.get("kind") == "Secret" else value.encode()


def text_of(found: Object, key: str) -> str:
    return bytes_of(found, key).decode(errors="replace")
