"""Kubernetes' pod security standards as a table: what the restricted one asks of a pod.

https://kubernetes.io/docs/concepts/security/pod-security-standards, as of Kubernetes 1.36: the
rules of "baseline" and those that "restricted" adds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.deploy.manifests import Manifest

Values = Callable[[Manifest], Iterator[object]]


class Rule(NamedTuple):
    """A rule holds when each of the values that it looks at is allowed."""

    values: Values
    allows: Callable[[object], bool]


def found(value: object, path: str) -> Iterator[object]:
    """The values at a path such as "ports[].hostPort"; None for one that is not there."""
    if not path:
        yield value
        return
    step, _, rest = path.partition(".")
    inner = value.get(step.removesuffix("[]")) if isinstance(value, dict) else None
    if not step.endswith("[]"):
        yield from found(inner, rest)
    elif isinstance(inner, list):
        for one in inner:
            yield from found(one, rest)


def of_pod(*paths: str) -> Values:
    """What the paths lead to from the pod's specification."""
    return lambda pod: (value for path in paths for value in found(pod, path))


def containers(pod: Manifest) -> Iterator[Manifest]:
    """Containers of every kind."""
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        yield from pod.get(kind, ())


def of_containers(*paths: str) -> Values:
    """What the paths lead to from each container."""
    return lambda pod: (
        value for one in containers(pod) for path in paths for value in found(one, path)
    )


def of_contexts(path: str) -> Values:
    """A field of the security contexts: the pod's, and each container's or else the pod's."""

    def values(pod: Manifest) -> Iterator[object]:
        [general] = found(pod, f"securityContext.{path}")
        if general is not None:
            yield general
        for own in of_containers(f"securityContext.{path}")(pod):
            yield general if own is None else own

    return values


def among(*allowed: object) -> Callable[[object], bool]:
    """Whether a value is one of these; 0 is not False here."""
    return lambda value: any(value == one and type(value) is type(one) for one in allowed)


def names_within(*allowed: str) -> Callable[[object], bool]:
    """Whether a list, or the keys of a mapping, hold these names and no others."""
    return lambda value: (
        value is None or (isinstance(value, list | dict) and set(value) <= set(allowed))
    )


#: What may name a host to connect to.
_HANDLERS = tuple(
    f"{handler}.{action}.host"
    for handler in (
        *("livenessProbe", "readinessProbe", "startupProbe"),
        *("lifecycle.postStart", "lifecycle.preStop"),
    )
    for action in ("httpGet", "tcpSocket")
)
_DEFAULT_CAPABILITIES = (
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD"),
    *("NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
)
_SAFE_SYSCTLS = (
    *("kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range"),
    *("net.ipv4.ip_unprivileged_port_start", "net.ipv4.tcp_syncookies"),
    *("net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports"),
    *("net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout"),
    *("net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes"),
)
_SELINUX_TYPES = ("container_t", "container_init_t", "container_kvm_t", "container_engine_t")
_VOLUMES = (
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral"),
    *("persistentVolumeClaim", "projected", "secret"),
)

BASELINE = {
    "HostProcess": Rule(of_contexts("windowsOptions.hostProcess"), among(None, False)),
    "Host Namespaces": Rule(of_pod("hostNetwork", "hostPID", "hostIPC"), among(None, False)),
    "Privileged Containers": Rule(of_containers("securityContext.privileged"), among(None, False)),
    "Capabilities": Rule(
        of_containers("securityContext.capabilities.add"), names_within(*_DEFAULT_CAPABILITIES)
    ),
    "HostPath Volumes": Rule(of_pod("volumes[].hostPath"), among(None)),
    "Host Ports": Rule(of_containers("ports[].hostPort"), among(None, 0)),
    "Host Probes / Lifecycle Hooks": Rule(of_containers(*_HANDLERS), among(None, "")),
    "AppArmor": Rule(
        of_contexts("appArmorProfile.type"), among(None, "RuntimeDefault", "Localhost")
    ),
    "SELinux type": Rule(of_contexts("seLinuxOptions.type"), among(None, "", *_SELINUX_TYPES)),
    "SELinux user": Rule(of_contexts("seLinuxOptions.user"), among(None, "")),
    "SELinux role": Rule(of_contexts("seLinuxOptions.role"), among(None, "")),
    "/proc Mount Type": Rule(of_containers("securityContext.procMount"), among(None, "Default")),
    "Seccomp": Rule(of_contexts("seccompProfile.type"), among(None, "RuntimeDefault", "Localhost")),
    "Sysctls": Rule(of_pod("securityContext.sysctls[].name"), among(*_SAFE_SYSCTLS)),
}

RESTRICTED = BASELINE | {
    "Volume Types": Rule(of_pod("volumes[]"), names_within("name", *_VOLUMES)),
    "Privilege Escalation": Rule(
        of_containers("securityContext.allowPrivilegeEscalation"), among(False)
    ),
    "Running as Non-root": Rule(of_contexts("runAsNonRoot"), among(True)),
    "Running as Non-root user": Rule(of_contexts("runAsUser"), lambda user: user != 0),
    "Seccomp": Rule(of_contexts("seccompProfile.type"), among("RuntimeDefault", "Localhost")),
    "Capabilities": Rule(
        of_containers("securityContext.capabilities.add"), names_within("NET_BIND_SERVICE")
    ),
    "Capabilities dropped": Rule(
        of_containers("securityContext.capabilities.drop"),
        lambda dropped: isinstance(dropped, list) and "ALL" in dropped,
    ),
}


def broken(rules: dict[str, Rule], pod: Manifest) -> list[str]:
    """The rules that the specification of a pod breaks."""
    return [name for name, rule in rules.items() if not all(map(rule.allows, rule.values(pod)))]
