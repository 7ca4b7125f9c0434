"""What goes wrong with disks and processes, tried on stores of both formats, as one table.

    python tests/benchmarks/faults.py --tries 10

A row is a fault. `found` counts the tries after which `hist verify` named the file that was damaged (`-` where nothing
is, and then verify must find nothing); `lost` the steps that were acknowledged, lie in no damaged file, and are not in
what `recover` saves; `wrong` the histories that were read otherwise than they were lived. Exit code 1 unless everything
damaged was found, nothing is lost and nothing wrong. Full and read-only disks are small tmpfs mounts: they need root.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from damages import MUTATIONS, flip, parts_of, place_of
from store_samples import WAYS, checkpoint, create, life, record

import historystore as hs
from historystore.card import write_card
from historystore.errors import HistoryError, WriteFailed
from historystore.recover import recover
from historystore.verify import verify

HIST = [sys.executable, "-m", "hist_cli"]
NUM_LEARNERS = 3
NUM_STEPS = 40
LONG = 4000
MOUNT_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """What came of one fault."""

    found: bool | None = None
    """Whether verify named the damaged file; None where no file is damaged and verify found nothing, as it must."""
    lost: int = 0
    wrong: int = 0


def steps_of(path: Path, *, num_steps: int) -> tuple[dict[int, int], int]:
    """Return the steps that can be read of each learner, by seed, and how many histories are not as they were lived."""
    counts: dict[int, int] = {}
    num_wrong = 0
    with contextlib.suppress(HistoryError), contextlib.closing(hs.open(path)) as store:
        for learner in store.learners:
            lived = life(seed=learner.spec.seed, num_steps=num_steps)
            for history in learner.histories:
                with contextlib.suppress(HistoryError):
                    columns = history.read()
                    truth = {name: lived.steps[name][: history.num_steps, history.stream] for name in columns}
                    num_wrong += not all(np.array_equal(columns[name], column) for name, column in truth.items())
                    counts[learner.spec.seed] = counts.get(learner.spec.seed, 0) + history.num_steps
    return counts, num_wrong


def sample(path: Path, way: str) -> Path:
    """Record one shard a learner, a checkpoint, a card and an index."""
    with hs.StoreWriter(create(path), **WAYS[way]) as writer:
        name = checkpoint(path)
        for seed in range(NUM_LEARNERS):
            record(writer, life(seed=seed, num_steps=NUM_STEPS), finish=None).finish(checkpoint=name if seed else None)
            writer.seal()
    with contextlib.closing(hs.open(path)) as store:
        write_card(store)
    return path


def damaged(whole: Path, place: Path, data: bytes, folder: Path) -> Try:
    """Lay bytes over one file of a copy of a store; verify, read and recover it."""
    file = place.relative_to(whole)
    store, out = folder / "damaged", folder / "saved"
    for old in (store, out):
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(whole, store)
    (store / file).write_bytes(data)
    found = any(problem.file == str(file) for problem in verify(store) if not problem.is_note)
    _, num_wrong = steps_of(store, num_steps=NUM_STEPS)
    (store / file).write_bytes(data)  # opening may have mended the index
    for _ in recover(store, out):
        pass
    saved, num_wrong_saved = steps_of(out, num_steps=NUM_STEPS)
    hit = hs.open(place).learners[0].spec.seed if file.parts[0] == "shards" else None
    full = life(num_steps=NUM_STEPS).spec.num_steps
    lost = sum(full - saved.get(seed, 0) for seed in range(NUM_LEARNERS) if seed != hit)
    return Try(found=found, lost=lost, wrong=num_wrong + num_wrong_saved + any(not p.is_note for p in verify(out)))


def shards(whole: Path) -> list[Path]:
    """Return the shards of a store."""
    return sorted((whole / "shards").iterdir())


def flips(whole: Path, folder: Path, rng: random.Random, num_tries: int) -> Iterator[Try]:
    """Flip a bit of every field, table column and document in turn, at most in three places each."""
    shard = shards(whole)[0]
    for part in parts_of(shard):
        for _ in range(max(1, min(3, num_tries // 5))):
            data = flip(shard.read_bytes(), place_of(shard, part, share=rng.random()), rng.randrange(8))
            yield damaged(whole, shard, data, folder)


def document_flips(whole: Path, folder: Path, rng: random.Random, num_tries: int) -> Iterator[Try]:
    """Flip a bit of store.json, the index, the card, and each file of a checkpoint."""
    places = [whole / "store.json", whole / "index.arrow", whole / "README.md", *whole.glob("checkpoints/*/*")]
    for place in places:
        for _ in range(max(1, num_tries // 5)):
            yield damaged(whole, place, MUTATIONS["flip"](place.read_bytes(), rng), folder)


def cuts(whole: Path, folder: Path, rng: random.Random, num_tries: int) -> Iterator[Try]:
    """Cut a shard to many lengths, from nothing to all but a byte."""
    shard = rng.choice(shards(whole))
    size = shard.stat().st_size
    for length in sorted({0, 1, 8, size // 2, size - 1, *(rng.randrange(size) for _ in range(num_tries))}):
        yield damaged(whole, shard, shard.read_bytes()[:length], folder)


def mutations(names: tuple[str, ...]) -> Callable[[Path, Path, random.Random, int], Iterator[Try]]:
    """Return the fault of such changes to any shard."""

    def fault(whole: Path, folder: Path, rng: random.Random, num_tries: int) -> Iterator[Try]:
        for _ in range(num_tries):
            place = rng.choice(shards(whole))
            data = MUTATIONS[rng.choice(names)](place.read_bytes(), rng)
            if data != place.read_bytes():
                yield damaged(whole, place, data, folder)

    return fault


def writer(path: Path, way: str, seed: int) -> subprocess.Popen[str]:
    """Start a recorder, as a process of its own, that says how many steps are acknowledged."""
    command = [sys.executable, __file__, "--record", str(path), "--way", way, "--seed", str(seed)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def write(path: Path, way: str, seed: int) -> None:
    """Be such a recorder."""
    lived = life(seed=seed, num_steps=LONG)
    with hs.StoreWriter(create(path), **WAYS[way]) as recorder:
        learner = recorder.begin(lived.spec)
        for start in range(0, LONG, NUM_STEPS):
            lived.add(learner, start, start + NUM_STEPS)
            recorder.seal()
            print(start + NUM_STEPS, flush=True)
        learner.finish()


def checked(path: Path, acknowledged: dict[int, int]) -> Try:
    """Hold a store that nothing damaged to what was acknowledged of each learner's streams."""
    counts, num_wrong = steps_of(path, num_steps=LONG)
    num_problems = sum(not problem.is_note for problem in verify(path))
    num_streams = life(num_steps=1).spec.num_streams
    lost = sum(max(0, num_streams * steps - counts.get(seed, 0)) for seed, steps in acknowledged.items())
    return Try(lost=lost, wrong=num_wrong + num_problems)


def kills(way: str, folder: Path, rng: random.Random, num_tries: int) -> Iterator[Try]:
    """Kill one recorder after the other, all on one store."""
    acknowledged: dict[int, int] = {}
    for seed in range(num_tries):
        with writer(folder / "killed", way, seed) as process:
            steps = [int(process.stdout.readline())]
            time.sleep(rng.uniform(0, 0.3))
            process.send_signal(signal.SIGKILL)
            acknowledged[seed] = max(steps + [int(line) for line in process.stdout])
        yield checked(folder / "killed", acknowledged)


def two_recorders(way: str, folder: Path, _rng: random.Random, num_tries: int) -> Iterator[Try]:
    """Let two processes record into one store at once."""
    for number in range(max(1, num_tries // 5)):
        path = folder / f"both{number}"
        crowd = [writer(path, way, seed) for seed in range(2)]
        done = {seed: max(map(int, process.communicate()[0].split())) for seed, process in enumerate(crowd)}
        yield checked(path, done)


def reader_during_recording(way: str, folder: Path, _rng: random.Random, num_tries: int) -> Iterator[Try]:
    """Read everything, again and again, while a recorder seals."""
    path = folder / "read"
    with writer(path, way, 0) as process:
        acknowledged = 0
        for _ in range(num_tries):
            acknowledged = int(process.stdout.readline() or acknowledged)
            yield read_beside(path, {0: acknowledged})
        process.stdout.read()


def reader_during_compaction(way: str, folder: Path, _rng: random.Random, num_tries: int) -> Iterator[Try]:
    """Read everything, again and again, while `hist compact` merges the shards; no try where there is none."""
    path = folder / "compacted"
    if subprocess.run([*HIST, "compact", "--help"], capture_output=True, check=False).returncode:
        return
    with writer(path, way, 0) as process:
        process.stdout.read()
    with subprocess.Popen([*HIST, "compact", str(path)], stdout=subprocess.DEVNULL) as process:
        for _ in range(num_tries):
            again = (
                read_beside(path, {0: LONG}) for _ in range(5)
            )  # a reader of shards that went opens the store anew
            yield next((one for one in again if one.wrong or not one.lost), Try(lost=1))
            if process.poll() is not None:
                break
    yield checked(path, {0: LONG})


def read_beside(path: Path, acknowledged: dict[int, int]) -> Try:
    """Read a store that another process changes; what was acknowledged before must be there."""
    counts, num_wrong = steps_of(path, num_steps=LONG)
    num_streams = life(num_steps=1).spec.num_streams
    lost = sum(max(0, num_streams * steps - counts.get(seed, 0)) for seed, steps in acknowledged.items())
    return Try(lost=lost, wrong=num_wrong)


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """Mount a small disk in memory."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={MOUNT_BYTES}", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def full_disk(way: str, folder: Path, rng: random.Random, num_tries: int) -> Iterator[Try]:
    """Record until the disk is full, and then the rest when there is room again."""
    for number in range(max(1, num_tries // 5) if os.geteuid() == 0 else 0):
        with small_disk(folder / f"full{number}") as disk:
            (disk / "ballast").write_bytes(bytes(rng.randrange(MOUNT_BYTES // 2)))
            lived, done, path = life(num_steps=LONG), 0, disk / "store"
            recorder = hs.StoreWriter(create(path), **WAYS[way])
            learner = recorder.begin(lived.spec)
            with contextlib.suppress(WriteFailed):
                for start in range(0, LONG, NUM_STEPS):
                    lived.add(learner, start, start + NUM_STEPS)
                    recorder.seal()
                    done = start + NUM_STEPS
            yield checked(path, {0: done})
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            recorder.seal()
            yield checked(path, {0: min(LONG, done + NUM_STEPS)})


def read_only(way: str, folder: Path, _rng: random.Random, num_tries: int) -> Iterator[Try]:
    """Read a store on a disk that refuses every write, and try to record into it."""
    for number in range(max(1, num_tries // 5) if os.geteuid() == 0 else 0):
        with small_disk(folder / f"fixed{number}") as disk:
            with hs.StoreWriter(create(disk / "store"), **WAYS[way]) as recorder:
                record(recorder, life(num_steps=NUM_STEPS))
            (disk / "store" / "index.arrow").unlink(missing_ok=True)
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            is_refused = False
            try:
                with hs.StoreWriter(hs.open(disk / "store", mode="a")) as recorder:
                    record(recorder, life(seed=1, num_steps=NUM_STEPS))
            except WriteFailed:
                is_refused = True
            counts, num_wrong = steps_of(disk / "store", num_steps=NUM_STEPS)
            full = life(num_steps=NUM_STEPS).spec.num_steps
            yield Try(lost=full - counts.get(0, 0), wrong=num_wrong + (not is_refused))


DAMAGES = {
    "a bit in each field, table, header": flips,
    "a bit in each document": document_flips,
    "cut to many lengths": cuts,
    "torn: blocks of zeros": mutations(("zeros",)),
    "noise, insertions, splices": mutations(("noise", "insert", "splice", "random")),
}
DISTURBANCES = {
    "killed while recording": kills,
    "full disk": full_disk,
    "read-only disk": read_only,
    "two recorders on one store": two_recorders,
    "a reader during recording": reader_during_recording,
    "a reader during compaction": reader_during_compaction,
}


def rows(way: str, folder: Path, *, seed: int, num_tries: int) -> Iterator[tuple[str, list[Try]]]:
    """Yield each fault with its tries."""
    whole = sample(folder / "whole", way)
    for name, fault in DAMAGES.items():
        yield name, list(fault(whole, folder, random.Random(seed), num_tries))
    for name, fault in DISTURBANCES.items():
        yield name, list(fault(way, folder, random.Random(seed), num_tries))


def main() -> int:
    """Print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tries", type=int, default=10, help="of each fault and format, more or less")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--way", choices=[way for way in WAYS if way != "arrow-archive"], help="by default hdf5 and arrow"
    )
    parser.add_argument("--record", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.record is not None:
        write(options.record, options.way, options.seed)
        return 0
    is_kept = True
    print(f"{'fault':<36} {'format':<14} {'tries':>5} {'found':>5} {'lost':>5} {'wrong':>5}")
    for way in [options.way] if options.way else ["hdf5", "arrow"]:
        with tempfile.TemporaryDirectory() as folder:
            for name, tries in rows(way, Path(folder), seed=options.seed, num_tries=options.tries):
                lost, wrong = sum(one.lost for one in tries), sum(one.wrong for one in tries)
                marks = [one.found for one in tries if one.found is not None]
                found = str(sum(marks)) if marks else "-"
                print(f"{name:<36} {way:<14} {len(tries):5} {found:>5} {lost:5} {wrong:5}", flush=True)
                is_kept &= all(marks) and not lost and not wrong
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main())
