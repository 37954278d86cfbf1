"""What DVC says of a repository: its stages, what they need and make, and which of them have changed."""

from dataclasses import dataclass

from gan.errors import UserError


@dataclass(frozen=True)
class Out:
    """One output of a stage."""

    path: str  # relative to the repository's root
    cached: bool  # by DVC; else git keeps it
    metric: bool


@dataclass(frozen=True)
class Stage:
    """One stage of dvc.yaml."""

    name: str
    needs: tuple[str, ...]  # the names of the stages that it reads from
    outs: tuple[Out, ...]


@dataclass(frozen=True)
class Description:
    """What DVC says of a repository."""

    stages: tuple[Stage, ...]  # in an order in which they can run
    changed: frozenset[str]  # names of stages
    remote: str | None  # the default one

    @classmethod
    def of_answer(cls, answer):
        """From what the DVC process answers."""
        stages = (
            Stage(item["name"], tuple(item["needs"]), tuple(Out(**out) for out in item["outs"])) for item in answer["stages"]
        )
        return cls(tuple(stages), frozenset(answer["changed"]), answer["remote"])

    def stages_for(self, target):
        """The stages to walk, in order: all if `target` is None, else the stage of that name and those that it needs."""
        if target is None:
            return list(self.stages)
        by_name = {stage.name: stage for stage in self.stages}
        if target not in by_name:
            raise UserError(f"there is no stage {target!r} in dvc.yaml; it has {', '.join(by_name)}")
        wanted, open_names = set(), [target]
        while open_names:
            name = open_names.pop()
            if name not in wanted:
                wanted.add(name)
                open_names += by_name[name].needs
        return [stage for stage in self.stages if stage.name in wanted]

    def files_in_git(self):
        """Paths of the outputs that git keeps."""
        return [out.path for stage in self.stages for out in stage.outs if not out.cached]

    def metrics_in_git(self):
        """Paths of the metrics files among them."""
        return [out.path for stage in self.stages for out in stage.outs if not out.cached and out.metric]
