"""Several nodes of Spark and Ray: the bytes and weights of one machine, also when one of them is lost."""

import json
import subprocess
import sys
import time

import nodes
import numpy as np
import pytest
from namespaces import two_hosts

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Shards and weights of this machine alone."""
    folder = tmp_path_factory.mktemp("local")
    alone = nodes.Nodes(folder)
    files = alone.answer(alone.drive("shards", folder / "shards"))
    first, second = alone.answer(_fit(alone, folder))
    assert first["weights"] == second["weights"]
    return files, first["weights"]


@pytest.fixture(scope="module", params=["spark", "ray"])
def loopback(request, tmp_path_factory):
    """Two nodes at two addresses of this machine."""
    with nodes.cluster(request.param, tmp_path_factory.mktemp(request.param)) as two:
        yield two


@pytest.fixture(scope="module")
def hosts():
    """Two network namespaces with a cable between them; what enters each, and their addresses."""
    addresses = ["10.78.0.1", "10.78.0.2"]
    with two_hosts(*addresses) as names:
        yield addresses, [("ip", "netns", "exec", name) for name in names]


def _fit(two, folder, killed="", workers=2, epochs=2):
    return two.drive("fit", folder / "checkpoint", killed, workers, epochs)


def _check(two, results, expected, killed, hosts):
    attempt = "1" if killed else "0"
    assert [(result["rank"], result["attempt"], result["weights"]) for result in results] == [
        (rank, attempt, expected) for rank in (0, 1)
    ]
    # A lost executor is replaced, but both workers may start on the other node before.
    where = {result["node"] for result in results}
    assert where == {"0"} if killed == "node" else where == {"0", "1"} or killed == "executor" and where == {"0"}
    for result in results:
        assert {address.rpartition(":")[0] for address in result["addresses"]} <= {*hosts, "127.0.0.1"}
    end = time.monotonic() + 60
    while two.workers() and time.monotonic() < end:
        time.sleep(0.1)
    assert not two.workers()
    # What a host without power had on its disk is still there when it comes back.
    kept = [path for node in (0, 1) for path in two.scratch(node).rglob("masslib-*")]
    assert killed == "node" or not kept


@pytest.mark.slow
def test_nodes_write_the_shards_of_one_machine(loopback, expected, tmp_path):
    assert loopback.answer(loopback.drive("shards", tmp_path / "shards")) == expected[0]


@pytest.mark.slow
@pytest.mark.parametrize("killed", ["", "worker", "executor", "node"])  # the node last, for it does not come back
def test_two_nodes_end_with_the_weights_of_one_machine(loopback, expected, killed, tmp_path):
    results = loopback.answer(_fit(loopback, tmp_path, killed))
    _check(loopback, results, expected[1], killed, loopback.hosts)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["spark", "ray"])
def test_two_hosts_do_as_one_machine(kind, hosts, expected, tmp_path):
    addresses, within = hosts
    with nodes.cluster(kind, tmp_path, addresses, within) as two:
        assert two.answer(two.drive("shards", tmp_path / "shards")) == expected[0]
        for killed in ("", "worker", "executor", "node"):
            results = two.answer(_fit(two, tmp_path / f"killed-{killed}", killed))
            _check(two, results, expected[1], killed, addresses)
            if killed in ("", "worker"):
                assert {address.rpartition(":")[0] for address in results[0]["addresses"]} == set(addresses)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["spark", "ray"])
def test_fewer_workers_go_on_without_a_lost_node_and_more_when_it_is_back(kind, tmp_path):
    """Each node has room for one worker; what the second one began ends with both again."""
    alone = nodes.Nodes(tmp_path)
    calm, _ = alone.answer(_fit(alone, tmp_path / "calm", epochs=5))
    cpus = 2 if kind == "spark" else 1  # Spark counts two cores at least
    with nodes.cluster(kind, tmp_path, cores=cpus, cpus=cpus) as two:
        driver = _fit(two, tmp_path, "node", [1, 2], epochs=5)
        said = []
        for line in driver.stdout:
            said.append(line.strip())
            if line.endswith("with 1\n") and "back" not in said:
                said.append("back")
                two.join(1)
            if line.startswith("["):
                break
        results = two.answer_of(driver, said[-1])
    trained = [line.rpartition(" ")[2] for line in said if line.startswith("epoch")]
    assert "".join(dict.fromkeys(trained)) == "21" and trained[-1] == "2", said
    assert [result["workers"] for result in results] == [2, 2]
    np.testing.assert_allclose(results[0]["values"], calm["values"], rtol=1e-4, atol=1e-6)


_HUB = """
import json, time
from masslib.launcher.hub import Hub

hub = Hub("10.78.0.1", 1)
print(json.dumps([hub.invitation.host, hub.invitation.port, hub.invitation.secret]), flush=True)
assert hub.events.get(timeout=60) == (0, {"address": "10.78.0.2"})
print("met", flush=True)
assert hub.events.get(timeout=60) == (0, None)
print("lost", flush=True)
hub.close()
"""
_MEMBER = """
import sys, time
from masslib.launcher.hub import Invitation, Link

link = Link.to(Invitation(sys.argv[1], int(sys.argv[2]), sys.argv[3]), 0)
link.send({"address": link.host})
time.sleep(30)  # silence alone is no loss
try:
    link.receive()
except OSError:
    print("lost", flush=True)
"""


@pytest.mark.exhaustive
def test_both_ends_notice_a_pulled_cable(hosts):
    _, within = hosts
    options = {"stdout": subprocess.PIPE, "text": True, "cwd": nodes.ROOT}
    with subprocess.Popen([*within[0], sys.executable, "-c", _HUB], **options) as hub:
        invitation = [str(part) for part in json.loads(hub.stdout.readline())]
        with subprocess.Popen([*within[1], sys.executable, "-c", _MEMBER, *invitation], **options) as member:
            assert hub.stdout.readline() == "met\n"
            time.sleep(32)
            cable = ["ip", "-n", within[0][-1], "link", "set", "va"]
            subprocess.run([*cable, "down"], check=True)
            start = time.monotonic()
            assert [hub.stdout.readline(), member.stdout.readline()] == ["lost\n", "lost\n"]
            assert 15 < time.monotonic() - start < 35
            subprocess.run([*cable, "up"], check=True)
            assert (hub.wait(5), member.wait(5)) == (0, 0)
