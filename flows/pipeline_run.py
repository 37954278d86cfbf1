"""What the steps of one run share, from its first stage to its record."""

from dataclasses import dataclass, field
from typing import Any

from flows.deadline import Deadline
from flows.dvc.reproduce import CACHED
from flows.git import Repository
from flows.places import Place
from flows.request import RunRequest
from flows.settings import FlowParams


@dataclass(frozen=True)
class PipelineRun:
    """One run under way."""

    id: str  # of Prefect's flow run
    request: RunRequest
    settings: FlowParams
    repository: Repository  # whose versions and DVC cache it uses
    place: Place
    deadline: Deadline
    log: Any  # Prefect's logger
    outcomes: dict[str, str] = field(default_factory=dict)  # stage -> Cached, Restored or Ran, as the stages end

    @property
    def tree(self):
        """Where the stages run: the repository, or a worktree of it."""
        return self.place.tree

    @property
    def base(self):
        """The commit that it starts from."""
        return self.place.base

    @property
    def session(self):
        """The DVC process that works there."""
        return self.place.session

    @property
    def description(self):
        """What DVC says of the place at the run's beginning."""
        return self.place.description

    def all_cached(self):
        """Whether none of the stages that have ended had anything to do."""
        return all(outcome == CACHED for outcome in self.outcomes.values())
