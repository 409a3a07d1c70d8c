"""Two hosts on one machine: network namespaces with a cable between them."""

import os
import shutil
import subprocess
from contextlib import contextmanager

import pytest


@contextmanager
def two_hosts(*addresses):
    """Two namespaces with these addresses, joined by the devices `va` and `vb`; yields their names, or skips."""
    if not shutil.which("ip") or os.geteuid() != 0:
        pytest.skip("two hosts are made of network namespaces, which takes root and iproute2")
    names = [f"masslib{os.getpid()}-{side}" for side in "ab"]
    made = [["ip", "netns", "add", name] for name in names]
    made.append(["ip", "link", "add", "va", "netns", names[0], "type", "veth", "peer", "name", "vb", "netns", names[1]])
    for name, device, address in zip(names, ("va", "vb"), addresses, strict=True):
        inside = ["ip", "-n", name]
        made += [
            [*inside, "addr", "add", f"{address}/24", "dev", device],
            [*inside, "link", "set", device, "up"],
            [*inside, "link", "set", "lo", "up"],
        ]
    try:
        for command in made:
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"{' '.join(command)}: {done.stderr.strip()}")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
