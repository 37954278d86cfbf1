"""The one DVC process of a run, a child of the flow: it imports DVC once and then answers requests, one JSON line each.

Requests come on standard input, answers go to the file descriptor given as the first argument; what DVC and the stages print goes
to standard output. When standard input ends, the flow is gone (killed, perhaps): then the stage in progress is asked to end, and
killed after a grace period, so that nothing is left behind. It runs as a file, not as `flows.…`: its folder may be any project.
"""

import contextlib
import glob
import hashlib
import json
import os
import queue
import shutil
import signal
import sys
import threading
import time
import urllib.request

_END = b"\0end of output\0"
# where nobody has set them: a transfer hangs at more sessions than sshd's MaxSessions (ten), and a host is given up after
# ten minutes, not after thirty
_SSH = {"jobs": 4, "max_sessions": 4, "timeout": 600}
_LAST_OUTPUT_SECONDS = 1  # a process that a stage left behind may hold the output open
_interrupted = threading.Event()


def main():
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # a stage that reads its standard input must not eat a request
    answers = int(sys.argv[1])
    os.set_inheritable(answers, False)
    grace_seconds = float(sys.argv[2])
    early = sys.argv[3:] == ["early"]
    # a shell's background job ignores SIGINT, and so would the trainer
    signal.signal(signal.SIGINT, _interrupt)
    sys.unraisablehook = _quiet_if_interrupted
    pending, finished = queue.SimpleQueue(), queue.SimpleQueue()
    busy, over = threading.Event(), threading.Event()
    destination = os.dup(1)
    forwarder = threading.Thread(target=_forward, args=(_take_output(), destination, answers, finished), daemon=True)
    forwarder.start()
    watcher = threading.Thread(target=_watch, args=(requests, pending, busy, over, grace_seconds), daemon=True)
    watcher.start()
    alone = False  # whether a signal came to this process alone: then the flow waits for an answer, and takes its end for one
    try:
        _serve(pending, busy, finished, early)
    except KeyboardInterrupt:
        busy.clear()
        alone = not over.is_set()
    if not alone:
        watcher.join()
    for descriptor in (1, 2):  # the end of the output, which the forwarder waits for
        os.dup2(0, descriptor)
    forwarder.join(_LAST_OUTPUT_SECONDS)
    os._exit(0)  # all that DVC does is on disk when it answers; taking its modules down takes a tenth of a second


def _serve(pending, busy, finished, early):
    import configobj
    import dvc.repo
    import dvc.stage.run
    import dvc.utils.serialize._common as serialize
    from dvc.cli import main as dvc_main
    from dvc.stage.cache import StageCache

    configobj.ConfigObj.write = _in_utf8(configobj.ConfigObj.write)
    dvc.stage.run.cmd_run = _saved_after(dvc.stage.run.cmd_run)
    serialize._dump_data = _whole_or_not_at_all(serialize._dump_data)
    # `dvc repro --pull` would fetch the whole run cache of the remote for each stage; versions bring what is needed of it
    StageCache.pull = lambda *_: []
    StageCache._create_stage = _of_right_listings(StageCache._create_stage)
    if early:  # what the first request needs is loaded while the flow still loads Prefect; this takes none of DVC's locks
        with contextlib.suppress(Exception), dvc.repo.Repo() as repo:  # the request itself will say what is wrong
            _in_order(repo)
    while (request := pending.get()) is not None:
        busy.set()
        try:
            answer = _answer(request, dvc_main, dvc.repo.Repo)
        except Exception as error:  # it crosses a process boundary, so it is handed over as text
            answer = {"error": f"{type(error).__name__}: {error}"}
        signal.signal(signal.SIGINT, _interrupt)
        sys.stdout.flush()
        sys.stderr.flush()
        busy.clear()
        finished.put(json.dumps(answer).encode() + b"\n")
        os.write(1, _END)


def _interrupt(signal_number, frame):
    _interrupted.set()
    signal.default_int_handler(signal_number, frame)


def _quiet_if_interrupted(unraisable):
    """Python's hook for exceptions in a destructor, but for a SIGINT that came in one or cut off the making of the object.

    Nobody needs to know.
    """
    if not _interrupted.is_set() and not issubclass(unraisable.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)


def _in_utf8(write):
    """A ConfigObj's `write`, in UTF-8: DVC's is in ASCII and cannot name a cache or a remote in a folder of other letters."""

    def write_in_utf8(config, *arguments, **options):
        config.default_encoding = "utf-8"
        return write(config, *arguments, **options)

    return write_in_utf8


def _saved_after(cmd_run):
    """DVC's function that runs a stage's command, after which no SIGINT cuts the saving of what the stage has made.

    It would have to run again from its beginning: a training that has ended keeps no checkpoint.
    """

    def run(*arguments, **named):
        cmd_run(*arguments, **named)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # until the request is answered

    return run


def _whole_or_not_at_all(dump_data):
    """DVC's function that writes dvc.lock, by way of a temporary file: a signal in the middle would leave a lock that is none."""

    def dump(path, *arguments, **named):
        folder, name = os.path.split(os.path.abspath(path))
        temporary = os.path.join(folder, ".dvc", "tmp", name)
        beside = os.path.isdir(os.path.dirname(temporary))  # as dvc.lock is, and perhaps not what else DVC writes
        dump_data(temporary if beside else path, *arguments, **named)
        if beside:
            with contextlib.suppress(FileNotFoundError):
                shutil.copymode(path, temporary)
            os.replace(temporary, path)

    return dump


def _of_right_listings(create_stage):
    """DVC's function that finds an earlier run's outputs in its cache, without the listings that are not of their bytes any more.

    DVC would hand out a changed name in one for the output's, and write the listing's new hash into dvc.lock.
    """

    def create(*arguments, **named):
        stage = create_stage(*arguments, **named)
        for out in stage.outs:
            if (name := str(out.hash_info.value)).endswith(".dir"):
                path = out.cache.oid_to_path(name)
                with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
                    if hashlib.md5(file.read(), usedforsecurity=False).hexdigest() != name.removesuffix(".dir"):
                        os.unlink(path)
        return stage

    return create


def _forward(output, destination, answers, finished):
    """Hand the output on, and each answer after all output before it.

    The stages write to this process and not to the flow: a trainer whose flow was killed must not die of a broken pipe
    before it has saved.
    """
    rest = b""
    while data := os.read(output, 65536):
        *complete, rest = (rest + data).split(_END)
        for part in complete:
            _write(destination, part)
            _write(answers, finished.get())
        held = next((count for count in range(len(_END) - 1, 0, -1) if rest.endswith(_END[:count])), 0)
        _write(destination, rest[: len(rest) - held])
        rest = rest[len(rest) - held :]


def _take_output():
    """Let everything that this process and its children print go through a pipe of its own; the pipe's end to read."""
    output, end = os.pipe()
    os.dup2(end, 1)
    os.dup2(end, 2)
    os.close(end)
    return output


def _write(descriptor, data):
    with contextlib.suppress(BrokenPipeError):
        while data:
            data = data[os.write(descriptor, data) :]


def _watch(requests, pending, busy, over, grace_seconds):
    """Take requests in; when they end without a goodbye, see to it that everything ends in order."""
    request = None
    for line in requests:
        request = json.loads(line)
        pending.put(None if request == "goodbye" else request)
    over.set()
    if request == "goodbye":
        return
    if busy.is_set():
        os.killpg(0, signal.SIGINT)
        _wait(lambda: not busy.is_set(), grace_seconds)
    try:
        if "PIPELINE_RUN" in os.environ:
            _report(**json.loads(os.environ["PIPELINE_RUN"]))
    finally:  # whatever a server answers, this process holds the run's lock and must end
        pending.put(None)
        if busy.is_set():
            os.killpg(0, signal.SIGKILL)


def _report(api, headers, flow_run, parent):
    """Tell Prefect that the run is cancelled if the worker has ended too: a worker's SIGTERM leaves its runs no time to say so.

    A worker that lives reports the run's crash itself.
    """
    if not _wait(lambda: not os.path.exists(f"/proc/{parent}"), 5):
        return
    state = {"type": "CANCELLED", "name": "Cancelled", "message": "its worker was stopped; the next run goes on from there"}
    content = json.dumps({"state": state, "force": True}).encode()
    headers = {"Content-Type": "application/json", **headers}
    request = urllib.request.Request(f"{api}/flow_runs/{flow_run}/set_state", content, headers)
    with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=10):
        pass


def _wait(condition, seconds):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def _answer(request, dvc_main, repo_class):
    if "dvc" in request:
        return {"code": dvc_main(request["dvc"]) or 0}
    if "share" in request:
        return _share(request["share"], repo_class)
    if "remember" in request:
        with repo_class() as repo:
            return {"news": _sharing().remember(repo, **request["remember"])}
    if "try_remote" in request:
        with repo_class() as repo:
            return {"url": _sharing().try_remote(repo)}
    if "push" in request:
        with repo_class() as repo:
            return {"code": _sharing().push(repo, dvc_main, request["push"])}
    if "in_run_cache" in request:
        return {"found": _in_run_cache(request["in_run_cache"], repo_class)}
    if "unused" in request:
        return _unused(request["unused"], repo_class)
    return _describe(repo_class)


def _describe(repo_class):
    """The stages in order, what each needs and makes, and which of them have changed."""
    from dvc.repo import lock_repo

    with repo_class() as repo, lock_repo(repo):  # held over both questions, or DVC would read its files anew for the second
        order, graph = _in_order(repo)
        described = [
            {
                "name": stage.addressing,
                "needs": [need.addressing for need in graph.predecessors(stage)],
                "outs": [
                    {"path": os.path.relpath(out.fs_path, repo.root_dir), "cached": out.use_cache, "metric": bool(out.metric)}
                    for out in stage.outs
                ],
            }
            for stage in order
        ]
        changed = sorted(repo.status())
        return {"stages": described, "changed": changed, "remote": repo.config["core"].get("remote")}


def _in_run_cache(name, repo_class):
    """Whether the stage of this name was run before with what it depends on now, and its outputs are in the cache.

    `dvc repro --dry` does not tell: it looks the stage up by what it depended on last.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import lock_repo
    from dvc_data.hashfile.hash_info import HashInfo

    with repo_class() as repo, lock_repo(repo):
        stage = repo.stage.load_one(name=name)
        try:
            stage.save_deps()
            for out in stage.outs:
                out.hash_info = HashInfo()  # what the lock names was made of other things
            repo.stage_cache.restore(stage, dry=True)
        except (DvcException, FileNotFoundError):
            return False
    return True


def _unused(commits, repo_class):
    """What `dvc gc` would remove if there were these commits alone, the experiments and the working tree.

    The number of files and their bytes; and of how many runs of stages that DVC remembers it would take outputs away.
    """
    from dvc.repo import lock_repo
    from dvc.utils.serialize import load_yaml

    with repo_class() as repo, lock_repo(repo):
        used = {item.value for items in repo.used_objs(revs=commits, all_experiments=True, force=True).values() for item in items}
        caches = {odb.path: odb for _, odb in repo.cache.by_scheme() if odb}
        unused = {oid: odb.oid_to_path(oid) for odb in caches.values() for oid in odb.all() if oid not in used}
        in_git = {os.path.relpath(out.fs_path, repo.root_dir) for out in repo.index.outs if not out.use_cache}
        entries = map(load_yaml, glob.glob(os.path.join(repo.stage_cache.cache_dir, "??", "*", "*")))
        runs = [any(out.get("md5") in unused and out["path"] not in in_git for out in entry["outs"]) for entry in entries]
        return {"files": len(unused), "bytes": sum(map(os.path.getsize, unused.values())), "runs": sum(runs)}


def _in_order(repo):
    """The stages in an order that DVC could run them in, as near to dvc.yaml's as it gets, and their graph."""
    import networkx

    stages = [stage for stage in repo.index.stages if stage.cmd]
    position = {stage: number for number, stage in enumerate(stages)}
    graph = repo.index.graph.reverse().subgraph(stages)
    return list(networkx.lexicographical_topological_sort(graph, key=position.__getitem__)), graph


def _sharing():
    """The module beside this file; no package holds it here."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("sharing", os.path.join(os.path.dirname(__file__), "sharing.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _share(main_root, repo_class):
    """Let the repository in the current folder use the cache and the remotes of the one in `main_root`.

    Its commit may be older than these remotes, as that of a version which was recorded before there were any.
    """
    with repo_class(main_root) as main:
        local = main.config.load_one("local")
        cache_dir = main.cache.local.path
        if os.path.basename(os.path.dirname(cache_dir)) == "files":  # DVC 3 keeps its objects in <cache>/files/md5
            cache_dir = os.path.dirname(os.path.dirname(cache_dir))
        remotes = {name: dict(remote) for name, remote in main.config["remote"].items()}
        default = main.config["core"].get("remote")
    with repo_class() as repo, repo.config.edit("local") as config:
        for section, values in local.items():
            config.setdefault(section, {}).update(values)
        config.setdefault("cache", {})["dir"] = cache_dir
        if default is not None:
            config.setdefault("core", {})["remote"] = default
        for name, options in remotes.items():
            if options["url"].startswith("ssh://"):
                options = {**_SSH, **options}
            # what comes is what was asked for
            config.setdefault("remote", {}).setdefault(name, {}).update(options, verify=True)
    return {}


if __name__ == "__main__":
    main()
