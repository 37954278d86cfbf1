"""Two clones with a cache each and one remote, one of them on a processor of another kind: no result is mistaken."""

import subprocess

import pytest

from flows.dvc.session import DvcSession
from gan.runtime import processor_kind
from tests.helpers.pipeline_project import Project

OTHER = "Intel 6-1"  # which has no AVX2: no machine is one
CPUINFO = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 1\nflags\t\t: fpu sse2 fma avx avx2\n"
GRAPH = {  # rounds by the processor
    "network": "conv",
    "generator_units": [4, 4],
    "discriminator_units": [4, 4, 8],
    "compiler": "graph",
    "steps": 21,
    "log_every_steps": 10,
}


def on_other_processor(cpuinfo):
    """The start of a command line that shows what follows `cpuinfo` for its machine's processor."""
    return ["unshare", "-m", "sh", "-c", f'mount --bind {cpuinfo} /proc/cpuinfo && exec "$@"', "sh"]


class Clone(Project):
    """A clone of a Project with an empty cache of its own; commands run on a processor of another kind."""

    def __init__(self, folder, origin, prefix):
        self.folder, self.environment, self._prefix = folder, origin.environment, prefix
        who = ["-c", "user.name=A Tester", "-c", "user.email=tester@example.org"]
        subprocess.run(["git", "clone", "-q", *who, origin.folder, folder], check=True)

    def run(self, *command, check=True):
        return super().run(*self._prefix, *command, check=check)


def share(giver, taker):
    """Give the taker what the giver has made, as the flow does: data over the remote, and by a lock what they were made of."""
    giver.commit("trained")
    giver.run("dvc", "push", "-q")
    commit = giver.run("git", "rev-parse", "HEAD").strip()
    taker.run("git", "fetch", "-q", str(giver.folder), "main")
    with DvcSession(taker.folder, grace_seconds=10) as session:
        assert session.remember([commit], taker.folder / ".dvc/tmp/known.json") == 1


@pytest.mark.slow(seconds=20)
def test_a_shared_run_cache_never_gives_one_processors_result_for_anothers(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(CPUINFO)
    prefix = on_other_processor(cpuinfo)
    if subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("needs the right to mount (root), to show another processor")
    here = processor_kind()
    a = Project(tmp_path / "a")
    a.edit(lambda params: params["train"].update(**GRAPH, processor=here))
    a.run("dvc", "remote", "add", "-q", "-d", "storage", str(tmp_path / "storage"))
    a.repro("train")
    a.commit("trained")
    trained = (a.folder / "dvc.lock").read_text()

    b = Clone(tmp_path / "b", a, prefix)
    assert b.run("python", "-c", "from gan.runtime import processor_kind; print(processor_kind())").strip() == OTHER
    share(a, b)
    # what was asked for is A's result, and comes from A's entry
    (b.folder / "dvc.lock").unlink()
    assert b.repro("--pull", "train") == ([], ["fetch", "normalize", "train"])
    assert (b.folder / "dvc.lock").read_text() == trained
    # a result of A's processor cannot be computed here
    b.edit(lambda params: params["train"].update(seed=1))
    refused = b.run("dvc", "repro", "train", check=False)
    assert refused.returncode != 0
    assert f"processor = '{here}': this machine's is '{OTHER}'" in refused.stdout
    assert "Traceback" not in refused.stdout
    # and one of this processor is never restored from A's
    b.edit(lambda params: params["train"].update(seed=0, processor=OTHER))
    assert b.repro("--pull", "train") == (["train"], [])
    # back on A nothing of B's is taken for A's either
    share(b, a)
    (a.folder / "dvc.lock").unlink()
    assert a.repro("--pull", "train") == ([], ["fetch", "normalize", "train"])
    assert (a.folder / "dvc.lock").read_text() == trained
