"""Writing histories: for the recorders of this package and for anyone's own training loop.

A `StoreWriter` gathers what its learners live in memory and puts it into the store as whole, immutable shards. What is
in a shard is *acknowledged*: no crash loses it. What is not yet in one is lost when the process dies.
"""

from __future__ import annotations

import time
from types import TracebackType

from historystore.documents import Continuation, LearnerSpec, Provenance, sha256_hex
from historystore.errors import InvalidValue
from historystore.fields import space_fields
from historystore.folder import SHARDS
from historystore.learner_writer import LearnerWriter, OriginalAttempt
from historystore.parts import grouped, shard_tables
from historystore.replay import Replay, replay
from historystore.shards import FormatName, Profile, ShardFormat, ShardTables, shard_format
from historystore.store import Store

SEAL_BYTES = 64 * 1024 * 1024
SEAL_S = 60.0


class StoreWriter:
    """Writes learners into a store; one a process, any number of processes a store.

    Leaving its context closes it. A seal is due when the oldest step that the store does not have is `seal_s` seconds
    old (half of that at a learner's end), or when `seal_bytes` bytes wait; it is done within the next `add_steps` or
    `finish`, never by a thread. Short learners share a shard. Shards are HDF5 or Arrow files, and the profile says what
    for: `standard`, `archive` or `compat` HDF5, `fast` or `archive` Arrow; a store may hold all of them.

    Two steps of a learner of one's own, which flips coins and whose episodes have one step
    (`tests/test_store_writer.py` runs this)::

        import historystore
        import numpy as np
        from gymnasium import spaces

        store = historystore.create(
            "coins", family="coins", observation_space=spaces.Discrete(1), action_space=spaces.Discrete(2)
        )
        spec = historystore.LearnerSpec(
            family="coins", task={"winner": 1}, algorithm="mine", policy="table", num_streams=1, num_steps=2, seed=0
        )
        with historystore.StoreWriter(store) as writer:
            learner = writer.begin(spec)
            learner.add_steps(  # each array is (steps, streams, ...)
                {
                    "observation": np.array([[0], [0]]),
                    "action": np.array([[0], [1]]),
                    "reward": np.array([[0.0], [1.0]]),
                    "terminated": np.array([[True], [True]]),
                    "truncated": np.array([[False], [False]]),
                },
                final_observations={"observation": np.array([0, 0])},  # (ends, ...)
                next_observation={"observation": np.array([0])},  # (streams, ...)
            )
            learner.add_update(step=2, values={"loss": 0.5}, learning_rate=0.1, wall_time_s=0.01)
            learner.finish()

    Raises:
        WriteFailed: the store's folder cannot be written to.
    """

    def __init__(
        self,
        store: Store,
        *,
        seal_bytes: int = SEAL_BYTES,
        seal_s: float = SEAL_S,
        format: FormatName = "hdf5",  # noqa: A002 - as on the command line
        profile: Profile | None = None,
    ) -> None:
        store.check_writable()
        self.store = store
        self.seal_bytes, self.seal_s = seal_bytes, seal_s
        self._format = shard_format(format, profile=profile)
        self._fields = {
            field.name: field
            for prefix, space in (("observation", store.observation_space), ("action", store.action_space))
            for field in space_fields(prefix, space)
        }
        self._learners: list[LearnerWriter] = []
        self._waiting_since: float | None = None
        self._num_waiting_bytes = 0
        store.place.prepare(SHARDS)

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def begin(
        self,
        spec: LearnerSpec,
        *,
        provenance: Provenance | None = None,
        continues: Continuation | None = None,
        original: OriginalAttempt | None = None,
    ) -> LearnerWriter:
        """Begin an attempt at a learner.

        Args:
            spec: what defines the learner.
            provenance: where its histories come from; that of a loop of one's own if it is left out.
            continues: an earlier attempt whose steps up to a per-stream step are this one's too, and whose later ones
                are then hidden. The next block begins at that step. Reads all steps up to there, for the digest.
            original: an attempt, recorded in another store, of which this one is a whole copy and takes the id. An
                attempt's id must be one: never copy into a store that holds steps of that attempt.

        Raises:
            InvalidValue: the specification is of another family than the store, or the store does not show that the
                attempt to continue has come so far.
        """
        if spec.family != self.store.document.family:
            raise InvalidValue(
                f"{self.store.place}: holds the family {self.store.document.family}, got a learner of {spec.family}. "
                "Use a store of its own for each family."
            )
        learner = LearnerWriter(
            spec,
            provenance=provenance,
            space_fields=self._fields,
            on_change=self._seal_if_due,
            on_finish=lambda: self._seal_if_due(0, patience=0.5),
            original=original,
        )
        if continues is not None:
            learner.resume(continues, self._past(spec.id, continues))
        self._learners.append(learner)
        return learner

    def seal(self) -> tuple[str, ...]:
        """Put everything that waits into the store; return the names of the new shards.

        Learners with other fields than the others' get a shard of their own.

        Raises:
            WriteFailed: the disk refused. Nothing is lost: what was not written still waits, and a later seal retries.
        """
        waiting = [(learner, learner.part()) for learner in self._learners if learner.has_news]
        names = []
        for group in grouped([part for _, part in waiting]):
            names.append(put_shard(self.store, shard_tables(self.store.document, group), shard_format=self._format))
            for learner, part in waiting:
                if part in group:
                    learner.forget()
        self._learners = [learner for learner in self._learners if not learner.is_finished]
        self._waiting_since, self._num_waiting_bytes = None, 0
        return tuple(names)

    def close(self) -> None:
        """Seal; an attempt that was not finished stays partial.

        Raises:
            WriteFailed: the disk refused, or a remote store's server does not take what was sealed. That waits on this
                machine then, and the next writer uploads it.
        """
        self.seal()
        self._learners = []
        self.store.place.settle()

    def _past(self, learner: str, continues: Continuation) -> Replay:
        self.store.refresh()
        found = self.store.status_of().get(learner)
        known = None if found is None else self.store.learner(learner)
        attempt = None if known is None else known.row.attempt
        if known is None or attempt != continues.attempt:
            raise InvalidValue(
                f"{self.store.place}: does not show attempt {continues.attempt} at learner {learner[:12]}, "
                f"but {attempt}. Continue the one it shows."
            )
        past = replay(known, stop=continues.step)
        if set(past.num_steps) != {continues.step}:
            raise InvalidValue(
                f"{self.store.place}: attempt {attempt} at learner {learner[:12]} has {min(past.num_steps)} steps a "
                f"stream, expected at least {continues.step}. Continue it from a step that is sealed."
            )
        return past

    def _seal_if_due(self, num_new_bytes: int, *, patience: float = 1.0) -> None:
        now = time.monotonic()
        self._num_waiting_bytes += num_new_bytes
        if self._waiting_since is None:
            self._waiting_since = now
        if self._num_waiting_bytes >= self.seal_bytes or now - self._waiting_since >= patience * self.seal_s:
            self.seal()


def put_shard(store: Store, tables: ShardTables, *, shard_format: ShardFormat) -> str:
    """Put a shard into a store and return its name; from then on its steps are acknowledged.

    Raises:
        WriteFailed: the disk refused; nothing has changed.
    """
    data = shard_format.encode(tables)
    name = f"{sha256_hex(data)}{shard_format.suffix}"
    store.place.put(f"{SHARDS}/{name}", data)
    return name
