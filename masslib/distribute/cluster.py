"""Who takes part in a training: read from the environment and checked before any server starts."""

from __future__ import annotations

import errno
import ipaddress
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf

SECRET = "MASSLIB_SECRET"
"""Variable that holds what the processes of a cluster know each other by."""

_TASKS = ("chief", "worker", "ps")
_LOCAL = ("localhost", "127.0.0.1", "::1")
_HOW = (
    "start the processes by masslib.launch or `python -m masslib launch`, or set TF_CONFIG (or MASSLIB_HOSTS and "
    "MASSLIB_INDEX, or run under Slurm)"
)


@dataclass(frozen=True)
class Cluster:
    """The processes of a training, and which of them this one is.

    Attributes:
        tasks: Kind of task (`"chief"`, `"worker"`, `"ps"`) -> the addresses `host:port` of its processes.
        kind: Kind of this process.
        index: Its number among those of its kind.
        source: Where it was read from, for error messages.
        secret: What its processes know each other by.
    """

    tasks: Mapping[str, tuple[str, ...]]
    kind: str
    index: int
    source: str
    secret: str = field(default="", repr=False)

    @property
    def training(self) -> tuple[str, ...]:
        """Addresses of the processes that train in step, by rank: the chief, if there is one, and the workers."""
        return (*self.tasks.get("chief", ()), *self.tasks.get("worker", ()))

    @property
    def rank(self) -> int:
        """Place of this process in `training`."""
        return self.index if self.kind == "chief" else self.index + len(self.tasks.get("chief", ()))

    @property
    def address(self) -> str:
        """Address of this process."""
        return self.tasks[self.kind][self.index]

    def resolver(self) -> tf.distribute.cluster_resolver.ClusterResolver:
        """Return what the strategies of tf.distribute take."""
        import tensorflow as tf

        tasks = {kind: list(addresses) for kind, addresses in self.tasks.items()}
        spec = tf.train.ClusterSpec(tasks)
        return tf.distribute.cluster_resolver.SimpleClusterResolver(
            spec, task_type=self.kind, task_id=self.index, rpc_layer="grpc"
        )


def from_environment() -> Cluster:
    """Read the cluster from TF_CONFIG, from MASSLIB_HOSTS, or from Slurm, whichever is there first.

    `MASSLIB_HOSTS` is a list such as `a:5000,b:5000`, and `MASSLIB_INDEX` (or `JOB_COMPLETION_INDEX`, which Kubernetes
    sets in an indexed job) the place of this process in it. `MASSLIB_SECRET` is the secret of the cluster, if
    it has one.

    Raises:
        ValueError: If there is none, or it is malformed: the message says what was found where.
    """
    if os.environ.get("TF_CONFIG"):
        cluster = _from_tf_config(os.environ["TF_CONFIG"])
    elif os.environ.get("MASSLIB_HOSTS"):
        cluster = _from_hosts(os.environ["MASSLIB_HOSTS"])
    elif os.environ.get("SLURM_PROCID"):
        cluster = _from_slurm()
    else:
        raise ValueError(f"this process is not part of a cluster; {_HOW}")
    _check(cluster)
    return replace(cluster, secret=os.environ.get(SECRET, ""))


def check_ports(cluster: Cluster) -> None:
    """Check that all hosts have an address, and that the port of this process is free.

    Raises:
        ValueError: If not, with the address.
    """
    for addresses in cluster.tasks.values():
        for address in addresses:
            host, port = split(address)
            try:
                socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except socket.gaierror as error:
                raise ValueError(f"{cluster.source}: the host of {address!r} has no address ({error})") from None
    port = split(cluster.address)[1]
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("", port))  # as TensorFlow's server will
    except OSError as error:
        raise ValueError(
            f"{cluster.source}: port {port} of this process ({cluster.kind} {cluster.index}) cannot be opened "
            f"({error.strerror}); end the process that has it, or choose another port"
        ) from None


def listening(address: str) -> socket.socket:
    """Listen at `host:port`, an address of this machine, and at no other one."""
    host, port = split(address)
    family, _, _, _, resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    if ipaddress.ip_address(resolved[0]).is_loopback and not _is_local(host):
        # Debian lets the name of a machine be 127.0.1.1 on the machine itself, where nobody else could connect.
        return socket.create_server(("", port), family=family)
    try:
        return socket.create_server(resolved, family=family)
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
        # The others reach this machine by the address of another one, such as the host of a container.
        return socket.create_server(("", port), family=family)


def _is_local(host: str) -> bool:
    return host in _LOCAL or host.startswith("127.")


def split(address: str) -> tuple[str, int]:
    """Cut `host:port` in two."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _from_tf_config(text: str) -> Cluster:
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"TF_CONFIG is not JSON ({error}): {text!r}") from None
    example = '{"cluster": {"worker": ["a:5000", "b:5000"]}, "task": {"type": "worker", "index": 0}}'
    match config:
        case {"cluster": dict(tasks), "task": {"type": str(kind), "index": int(index)}}:
            return Cluster({name: _listed(name, found) for name, found in tasks.items()}, kind, index, "TF_CONFIG")
    raise ValueError(f"TF_CONFIG is {text!r}; expected something like {example}")


def _listed(name: str, addresses: Any) -> tuple[str, ...]:
    if not isinstance(addresses, list) or not all(isinstance(address, str) for address in addresses):
        raise ValueError(f"TF_CONFIG: the addresses of {name!r} are {addresses!r}; expected a list of 'host:port'")
    return tuple(addresses)


def _from_hosts(text: str) -> Cluster:
    hosts = tuple(address.strip() for address in text.split(",") if address.strip())
    index = os.environ.get("MASSLIB_INDEX") or os.environ.get("JOB_COMPLETION_INDEX") or ""
    if not index.isdecimal():
        raise ValueError(
            f"MASSLIB_HOSTS names {len(hosts)} hosts, but MASSLIB_INDEX (or JOB_COMPLETION_INDEX) is {index!r}; "
            f"expected the place of this process in it, from 0 to {len(hosts) - 1}"
        )
    return Cluster({"worker": hosts}, "worker", int(index), "MASSLIB_HOSTS")


def _from_slurm() -> Cluster:
    import tensorflow as tf

    try:
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver()
        tasks = resolver.cluster_spec().as_dict()
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        raise ValueError(f"Slurm's variables do not tell the cluster: {error}; start the script by srun") from error
    tasks = {kind: tuple(addresses) for kind, addresses in tasks.items()}
    return Cluster(tasks, resolver.task_type, resolver.task_id, "Slurm")


def _check(cluster: Cluster) -> None:
    source = cluster.source
    unknown = cluster.tasks.keys() - set(_TASKS)
    if unknown or cluster.kind not in cluster.tasks:
        raise ValueError(
            f"{source}: the cluster has the tasks {sorted(cluster.tasks)}, this process is a {cluster.kind!r}; "
            f"expected tasks among {', '.join(_TASKS)}"
        )
    addresses = [address for listed in cluster.tasks.values() for address in listed]
    count = len(cluster.tasks[cluster.kind])
    if not 0 <= cluster.index < count:
        raise ValueError(f"{source}: index {cluster.index} is out of range for {count} {cluster.kind} process(es)")
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or "/" in address or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(f"{source}: {address!r} is no address; expected host:port, with a port from 1 to 65535")
    twice = sorted({address for address in addresses if addresses.count(address) > 1})
    if twice:
        raise ValueError(f"{source}: {', '.join(twice)} stands there more than once; every process needs its own port")
    local = [address for address in addresses if _is_local(split(address)[0])]
    if local and len(local) < len(addresses):
        raise ValueError(
            f"{source}: {', '.join(local)} is this machine for each of the hosts, and others cannot reach it; name the "
            "host as the other ones know it"
        )
