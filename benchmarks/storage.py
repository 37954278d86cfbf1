"""A storage host on this machine, for the benchmarks and the tests: sshd with keys of its own, a git remote and a DVC remote."""

import getpass
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path


def sshd():
    """The path of sshd, or None."""
    return shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")


@dataclass(frozen=True)
class Storage:
    """What is in `folder`: the keys of host and user, `git`, a repository, and `dvc`, the folder of a DVC remote."""

    folder: Path
    host: str  # by which its clients reach it
    port: int = 22

    def create(self):
        """Make all of it."""
        self.folder.mkdir()
        for name in ("host_key", "user_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)], check=True)
        (self.folder / "dvc").mkdir()
        subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", str(self.folder / "git")], check=True)
        (self.folder / "sshd_config").write_text(
            f"HostKey {self.folder}/host_key\nAuthorizedKeysFile {self.folder}/user_key.pub\nStrictModes no\nUsePAM no\n"
            f"PermitRootLogin yes\nPasswordAuthentication no\nPidFile none\nSubsystem sftp internal-sftp\n"
        )
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)  # the folder that sshd shuts its unprivileged part in
        return self

    def command(self, *options):
        """The command that serves it until it is ended."""
        return [sshd(), "-D", "-e", "-f", str(self.folder / "sshd_config"), *options]

    def url(self, name):
        """How clients call `git` or `dvc` in it."""
        return f"ssh://{getpass.getuser()}@{self.host}:{self.port}{self.folder}/{name}"

    def let_in(self, home):
        """Make the folder `home` that of a user who is let in; further environment of that user's commands."""
        (home / ".ssh").mkdir(parents=True)
        kind, key, *_ = (self.folder / "host_key.pub").read_text().split()
        name = self.host if self.port == 22 else f"[{self.host}]:{self.port}"
        (home / ".ssh/known_hosts").write_text(f"{name} {kind} {key}\n")
        shutil.copy(self.folder / "user_key", home / ".ssh/id_ed25519")
        options = f"-F none -i {home}/.ssh/id_ed25519 -o UserKnownHostsFile={home}/.ssh/known_hosts"
        alive = "-o BatchMode=yes -o ServerAliveInterval=15 -o ServerAliveCountMax=8"
        return {"HOME": str(home), "GIT_SSH_COMMAND": f"ssh {options} {alive}"}
