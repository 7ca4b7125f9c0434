"""Array annotations are checked while the tests run: jaxtyping's import hook over both packages, with beartype."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads: two test processes share two cores
os.environ.setdefault("MPLBACKEND", "Agg")

from jaxtyping import install_import_hook

install_import_hook(["historystore", "distill"], "beartype.beartype")
