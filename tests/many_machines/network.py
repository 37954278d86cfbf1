"""Hosts of network namespaces on this machine, joined by a bridge: each has an address, and its cable can be pulled."""

import contextlib
import os
import shutil
import subprocess
from dataclasses import dataclass

_PREFIX = "10.213.77."


def why_not():
    """Why there can be no such network here, in one line; None where there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if missing := [name for name in ("ip", "unshare") if shutil.which(name) is None]:
        return f"{missing[0]} is not installed"
    probe = subprocess.run(["unshare", "--net", "ip", "link", "add", "probe", "type", "bridge"], capture_output=True, text=True)
    return None if probe.returncode == 0 else f"network namespaces are not allowed here: {probe.stderr.strip()[:100]}"


@dataclass(frozen=True)
class Host:
    """One host of a Network."""

    name: str
    address: str
    namespace: str
    switch: str  # the namespace of the bridge

    def command(self, *words):
        """`words` as a command that runs on this host."""
        return ["ip", "netns", "exec", self.namespace, *map(str, words)]

    def pull_cable(self):
        """From now on nothing reaches this host, and nothing says so."""
        _ip("-n", self.switch, "link", "set", f"to-{self.name}", "down")

    def plug_cable(self):
        """Put it in again."""
        _ip("-n", self.switch, "link", "set", f"to-{self.name}", "up")


@contextlib.contextmanager
def network(names):
    """Yield name -> Host; all of it is gone at the end of the block. names: at most seven letters each."""
    unique = f"gan{os.getpid()}"
    switch = f"{unique}-switch"
    made = []
    try:
        _ip("netns", "add", switch)
        made.append(switch)
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        hosts = {}
        for number, name in enumerate(names, start=1):
            host = Host(name, f"{_PREFIX}{number}", f"{unique}-{name}", switch)
            _ip("netns", "add", host.namespace)
            made.append(host.namespace)
            _ip("-n", switch, "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
            _ip("-n", switch, "link", "set", f"to-{name}", "master", "bridge", "up")
            _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", host.namespace, "link", "set", device, "up")
            hosts[name] = host
        yield hosts
    finally:
        for namespace in made:
            subprocess.run(["ip", "netns", "delete", namespace], check=False, capture_output=True)


def _ip(*words):
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
