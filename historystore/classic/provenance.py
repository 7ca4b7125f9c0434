"""Where the histories of this engine come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

import gymnasium

from historystore import tasks
from historystore.classic.settings import ENGINE
from historystore.commit import git_commit
from historystore.documents import LearnerSpec, Provenance
from historystore.learner_writer import provenance_here


def provenances(specs: Sequence[LearnerSpec]) -> Iterator[Provenance]:
    """Give the provenance of each learner of one template, with the best and random return where they are known."""
    family = tasks.family(specs[0].family, specs[0].env_args)
    here = provenance_here(environment=family.env_id)
    versions = {**here.versions, "gymnasium": gymnasium.__version__, **_model_versions(specs[0])}
    shared = {
        "engine": ENGINE,
        "engine_version": metadata.version("historystore"),
        "algorithm_path": f"historystore.classic:{specs[0].algorithm}",
        "versions": versions,
        "git_commit": git_commit(str(Path.cwd())),
    }
    for spec in specs:
        known = {"best_return": family.best_return(spec.task), "random_return": family.random_return(spec.task)}
        yield here.model_copy(update={**shared, **known})


def _model_versions(spec: LearnerSpec) -> dict[str, str]:
    """Return the versions of what trained models act by, where one does."""
    if spec.hyperparameters.get("policy_from") is None:
        return {}
    return {package: metadata.version(package) for package in ("stable_baselines3", "torch")}
