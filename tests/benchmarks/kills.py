"""Kill `hist record` with SIGKILL at random moments and look at the store after each.

    python tests/benchmarks/kills.py --kills 20

Every kill must leave a store that `hist verify` passes and no complete learner less than before; the last run must end
with the digest of an undisturbed one. Exit code 1 when any of that is not so.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import historystore

HIST = [sys.executable, "-m", "hist_cli"]


def command(out: Path, *, num_seeds: int) -> list[str]:
    """Return a recording of a minute at most, sealed often, so that kills fall into everything it does."""
    recording = ["record", "--algo", "ppo", "--env", "darkroom", "--seeds", f"0-{num_seeds - 1}", "--out", str(out)]
    settings = ["--steps", "1000", "--streams", "4", "--set", "n_steps=50", "--set", "batch_size=100"]
    return [*HIST, *recording, *settings, "--seal-s", "0.5", "--json"]


def killed_run(out: Path, *, num_seeds: int, delay_s: float, is_early: bool, whole_group: bool) -> bool:
    """Run the recording and kill it some seconds after its start, or after its workers'; say whether it was running."""
    options = {"stdout": subprocess.PIPE, "start_new_session": True, "text": True}
    with subprocess.Popen(command(out, num_seeds=num_seeds), **options) as process:
        if not is_early:
            any(json.loads(line).get("num_workers") for line in process.stdout)
        time.sleep(delay_s)
        was_running = process.poll() is None
        if was_running:
            send = os.killpg if whole_group else os.kill
            send(process.pid, signal.SIGKILL)
        return was_running


def num_complete(out: Path) -> int:
    """Return how many learners of the store are complete; 0 while there is no store."""
    return list(historystore.open(out).status_of().values()).count("complete") if (out / "store.json").exists() else 0


def is_verified(out: Path) -> bool:
    """Whether `hist verify` finds no problem; a store that is not there yet has none."""
    return (
        not (out / "store.json").exists()
        or not subprocess.run([*HIST, "verify", str(out)], stdout=subprocess.DEVNULL, check=False).returncode
    )


def finished_digest(out: Path, *, num_seeds: int) -> str:
    """Run the recording to its end and return the digest that it reports."""
    answer = subprocess.run(command(out, num_seeds=num_seeds), capture_output=True, text=True, check=True)
    return str(json.loads(answer.stdout.splitlines()[-1])["digest"])


def kills(out: Path, *, num_kills: int, num_seeds: int, generator: random.Random) -> Iterator[bool]:
    """Kill the recording again and again; yield after each whether the store kept its promises."""
    before = 0
    print("kill  killed at   whom complete shards left over verify falls")
    for kill in range(1, num_kills + 1):
        is_early, whole_group = generator.random() < 0.2, generator.random() < 0.5
        delay_s = generator.uniform(0.0, 3.0)
        how = {"delay_s": delay_s, "is_early": is_early, "whole_group": whole_group}
        was_running = killed_run(out, num_seeds=num_seeds, **how)
        if not whole_group:
            time.sleep(generator.uniform(0.0, 2.0))  # its workers may still be sealing
        verified, complete = is_verified(out), num_complete(out)
        shards = list((out / "shards").iterdir()) if (out / "shards").is_dir() else []
        num_left = sum(path.name.endswith(".tmp") for path in shards)
        whom = ("all" if whole_group else "parent") if was_running else "none"
        marks = ("passes" if verified else "FAILS", "no" if complete >= before else "YES")
        moment = f"{'start' if is_early else 'work'}+{delay_s:.2f}"
        row = f"{kill:4} {moment:>10} {whom:>6} {complete:8} {len(shards):6} {num_left:9} {marks[0]:>6} {marks[1]:>5}"
        print(row, flush=True)
        yield verified and complete >= before
        before = complete


def main() -> int:
    """Run the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        killed, undisturbed = Path(folder) / "killed", Path(folder) / "undisturbed"
        generator = random.Random(options.seed)
        kept = list(kills(killed, num_kills=options.kills, num_seeds=options.seeds, generator=generator))
        digests = [finished_digest(out, num_seeds=options.seeds) for out in (killed, undisturbed)]
    is_same = digests[0] == digests[1]
    print(f"kills that kept every promise: {sum(kept)} of {len(kept)}")
    print(f"digest after the kills: {digests[0]}")
    print(f"digest undisturbed:     {digests[1]}  {'same' if is_same else 'DIFFERENT'}")
    return 0 if is_same and all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
