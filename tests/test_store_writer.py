from __future__ import annotations

import inspect
import itertools
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from store_samples import VALUES, add_updates, create, life, record, small_store, spec

import historystore as hs
from historystore.documents import Continuation
from historystore.errors import InvalidValue, WriteFailed
from historystore.replay import learner_digest


def stream_of(lived, stream: int) -> dict[str, np.ndarray]:
    return {name: array[:, stream] for name, array in lived.steps.items()}


def test_every_step_is_read_back_bit_for_bit_in_its_own_dtype(tmp_path: Path) -> None:
    lived = life()
    store = small_store(tmp_path / "s", num_learners=1)
    for history in store.learners[0].histories:
        for name, column in history.read().items():
            expected = stream_of(lived, history.stream)[name]
            assert column.dtype == expected.dtype
            assert column.tobytes() == np.ascontiguousarray(expected).tobytes()


def test_any_span_of_a_history_over_several_shards_is_what_was_lived(tmp_path: Path) -> None:
    lived = life(num_steps=50)
    with hs.StoreWriter(create(tmp_path / "s")) as writer:
        record(writer, lived, cuts=[7, 21], seals=[13, 21, 40])
    store = hs.open(tmp_path / "s")
    assert len(store.shard_names) == 4
    history = store.learners[0].histories[1]
    for start, stop in [(0, 50), (12, 14), (13, 21), (20, 41), (5, 5), (49, 50)]:
        columns = history.read(start, stop, fields=["observation", "reward"])
        assert np.array_equal(columns["observation"], lived.steps["observation"][start:stop, 1])
        assert np.array_equal(columns["reward"], lived.steps["reward"][start:stop, 1])
        expected = lived.following[start:stop, 1]
        assert np.array_equal(history.next_observations(start, stop)["observation"], expected)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 50),
    end_rate=st.sampled_from([0.0, 0.1, 0.9, 1.0]),
    cuts=st.sets(st.integers(1, 29)),
    seals=st.sets(st.integers(1, 29), max_size=3),
)
def test_episodes_are_those_of_a_plain_walk_however_the_steps_are_cut_into_blocks_and_seals(
    tmp_path_factory: pytest.TempPathFactory, seed: int, end_rate: float, cuts: set[int], seals: set[int]
) -> None:
    lived = life(seed=seed, num_steps=30, end_rate=end_rate, reward_dtype="f8")
    path = tmp_path_factory.mktemp("store") / "s"
    with hs.StoreWriter(create(path)) as writer:
        record(writer, lived, cuts=cuts, seals=sorted(seals))
    for history in hs.open(path).learners[0].histories:
        table, walked = history.episodes, list(walk(lived, history.stream))
        rows = zip(table.first_step, table.length, table.terminated, table.truncated, table.seed, strict=True)
        assert [tuple(row) for row in rows] == [row[:5] for row in walked]
        assert np.allclose(table.return_, [row[5] for row in walked], rtol=1e-12, atol=1e-12)


def walk(lived, stream: int):
    first, total = 0, 0.0
    for step in range(len(lived.seeds)):
        total += lived.steps["reward"][step, stream]
        flags = lived.steps["terminated"][step, stream], lived.steps["truncated"][step, stream]
        if any(flags) or step == len(lived.seeds) - 1:
            yield first, step + 1 - first, *flags, lived.seeds[first, stream], total
            first, total = step + 1, 0.0


def test_a_digest_depends_on_neither_blocks_nor_seals_nor_packing_nor_neighbours(tmp_path: Path) -> None:
    lives = [life(seed=seed) for seed in range(2)]
    layouts = [{}, {"cuts": [1, 2, 33]}, {"seals": [10, 30]}, {"cuts": range(1, 60), "seals": [59]}]
    digests = set()
    for i, layout in enumerate(layouts):
        with hs.StoreWriter(create(tmp_path / str(i))) as writer:
            for lived in lives if i % 2 else reversed(lives):
                record(writer, lived, **layout)
        digests.add(hs.open(tmp_path / str(i)).digest)
    assert len(digests) == 1


def test_a_digest_is_what_a_reader_gets_from_the_steps_for_whole_and_for_partial_learners(tmp_path: Path) -> None:
    with hs.StoreWriter(create(tmp_path / "s")) as writer:
        record(writer, life(seed=0), seals=[20])
        record(writer, life(seed=1, end_rate=0.0), seals=[31], finish=None)
        record(writer, life(seed=2), finish="failed")
    store = hs.open(tmp_path / "s")
    assert sorted(learner.status for learner in store.learners) == ["complete", "failed", "partial"]
    for learner in store.learners:
        assert learner_digest(learner) == learner.digest == learner.row.digest


def test_a_digest_sees_one_changed_step_seed_end_update_or_observation_behind_an_end(tmp_path: Path) -> None:
    digests = []
    for i, change in enumerate([None, "reward", "action", "seeds", "following", "update"]):
        lived = life()
        if change in lived.steps:
            lived.steps[change][5, 1] += 1
        elif change == "seeds":
            lived.seeds[0, 0] += 1
        elif change == "following":
            lived.following[lived.steps["terminated"]] += 1
        with hs.StoreWriter(create(tmp_path / str(i))) as writer:
            learner = record(writer, lived, finish=None)
            if change == "update":
                learner.add_update(step=60, values={}, learning_rate=None, wall_time_s=0)
            learner.finish()
        digests.append(hs.open(tmp_path / str(i)).digest)
    assert len(set(digests)) == len(digests)


def test_a_digest_sees_neither_times_nor_values_about_time_nor_provenance(tmp_path: Path) -> None:
    digests = set()
    for i in range(2):
        with hs.StoreWriter(create(tmp_path / str(i))) as writer:
            provenance = hs.Provenance(
                engine="custom", engine_version=str(i), algorithm_path="a", environment="e", host=str(i)
            )
            learner = writer.begin(spec(num_steps=60), provenance=provenance)
            life().add(learner, 0, 60)
            values = {"train/loss": 1.0, "time/fps": float(i)} | ({"nan": float("nan")} if i else {})
            learner.add_update(step=60, values=values, learning_rate=0.1, wall_time_s=i)
            learner.finish()
        digests.add(hs.open(tmp_path / str(i)).digest)
    assert len(digests) == 1


def test_updates_are_read_back_with_their_values_and_absent_ones_are_null(tmp_path: Path) -> None:
    store = small_store(tmp_path / "s")
    table = store.learners[0].updates().to_pylist()
    assert [row["step"] for row in table] == [20, 40, 60]
    assert [row["update"] for row in table] == [0, 1, 2]
    assert [row["train/entropy_loss"] for row in table] == [None, 1.5, 2.5]
    assert [row["learning_rate"] for row in table] == [1e-3, 1e-3 / 2, 1e-3 / 3]
    assert store.updates_table().num_rows == 6
    assert set(VALUES) < set(store.updates_table().column_names)


def test_integers_are_stored_narrow_and_values_out_of_bounds_are_stored_wide_and_never_wrapped(tmp_path: Path) -> None:
    lived = life()
    lived.steps["action"][3, 0] = 70_000
    with hs.StoreWriter(create(tmp_path / "s")) as writer:
        record(writer, lived, cuts=[10])
    history = hs.open(tmp_path / "s").learners[0].histories[0]
    assert history.field("action").stored_dtype == "<i8"
    assert history.field("observation").stored_dtype == "|u1"
    assert history.field("terminated").stored_dtype == "|u1"
    assert np.array_equal(history.read()["action"], lived.steps["action"][:, 0])
    assert history.read()["action"].dtype == np.int64


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_floats_are_never_narrowed(tmp_path: Path, dtype: str) -> None:
    lived = life(reward_dtype=dtype)
    lived.steps["reward"][0, 0] = np.nan
    lived.steps["reward"][1, 0] = -0.0
    with hs.StoreWriter(create(tmp_path / "s")) as writer:
        record(writer, lived)
    history = hs.open(tmp_path / "s").learners[0].histories[0]
    assert history.read()["reward"].tobytes() == lived.steps["reward"][:, 0].tobytes()


def test_an_observation_wider_than_its_space_keeps_every_bit(tmp_path: Path) -> None:
    store = hs.create(
        tmp_path / "s", family="grid", observation_space=spaces.Box(-1, 1, (2,)), action_space=spaces.Discrete(5)
    )
    observation = np.random.default_rng(0).random((4, 1, 2))
    with hs.StoreWriter(store) as writer:
        learner = writer.begin(spec(num_streams=1))
        learner.add_steps(
            {
                "observation": observation,
                "action": np.zeros((4, 1), np.int32),
                "reward": np.array([[0], [1], [0], [2]]),
                "terminated": np.zeros((4, 1), np.uint8),
                "truncated": np.zeros((4, 1), bool),
            },
            final_observations={"observation": np.zeros((0, 2))},
            next_observation={"observation": observation[0]},
        )
    columns = hs.open(tmp_path / "s").learners[0].histories[0].read()
    assert columns["observation"].tobytes() == observation.tobytes()
    assert {name: column.dtype.str for name, column in columns.items()} == {
        "observation": "<f8",
        "action": "<i8",
        "reward": "<f8",
        "terminated": "|b1",
        "truncated": "|b1",
    }


def test_dict_and_tuple_spaces_become_one_field_an_entry(tmp_path: Path) -> None:
    observations = spaces.Dict({"image": spaces.Box(0, 255, (3, 3), np.uint8), "a/b": spaces.Discrete(3)})
    actions = spaces.Tuple([spaces.Discrete(2), spaces.Box(-1, 1, (2,))])
    store = hs.create(tmp_path / "s", family="grid", observation_space=observations, action_space=actions)
    image = np.arange(2 * 9, dtype=np.uint8).reshape(2, 1, 3, 3)
    with hs.StoreWriter(store) as writer:
        learner = writer.begin(spec(num_streams=1))
        learner.add_steps(
            {
                "observation/image": image,
                "observation/a%2Fb": np.ones((2, 1), np.int64),
                "action/0": np.zeros((2, 1), np.int64),
                "action/1": np.ones((2, 1, 2), np.float32),
                "reward": np.zeros((2, 1), np.float32),
                "terminated": np.array([[True], [False]]),
                "truncated": np.zeros((2, 1), bool),
            },
            final_observations={"observation/image": image[0], "observation/a%2Fb": np.zeros(1, np.int64)},
            next_observation={"observation/image": image[1], "observation/a%2Fb": np.ones(1, np.int64)},
        )
    history = hs.open(tmp_path / "s").learners[0].histories[0]
    assert np.array_equal(history.read()["observation/image"], image[:, 0])
    assert history.final_observation(0)["observation/a%2Fb"] == 0
    assert history.next_observations()["observation/a%2Fb"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reward": None}, "reward is missing"),
        ({"speed": np.zeros((4, 3))}, "speed is no field, expected one of observation, action, reward"),
        ({"action/x": np.zeros((4, 3))}, "action/x is no part of the store's spaces"),
        ({"log_prob": np.zeros((4, 2))}, "log_prob has shape (4, 2), expected (steps, 3, ...)"),
        ({"log_prob": np.zeros((5, 3), "f4")}, "log_prob has shape (5, 3), expected (4, 3)"),
        ({"observation": np.zeros((4, 3))}, "observation has shape () a step, the space has (2,)"),
        ({"value": np.full((4, 3), "x")}, "value: cannot store dtype <U1"),
    ],
)
def test_a_bad_block_is_refused_in_one_line_and_nothing_of_it_is_kept(
    tmp_path: Path, change: dict[str, np.ndarray | None], message: str
) -> None:
    lived = life(num_steps=4)
    steps = {name: array for name, array in (lived.steps | change).items() if array is not None}
    with hs.StoreWriter(create(tmp_path / "s")) as writer:
        learner = writer.begin(lived.spec)
        ends = lived.following[lived.steps["terminated"] | lived.steps["truncated"]]
        with pytest.raises(InvalidValue) as caught:
            learner.add_steps(
                steps,
                final_observations={"observation": ends},
                next_observation={"observation": lived.following[-1]},
            )
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
        assert learner.num_steps == 0
        lived.add(learner, 0, 4)
        learner.finish()
    assert hs.open(tmp_path / "s").num_steps == 12


def test_too_few_final_observations_are_refused(tmp_path: Path) -> None:
    lived = life(num_steps=4, end_rate=1.0)
    with hs.StoreWriter(create(tmp_path / "s")) as writer:
        learner = writer.begin(lived.spec)
        with pytest.raises(
            InvalidValue, match=r"final_observations: observation has shape \(3, 2\), expected \(\d+, 2\)"
        ):
            learner.add_steps(
                lived.steps,
                final_observations={"observation": lived.following[0]},
                next_observation={"observation": lived.following[-1]},
            )


def test_a_learner_of_another_family_is_refused(tmp_path: Path) -> None:
    with hs.StoreWriter(create(tmp_path / "s")) as writer, pytest.raises(InvalidValue, match="holds the family grid"):
        writer.begin(spec(family="maze"))


def test_a_store_open_for_reading_is_not_written_to(tmp_path: Path) -> None:
    small_store(tmp_path / "s")
    with pytest.raises(InvalidValue, match="is open for reading"):
        hs.StoreWriter(hs.open(tmp_path / "s"))


def test_learners_with_other_fields_lie_in_shards_of_their_own(tmp_path: Path) -> None:
    other = life(seed=1)
    del other.steps["log_prob"]
    with hs.StoreWriter(create(tmp_path / "s")) as writer:
        record(writer, life(seed=0))
        record(writer, other)
        writer.begin(spec(seed=2)).finish(status="failed", error="ValueError: no")
        assert len(writer.seal()) == 2
    store = hs.open(tmp_path / "s")
    assert {learner.spec.seed: len(learner.histories) for learner in store.learners} == {0: 3, 1: 3, 2: 0}
    assert sorted("log_prob" in learner.histories[0].fields for learner in store.learners[:3] if learner.histories) == [
        False,
        True,
    ]


def test_seals_come_by_bytes_by_age_and_earlier_at_a_learners_end(tmp_path: Path) -> None:
    store = create(tmp_path / "s")
    shards = lambda: len(list((tmp_path / "s" / "shards").iterdir()))  # noqa: E731
    with hs.StoreWriter(store, seal_bytes=2000, seal_s=1e9) as writer:
        learner = writer.begin(spec())
        life().add(learner, 0, 30)
        assert shards() == 0
        life().add(learner, 30, 60)
        assert shards() == 1
        learner.finish()
        assert shards() == 1
    assert shards() == 2
    with hs.StoreWriter(store, seal_s=0.0) as writer:
        record(writer, life(seed=1), cuts=[5], finish="complete")
        assert shards() == 5


def test_a_refused_seal_keeps_what_waits_leaves_no_file_and_can_be_tried_again(tmp_path: Path) -> None:
    store = create(tmp_path / "s")
    writer = hs.StoreWriter(store)
    record(writer, life())
    (tmp_path / "s" / "shards").rename(tmp_path / "s" / "away")
    with pytest.raises(WriteFailed, match="cannot be written, no such file or directory"):
        writer.seal()
    (tmp_path / "s" / "away").rename(tmp_path / "s" / "shards")
    writer.close()
    assert hs.open(tmp_path / "s").digest == small_store(tmp_path / "t", num_learners=1).digest


FULL_DISK = """
    import resource, signal, sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from store_samples import create, life, record
    import historystore as hs

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    writer = hs.StoreWriter(create(Path({path!r})))
    record(writer, life(num_steps=5000))
    resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
    try:
        writer.seal()
    except hs.HistoryError as error:
        print(error)
    print(len(list(Path({path!r}, "shards").iterdir())))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    writer.close()
    print(hs.open({path!r}).num_steps)
"""


def test_a_disk_that_takes_no_more_gets_one_line_and_costs_nothing(tmp_path: Path) -> None:
    assert resource.RLIM_INFINITY == -1
    path = str(tmp_path / "s")
    script = textwrap.dedent(FULL_DISK).format(tests=str(Path(__file__).parent), path=path, limit=20_000)
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
    assert out[0].startswith(path)
    assert "cannot be written, file too large." in out[0]
    assert out[1:] == ["0", "15000"]


def test_an_attempt_that_continues_another_ends_with_the_digest_of_an_undisturbed_one(tmp_path: Path) -> None:
    lived, store = life(), create(tmp_path / "s")
    with hs.StoreWriter(store) as writer:
        first = writer.begin(lived.spec)
        lived.add(first, 0, 40)
        add_updates(first, 40)
    with hs.StoreWriter(store) as writer:
        second = writer.begin(lived.spec, continues=Continuation(attempt=first.attempt, step=25))
        assert second.num_steps == 25
        lived.add(second, 25, 60)
        second.add_update(
            step=40, values={"train/loss": 1.0, "train/entropy_loss": 1.5}, learning_rate=1e-3 / 2, wall_time_s=0
        )
        second.add_update(
            step=60, values={"train/loss": 2.0, "train/entropy_loss": 2.5}, learning_rate=1e-3 / 3, wall_time_s=0
        )
        second.finish()
    continued = hs.open(tmp_path / "s")
    assert continued.learners[0].status == "complete"
    assert continued.digest == small_store(tmp_path / "t", num_learners=1).digest
    assert learner_digest(continued.learners[0]) == continued.learners[0].digest


def test_continuing_what_the_store_does_not_show_is_refused(tmp_path: Path) -> None:
    with hs.StoreWriter(create(tmp_path / "s")) as writer:
        learner = record(writer, life(), finish=None)
    with hs.StoreWriter(hs.open(tmp_path / "s", mode="a")) as writer:
        with pytest.raises(InvalidValue, match="does not show attempt other"):
            writer.begin(life().spec, continues=Continuation(attempt="other", step=5))
        with pytest.raises(InvalidValue, match="has 60 steps a stream, expected at least 61"):
            writer.begin(life().spec, continues=Continuation(attempt=learner.attempt, step=61))


def test_the_example_of_the_writer_records_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = inspect.getdoc(hs.StoreWriter).split("::\n", 1)[1].splitlines()
    code = itertools.takewhile(lambda line: not line or line.startswith(" "), lines)
    exec(textwrap.dedent("\n".join(code)), {})
    (learner,) = hs.open("coins").learners
    assert (learner.status, learner.digest) == ("complete", learner_digest(learner))
    assert learner.histories[0].episodes.return_.tolist() == [0.0, 1.0]
    assert learner.histories[0].next_observations()["observation"].tolist() == [0, 0]
    assert learner.updates().to_pylist()[0]["values/loss"] == 0.5
