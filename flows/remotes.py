"""Versions on the remotes: pushed with the data before the tags; what could not be pushed, a later run pushes."""

from flows.dvc.session import DvcSession
from flows.git import GitError
from flows.versions import UNPUSHED, accepted_tags
from flows.worktree import environment, worktree
from gan.errors import UserError


def fetch_versions(repository, git_remote, log):
    """Learn of the versions that others pushed; a remote out of reach is no reason not to run."""
    if repository.has_remote(git_remote):
        try:
            repository.git("fetch", "--quiet", git_remote, "refs/tags/*:refs/tags/*")
        except GitError as error:
            log(f"cannot fetch versions from {git_remote}: {error}")


def push_versions(repository, settings, log):
    """Push every version that is not on the remotes yet; returns the errors, one line a version."""
    errors = []
    for reference in repository.git("for-each-ref", "--format=%(refname)", UNPUSHED).splitlines():
        tag = reference.removeprefix(UNPUSHED)
        if not repository.succeeds("rev-parse", "--verify", "--quiet", f"refs/tags/{tag}"):
            repository.git("update-ref", "-d", reference)  # pruned, or killed between the two
            continue
        try:
            if _push(repository, tag, settings):
                repository.git("update-ref", "-d", reference)
                log(f"pushed {tag}")
        except UserError as error:
            errors.append(f"{tag} is not pushed, the next run tries again: {error}")
    return errors


def _push(repository, tag, settings):
    """Push one version; False where there is nowhere to push to."""
    with (
        worktree(repository, tag, f"push-{tag.rpartition('-')[2]}") as tree,
        DvcSession(tree.root, grace_seconds=settings.grace_seconds, environment=environment(repository, tree)) as session,
    ):
        session.share(repository)
        remote = session.describe().remote
        code, lines = session.dvc("push") if remote else (0, [])
        if code != 0:
            raise UserError(f"dvc push: {' '.join(line for line in lines if line.startswith('ERROR'))[:500]}")
    if not repository.has_remote(settings.git_remote):
        return bool(remote)
    commit = repository.commit_id(tag)
    tags = [tag, *(name for name, of in accepted_tags(repository).items() if of == commit)]
    repository.git("push", "--quiet", settings.git_remote, *(f"refs/tags/{name}:refs/tags/{name}" for name in tags))
    return True
