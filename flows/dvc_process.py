"""The one DVC process of a run, a child of the flow: it imports DVC once and then answers requests, one JSON line each.

Requests come on standard input, answers go to the file descriptor given as the first argument; what DVC and the stages print goes
to standard output. When standard input ends, the flow is gone (killed, perhaps): then the stage in progress is asked to end, and
killed after a grace period, so that nothing is left behind. It runs as a file, not as `flows.…`: its folder may be any project.
"""

import json
import os
import queue
import signal
import sys
import threading
import time


def main():
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # a stage that reads its standard input must not eat a request
    answers = os.fdopen(int(sys.argv[1]), "w", buffering=1, encoding="utf-8")
    os.set_inheritable(answers.fileno(), False)
    grace_seconds = float(sys.argv[2])
    # a shell's background job ignores SIGINT, and so would the trainer
    signal.signal(signal.SIGINT, signal.default_int_handler)
    pending = queue.SimpleQueue()
    busy = threading.Event()
    threading.Thread(target=_watch, args=(requests, pending, busy, grace_seconds), daemon=True).start()
    import dvc.repo
    from dvc.cli import main as dvc_main

    while (request := pending.get()) is not None:
        busy.set()
        try:
            answer = _answer(request, dvc_main, dvc.repo.Repo)
        except Exception as error:  # it crosses a process boundary, so it is handed over as text
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.flush()
        sys.stderr.flush()
        busy.clear()
        answers.write(json.dumps(answer) + "\n")


def _watch(requests, pending, busy, grace_seconds):
    for line in requests:
        pending.put(json.loads(line))
    pending.put(None)
    if busy.is_set():
        os.killpg(0, signal.SIGINT)
        time.sleep(grace_seconds)
        os.killpg(0, signal.SIGKILL)


def _answer(request, dvc_main, repo_class):
    if "dvc" in request:
        return {"code": dvc_main(request["dvc"]) or 0}
    if "share" in request:
        return _share(request["share"], repo_class)
    return _describe(repo_class)


def _describe(repo_class):
    """The stages in an order that DVC could run them in, as near to dvc.yaml's as it gets, and which of them have changed."""
    import networkx

    with repo_class() as repo:
        stages = [stage for stage in repo.index.stages if stage.cmd]
        position = {stage: number for number, stage in enumerate(stages)}
        graph = repo.index.graph.reverse().subgraph(stages)
        order = networkx.lexicographical_topological_sort(graph, key=position.__getitem__)
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


def _share(main_root, repo_class):
    """Let the repository in the current folder use the cache and the remotes of the one in `main_root`."""
    with repo_class(main_root) as main:
        local = main.config.load_one("local")
        cache_dir = main.cache.local.path
        if os.path.basename(os.path.dirname(cache_dir)) == "files":  # DVC 3 keeps its objects in <cache>/files/md5
            cache_dir = os.path.dirname(os.path.dirname(cache_dir))
        urls = {name: remote["url"] for name, remote in main.config["remote"].items()}
    with repo_class() as repo, repo.config.edit("local") as config:
        for section, values in local.items():
            config.setdefault(section, {}).update(values)
        config.setdefault("cache", {})["dir"] = cache_dir
        for name, url in urls.items():
            config.setdefault("remote", {}).setdefault(name, {})["url"] = url
    return {}


if __name__ == "__main__":
    main()
