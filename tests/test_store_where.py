"""Conditions on learners: what they mean, and that nothing in them is ever run."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from window_stores import add, make_store

import historystore as hs
from historystore.curves import is_within
from historystore.errors import HistoryError, InvalidValue
from historystore.expressions import MAX_CHARACTERS, parse_expression
from historystore.learner_columns import COLUMNS, TABLES, matching, parse_where
from historystore.returns import learner_final_returns, learner_progress
from historystore.windows import selected_histories

VALUES = {
    "n": 3,
    "x": 0.5,
    "name": "PPO",
    "flag": True,
    "unknown": None,
    "task": {"goal": [3, 4], "return": 7, "where": {"deep": "yes"}},
}
ROWS = {"episode": {"length": np.array([3, 5, 4]), "return": np.array([1.0, 2.0, 6.0]), "seed": np.array([-1, 8, 9])}}


def holds(text: str) -> bool:
    expression = parse_expression(text, names=VALUES, tables={"episode": ROWS["episode"]})
    return expression.holds(VALUES, ROWS)


TRUE = [
    "n == 3",
    "n > 2 and name == 'PPO'",
    "not (n < 3 or x > 1)",
    "1 < n <= 3 < 4",
    "name in ['A2C', 'PPO'] and name not in ('DQN',)",
    "'P' in name and 'goal' in task and 'start' not in task",
    "task['goal'][0] == 3 and task.goal[-1] == 4 and task['goal'] == [3, 4]",
    "task.where.deep == 'yes' and task.return == 7 and task['return'] == 7",
    "-n == 0 - 3 and n * 2 + 1 == 7 and n / 2 == 1.5",
    "flag and flag == True",
    "x == 5e-1",
    "unknown == None and not (unknown > 1) and not (unknown <= 1) and unknown != 3",
    "not (task['nothing'] < 3) and task['goal'][9] == None and task['goal']['x'] == None and n['x'] == None",
    "n / 0 == None and not (n / 0 > 1) and unknown + 1 == None and -unknown == None",
    "any(episode.return > 5) and not all(episode.return > 5)",
    "mean(episode.length) == 4 and min(episode.length) == 3 and max(episode.return) == 6",
    "count(episode.length) == 3 and count(episode.return >= 2) == 2",
    "any(episode.return > 5 and episode.length == 4) and not any(episode.return > 5 and episode.length == 3)",
    "count(not episode.length > 3 or episode.return > 5) == 2",
    "any(episode.return > n * x + 4) and mean(episode.return - episode.length) == -1",
    "any(episode.seed in [8, 11]) and count(episode.seed not in [8]) == 2",
    "count(3 < episode.length < 5) == 1",
    "any(episode.return > mean(episode.return))",
    "not any(episode.return > unknown) and mean(episode.return + unknown) == None",
    "'episode.return' != name and '.return' == '.return'",
]


@pytest.mark.parametrize("text", TRUE)
def test_a_true_condition_holds_and_its_negation_does_not(text: str) -> None:
    assert holds(text)
    assert not holds(f"not ({text})")


PROBLEMS = {
    "n > 2 and speed > 3": "no column is called 'speed', expected one of flag, n, name, task, unknown, x, "
    "episode.<column>, at character 11 of 'n > 2 and speed > 3'. Check the name.",
    "episode.retrun > 2": "episode has no column 'retrun', expected one of length, return, seed, at character 1 of "
    "'episode.retrun > 2'. Check the name.",
    "n >": "invalid syntax at character 4 of 'n >'. Correct it.",
    "n > 'a'": "cannot compare a number with a text, expected two numbers or texts, at character 5 of \"n > 'a'\". "
    "Change one.",
    "name + 1 > 2": "cannot calculate with a text, expected numbers, at character 1 of 'name + 1 > 2'. Change.",
    "n + 1": "is a number, expected true or false, at character 1 of 'n + 1'. Compare it with one.",
    "n and flag": "is a number, expected true or false, at character 1 of 'n and flag'. Compare it with one.",
    "episode.return > 2": "episode.return has many values, expected one, at character 1 of 'episode.return > 2'. "
    "Write such as mean(episode.return).",
    "any(n > 2)": "any is of a single value, expected columns of episode, at character 1 of 'any(n > 2)'. Correct it.",
    "mean(episode.return, 3) > 2": "no such call, expected one of any, all, mean, min, max, count with one value, at "
    "character 1 of 'mean(episode.return, 3) > 2'. Use one of those.",
    "é == 1 or n ** 2 > 4": "no column is called 'é', expected one of flag, n, name, task, unknown, x, "
    "episode.<column>, at character 1 of 'é == 1 or n ** 2 > 4'. Check the name.",
    "name == 'é' or n ** 2 > 4": "Pow is not part of this language, expected comparisons of columns, at character 1 of "
    "\"name == 'é' or n ** 2 > 4\". Write it otherwise.",
    "n in 3": "cannot look for a number in a number, expected a list, at character 6 of 'n in 3'. Write such as algo "
    "in ['PPO'].",
    "task[n] == 3": "is no entry, expected such as task['goal'][0], at character 1 of 'task[n] == 3'. Name one entry.",
    "n == b'a'": "is a bytes, expected a number or text, at character 6 of \"n == b'a'\". Change it.",
}


@pytest.mark.parametrize("text", PROBLEMS)
def test_what_is_wrong_is_one_line_with_its_place(text: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        holds(text)
    assert str(caught.value) == f"where: {PROBLEMS[text]}"


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch hacked')",
        "().__class__.__bases__",
        "name.__class__ == 3",
        "(lambda: 1)()",
        "[n for n in (1, 2)]",
        "n if n else n",
        "f'{n}'",
        "(n := 4) > 1",
        "task[0:1] == 3",
        "any(*episode.return)",
        "any(episode)",
        "name.format(n) == 'a'",
        "{'a': 1} == task",
        "n @ n",
        "name * 99999999999 == name",
        "n; n",
        "import os",
        "",
        "\x00",
        "(" * 500 + "n" + ")" * 500,
        "not " * 2000 + "flag",
        "n" + " + 1" * 2000 + " > 0",
        "9" * 6000 + " > n",
        " " * MAX_CHARACTERS + "n == 3 and " * 1000 + "flag",
    ],
)
def test_nothing_outside_the_language_is_accepted_or_run(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if text == "name.__class__ == 3":
        assert not holds(text)  # an entry of a JSON object, of which text has none
        return
    with pytest.raises(InvalidValue, match=r"^where: "):
        holds(text)
    assert list(tmp_path.iterdir()) == []


PARTS = ["n", "x", "name", "task", "unknown", "episode.return", "[0]", "['goal']", "(", ")", "[", "]", "and", "or"]
PARTS += [
    "not",
    "in",
    "==",
    "<",
    "+",
    "/",
    "-",
    "1",
    "'a'",
    "any(",
    "mean(",
    ",",
    ".",
    "return",
    "None",
    "\n",
    '"',
    "é",
]


@settings(max_examples=500, deadline=None)
@given(st.one_of(st.text(max_size=30), st.lists(st.sampled_from(PARTS), max_size=12).map(" ".join)))
def test_any_text_is_a_condition_or_one_line(text: str) -> None:
    line = "where: ."
    try:
        assert holds(text) in (True, False)
    except HistoryError as error:
        line = str(error)
    assert line.startswith("where: ")
    assert line.endswith(".")
    assert "\n" not in line


numbers = st.one_of(st.integers(-3, 3).map(str), st.sampled_from(["n", "x", "0.5"]))
arithmetic = st.recursive(
    numbers,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda each: f"({' '.join(each)})"),
        inner.map(lambda each: f"(-{each})"),
    ),
    max_leaves=6,
)
comparisons = st.tuples(arithmetic, st.sampled_from(["<", "<=", "==", "!=", ">=", ">"]), arithmetic).map(" ".join)
conditions = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda each: f"({' '.join(each)})"),
        inner.map(lambda each: f"(not {each})"),
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(conditions)
def test_numbers_mean_what_they_mean_in_python(text: str) -> None:
    ast.parse(text)
    assert holds(text) == eval(text, {}, VALUES)  # our own text, made above


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> hs.Store:
    """Learners of two streams, with 1 to 4 times 12 finished episodes each, and a cut one."""
    path = tmp_path_factory.mktemp("where") / "store"
    make_store(path, [])
    with hs.StoreWriter(hs.open(path, mode="a")) as writer:
        for number in range(1, 5):
            add(
                writer,
                number,
                [[2] * 12 * number + [-1], [1] * 24 * number + [-1]],
                best_return=4.0 if number else None,
            )
        add(writer, 7, [[3, 3, -2]])
    return hs.open(path)


def returns_of(history: hs.History) -> np.ndarray:
    return history.episodes.return_[~history.episodes.is_cut]


def test_the_columns_of_returns_are_what_they_say(store: hs.Store) -> None:
    columns = {name: column(store) for name, (_, column) in COLUMNS.items()}
    for i, learner in enumerate(store.learners):
        returns = [returns_of(history) for history in learner.histories]
        every, ends = np.concatenate(returns), np.concatenate([each[-10:] for each in returns])
        first = np.concatenate([each[:10] for each in returns]).mean()
        last = np.concatenate([each[-math.ceil(len(each) / 10) :] for each in returns])
        expected = {
            "return_first": first,
            "return_last": ends.mean(),
            "return_mean": every.mean(),
            "return_best": every.max(),
            "improvement": ends.mean() - first,
            "stability": 1 - last.std() / (every.max() - every.min()),
            "num_episodes": len(every),
            "num_steps": sum(len(history) for history in learner.histories),
        }
        assert {name: columns[name][i] for name in expected} == pytest.approx(expected)
        best = learner.row.provenance.best_return
        assert columns["progress"][i] == (None if best is None else pytest.approx(ends.mean() / best))


def test_progress_is_the_share_that_min_progress_takes(store: hs.Store) -> None:
    progress, final = learner_progress(store), learner_final_returns(store)
    for share in (-1.0, 0.1, *(progress[np.isfinite(progress)] - 1e-9).tolist(), 1.5):
        known = np.array([4.0 if learner.row.provenance.best_return else np.nan for learner in store.learners])
        assert np.array_equal(progress >= share, is_within(final, known, share=share))


def test_a_learner_without_an_episode_or_a_best_return_meets_no_comparison_of_them(tmp_path: Path) -> None:
    with hs.StoreWriter(make_store(tmp_path / "s", [])) as writer:
        add(writer, 1, [[-5]])
    store = hs.open(tmp_path / "s")
    for name in ("return_last", "return_first", "return_best", "return_mean", "progress", "stability", "best"):
        assert not matching(store, f"{name} > 0 or {name} <= 0").any()
        assert matching(store, f"{name} == None").all()
    assert matching(store, "num_episodes == 0 and count(episode.length) == 0 and num_steps == 5").all()


def test_episodes_and_histories_are_the_learners_own(store: hs.Store) -> None:
    assert matching(store, "count(episode.length) == num_episodes").all()
    assert matching(store, "count(episode.stream == 1) == max(history.num_episodes) or num_streams == 1").all()
    assert matching(store, "mean(episode.return) - return_mean < 1e-9 and max(episode.return) == return_best").all()
    seeds = [learner.spec.seed for learner in store.learners]
    assert np.array_equal(matching(store, "count(history.num_episodes > 40) == 1"), [seed in (2, 3) for seed in seeds])
    assert np.array_equal(matching(store, "all(episode.length == 3)"), [seed == 7 for seed in seeds])
    assert np.array_equal(matching(store, "task.goal in [2, 7] and algo == 'PPO'"), [seed in (2, 7) for seed in seeds])


def test_every_column_of_every_table_can_be_named(store: hs.Store) -> None:
    for name in COLUMNS:
        assert matching(store, f"{name} == {name}").all()
    for table, columns in TABLES.items():
        for column in columns:
            assert matching(store, f"count({table}.{column} == {table}.{column}) == count({table}.stream)").all()


def test_windows_take_an_expression_where_they_take_a_function(store: hs.Store) -> None:
    by_text = selected_histories([store, store], where="num_episodes > 50 and seed != 3")
    by_function = selected_histories(
        [store, store], where=lambda one: one.spec.seed != 3 and sum(map(len, map(returns_of, one.histories))) > 50
    )
    assert np.array_equal(by_text, by_function)
    assert len(by_text)
    with pytest.raises(InvalidValue, match="no learner is left: 5 learners, of those 0 that meet 'seed > 9'"):
        selected_histories([store], where="seed > 9")
    with pytest.raises(InvalidValue, match="no column is called 'sed'"):
        selected_histories([store], where="sed > 9")


def test_parsing_needs_no_store() -> None:
    expression = parse_where("return_last > 14 and any(episode.return > 5)")
    assert (expression.names, expression.tables) == ({"return_last"}, {"episode"})
