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
    shared = {
        "engine": ENGINE,
        "engine_version": metadata.version("historystore"),
        "algorithm_path": f"historystore.classic:{specs[0].algorithm}",
        "versions": {**here.versions, "gymnasium": gymnasium.__version__},
        "git_commit": git_commit(str(Path.cwd())),
    }
    for spec in specs:
        known = {"best_return": family.best_return(spec.task), "random_return": family.random_return(spec.task)}
        yield here.model_copy(update={**shared, **known})
