"""Where a recorded learner comes from: versions, host, commit."""

from __future__ import annotations

import platform
import socket
from functools import cache
from importlib import metadata
from pathlib import Path

import gymnasium
import numpy as np
import stable_baselines3
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm

from historystore import tasks
from historystore.commit import git_commit
from historystore.documents import LearnerSpec, Provenance
from historystore.sb3.describe import import_path


def sb3_provenance(model: BaseAlgorithm, spec: LearnerSpec, *, environment: str) -> Provenance:
    """Return where the histories of a model come from, with the best and random return where its family knows them."""
    family = tasks.find(spec.family, spec.env_args)
    return Provenance(
        engine="sb3",
        engine_version=stable_baselines3.__version__,
        algorithm_path=import_path(type(model)),
        environment=environment if family is None else family.env_id,
        versions=versions() | _version_of(type(model)),
        git_commit=git_commit(str(Path.cwd())),
        host=socket.gethostname(),
        best_return=None if family is None else family.best_return(spec.task),
        random_return=None if family is None else family.random_return(spec.task),
    )


@cache
def versions() -> dict[str, str]:
    """Return the versions of everything that takes part."""
    return {
        "gymnasium": gymnasium.__version__,
        "historystore": metadata.version("historystore"),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "stable_baselines3": stable_baselines3.__version__,
        "torch": str(th.__version__),
    }


def _version_of(algorithm: type) -> dict[str, str]:
    """Return the version of the package that an algorithm comes from, where that is known."""
    package = algorithm.__module__.partition(".")[0]
    try:
        return {package: metadata.version(package)}
    except metadata.PackageNotFoundError:  # a module of the user's
        return {}
