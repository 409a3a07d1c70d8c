"""Clusters are read from the environment and checked; processes meet before TensorFlow starts."""

import contextlib
import json
import re
import socket
import threading
import time

import pytest

from masslib.distribute import cluster, rendezvous
from masslib.distribute.cluster import Cluster
from masslib.distribute.signed import signed

pytestmark = pytest.mark.alone


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in (
        "TF_CONFIG",
        "MASSLIB_HOSTS",
        "MASSLIB_INDEX",
        "JOB_COMPLETION_INDEX",
        "SLURM_PROCID",
        "MASSLIB_SECRET",
    ):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def _tf_config(workers, index=0, kind="worker", **others):
    return json.dumps({"cluster": {"worker": workers, **others}, "task": {"type": kind, "index": index}})


def test_tf_config_tells_ranks_and_addresses(environment):
    environment.setenv("TF_CONFIG", _tf_config(["b:1", "c:1"], 1, chief=["a:1"]))
    found = cluster.from_environment()
    assert found.training == ("a:1", "b:1", "c:1")
    assert (found.rank, found.address) == (2, "c:1")


@pytest.mark.parametrize("name", ["MASSLIB_INDEX", "JOB_COMPLETION_INDEX"])
def test_a_list_of_hosts_and_an_index_will_do(environment, name):
    environment.setenv("MASSLIB_HOSTS", "a:5000, b:5000")
    environment.setenv(name, "1")
    found = cluster.from_environment()
    assert (found.rank, found.address, found.kind) == (1, "b:5000", "worker")


def test_slurm_tells_the_cluster(environment, tmp_path):
    """SlurmClusterResolver asks `scontrol` for the names of the hosts."""
    scontrol = tmp_path / "scontrol"
    scontrol.write_text("#!/bin/sh\nprintf 'node1\\nnode2\\n'\n")
    scontrol.chmod(0o755)
    variables = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "SLURM_PROCID": "1",
        "SLURM_NTASKS": "2",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NODELIST": "node[1-2]",
        "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
        "SLURM_JOB_NODELIST": "node[1-2]",
        "CUDA_VISIBLE_DEVICES": "",
    }
    for name, value in variables.items():
        environment.setenv(name, value)
    found = cluster.from_environment()
    assert found.training == ("node1:8888", "node2:8888")
    assert (found.rank, found.source) == (1, "Slurm")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{oops", "TF_CONFIG is not JSON .*: '{oops'"),
        ("[1]", r"TF_CONFIG is '\[1\]'; expected something like .*\"worker\": \[\"a:5000\""),
        (_tf_config("a:1"), "the addresses of 'worker' are 'a:1'; expected a list of 'host:port'"),
        (_tf_config(["a:1", "a:1"]), "a:1 stands there more than once; every process needs its own port"),
        (_tf_config(["a:1", "b:1"], 2), r"index 2 is out of range for 2 worker process\(es\)"),
        (_tf_config(["a:1", "b:1"], -1), "index -1 is out of range"),
        (_tf_config(["a:1", "b"]), "'b' is no address; expected host:port, with a port from 1 to 65535"),
        (_tf_config(["a:1", "b:99999"]), "'b:99999' is no address"),
        (_tf_config(["a:1", "http://b:1"]), "'http://b:1' is no address"),
        (_tf_config(["localhost:1", "b:1"]), "localhost:1 is this machine for each of the hosts"),
        (_tf_config(["a:1"], kind="master"), "this process is a 'master'; expected tasks among chief, worker, ps"),
        (_tf_config(["a:1"], evaluator=["b:1"]), r"the cluster has the tasks \['evaluator', 'worker'\]"),
    ],
)
def test_malformed_clusters_are_refused(environment, text, words):
    environment.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match=words):
        cluster.from_environment()


def test_a_process_of_no_cluster_learns_how_to_become_one(environment):
    with pytest.raises(ValueError, match="not part of a cluster; start the processes by masslib.launch or"):
        cluster.from_environment()
    environment.setenv("MASSLIB_HOSTS", "a:1,b:1")
    with pytest.raises(ValueError, match=r"names 2 hosts, but MASSLIB_INDEX \(or .*\) is ''; .* from 0 to 1"):
        cluster.from_environment()


def _free(count=1):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = tuple(f"127.0.0.1:{opened.getsockname()[1]}" for opened in sockets)
    for opened in sockets:
        opened.close()
    return addresses


def test_ports_in_use_and_unknown_hosts_are_refused_before_anything_starts():
    with socket.create_server(("", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(ValueError, match=r"port \d+ of this process \(worker 0\) cannot be opened .*in use"):
            cluster.check_ports(Cluster({"worker": (address, *_free())}, "worker", 0, "TF_CONFIG"))
    with pytest.raises(ValueError, match="the host of 'no.such.host.invalid:5000' has no address"):
        cluster.check_ports(Cluster({"worker": (*_free(), "no.such.host.invalid:5000")}, "worker", 0, "TF_CONFIG"))


def _meet(abouts, present, timeout=20.0):
    """Let the given ranks meet, each in a thread; return what each raised."""
    addresses = _free(len(abouts))
    outcomes = {}

    def run(rank):
        try:
            rendezvous.meet(Cluster({"worker": addresses}, "worker", rank, "TF_CONFIG"), abouts[rank], timeout)
            outcomes[rank] = None
        except (ValueError, RuntimeError) as error:
            outcomes[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in present]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout + 20)
        assert not thread.is_alive()
    return outcomes


def test_all_meet_in_any_order():
    assert _meet([{"keras": "3"}] * 3, present=[2, 1, 0]) == {0: None, 1: None, 2: None}


def test_the_one_that_never_comes_is_named_on_all_others():
    start = time.monotonic()
    outcomes = _meet([{}] * 4, present=[0, 1, 3], timeout=2)
    assert time.monotonic() - start < 10
    assert len({str(error) for error in outcomes.values()}) == 1
    assert all(isinstance(error, RuntimeError) for error in outcomes.values())
    assert "worker 2 at 127.0.0.1:" in str(outcomes[1])
    assert "has not come within 2 s" in str(outcomes[1])
    alone = _meet([{}] * 2, present=[1], timeout=1)[1]
    assert str(alone).startswith("worker 0 at 127.0.0.1:")


def test_workers_that_were_started_differently_are_refused_with_the_difference():
    outcomes = _meet([{"keras": "3.15", "script": "a"}, {"keras": "3.14", "script": "a"}], present=[0, 1])
    for error in outcomes.values():
        assert isinstance(error, ValueError)
        assert str(error) == "worker 1 was started differently from worker 0: keras 3.14 there, 3.15 here"


def _meeting(secrets, timeout=20.0):
    """Let two processes meet in threads; return their addresses, the threads, and what each raises."""
    addresses, outcomes = _free(2), {}

    def run(rank):
        try:
            found = Cluster({"worker": addresses}, "worker", rank, "TF_CONFIG", secrets[rank])
            outcomes[rank] = rendezvous.meet(found, {"keras": "3"}, timeout)
        except (ValueError, RuntimeError) as error:
            outcomes[rank] = error

    return addresses, [threading.Thread(target=run, args=(rank,)) for rank in (0, 1)], outcomes


def _connected(address):
    for _ in range(100):
        try:
            return socket.create_connection(cluster.split(address), timeout=10)
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(address)


FORGED = json.dumps({"rank": 1, "about": {}}).encode()
LINES = [
    b"",
    b"\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"{}\n",
    FORGED + b"\n",
    b"0" * 64 + b" " + FORGED + b"\n",
    b"[" * 60_000 + b"\n",
    b"x" * (1 << 20),
    b"\xff\xfe\n",
]


@pytest.mark.parametrize("secret", ["", "of the cluster"])
def test_strangers_at_the_port_do_no_harm(secret):
    addresses, (chief, worker), outcomes = _meeting([secret, secret])
    chief.start()
    silent = [_connected(addresses[0]) for _ in range(20)]
    start = time.monotonic()
    for words in LINES:
        with _connected(addresses[0]) as stranger, contextlib.suppress(ConnectionError):
            stranger.sendall(words)
            stranger.shutdown(socket.SHUT_WR)
            while stranger.recv(1 << 16):
                pass
    worker.start()
    for thread in (chief, worker):
        thread.join(20)
    assert outcomes == {0: None, 1: None}
    assert time.monotonic() - start < 5, "nobody waits for those that keep silent"
    for stranger in silent:
        stranger.close()


def test_a_worker_with_another_secret_is_refused_and_both_say_so():
    _, threads, outcomes = _meeting(["one", "two"], timeout=2)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    words = "if it was a worker, its MASSLIB_SECRET was another one"
    assert re.search(rf"worker 1 at .* has not come within 2 s; .* connections were refused: {words}", str(outcomes[0]))
    assert re.search(rf"worker 0 at .* has not answered; .* \(it refused this process: {words}\)", str(outcomes[1]))


def test_a_worker_that_is_started_again_while_others_are_awaited_is_no_second_one():
    addresses = _free(3)
    clusters = [Cluster({"worker": addresses}, "worker", rank, "TF_CONFIG", "secret") for rank in range(3)]
    outcomes = []
    chief = threading.Thread(target=lambda: outcomes.append(rendezvous.meet(clusters[0], {}, 20)))
    chief.start()
    with _connected(addresses[0]) as first:
        challenge = first.makefile("rb").readline().strip()
        first.sendall(signed(clusters[1].secret, challenge, {"rank": 1, "about": {}}))
        time.sleep(0.2)
    others = [threading.Thread(target=rendezvous.meet, args=(clusters[rank], {}, 20)) for rank in (1, 2)]
    for thread in others:
        thread.start()
    for thread in (chief, *others):
        thread.join(20)
    assert outcomes == [None]


def test_rank_0_listens_at_its_own_address_alone(environment):
    (address,) = _free()
    with cluster.listening(address) as server:
        assert server.getsockname()[0] == "127.0.0.1"
    port = cluster.split(address)[1]

    def listens_at(host, resolved):
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (resolved, port))]
        environment.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        with cluster.listening(f"{host}:{port}") as server:
            return server.getsockname()[0]

    assert listens_at("127.0.0.2", "127.0.0.2") == "127.0.0.2"
    assert listens_at("debian", "127.0.1.1") == "0.0.0.0", "the others know it by another address"
    assert listens_at("behind.nat", "192.0.2.1") == "0.0.0.0", "an address of some other machine"


def test_the_secret_is_read_and_not_shown(environment):
    environment.setenv("TF_CONFIG", _tf_config(["a:1", "b:1"]))
    assert cluster.from_environment().secret == ""
    environment.setenv("MASSLIB_SECRET", "do not tell")
    found = cluster.from_environment()
    assert found.secret == "do not tell"
    assert "do not tell" not in repr(found)
