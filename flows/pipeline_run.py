"""What the steps of one run share, from its first stage to its record."""

from dataclasses import dataclass, field
from typing import Any

from flows.deadline import Deadline
from flows.dvc.description import Description
from flows.dvc.reproduce import CACHED
from flows.dvc.session import DvcSession
from flows.git import Repository
from flows.request import RunRequest
from flows.settings import FlowParams


@dataclass(frozen=True)
class PipelineRun:
    """One run under way."""

    id: str  # of Prefect's flow run
    request: RunRequest
    settings: FlowParams
    repository: Repository  # whose versions and DVC cache it uses
    tree: Repository  # where the stages run: the repository, or a worktree of it
    base: str  # the commit that it starts from
    session: DvcSession
    description: Description
    deadline: Deadline
    log: Any  # Prefect's logger
    outcomes: dict[str, str] = field(default_factory=dict)  # stage -> Cached, Restored or Ran, as the stages end

    def all_cached(self):
        """Whether none of the stages that have ended had anything to do."""
        return all(outcome == CACHED for outcome in self.outcomes.values())
