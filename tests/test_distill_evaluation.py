"""Evaluation: numbers, intervals, controls and the picture."""

from pathlib import Path

import numpy as np
import pytest
from test_distill_training import config
from toy_histories import write_bandits, write_darkroom

from distill import Evaluation, Run, evaluate, load_run, train
from distill.evaluation import bootstrap
from distill.report import write_report
from historystore.errors import InvalidValue

GOALS = [(x, y) for x in range(3, 6) for y in range(3)]
SETTINGS = {"context_length": 40, "updates": 3, "validation_episodes": 0}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    write_darkroom(folder / "store", GOALS)
    list(train(folder / "store", folder / "run", config(**SETTINGS)))
    return load_run(folder / "run")


@pytest.fixture(scope="module")
def evaluation(run: Run) -> Evaluation:
    return evaluate(run, num_episodes=8, num_rollouts=2)


def test_every_number_follows_from_the_returns_of_the_rollouts(evaluation: Evaluation, run: Run) -> None:
    assert list(evaluation.parts()) == ["test", "train"]
    part = evaluation.test
    assert part is not None
    returns = np.array([result.returns for result in part.tasks])
    assert returns.shape == (len(run.document.split.test), 2, 8)
    assert [result.task for result in part.tasks] == list(run.document.split.test)
    np.testing.assert_allclose(part.return_by_episode, returns.mean(axis=(0, 1)))
    np.testing.assert_allclose(part.first_return, returns[..., :3].mean())
    np.testing.assert_allclose(part.last_return, returns[..., -10:].mean())
    by_task = returns[..., -10:].mean(axis=(1, 2))
    np.testing.assert_allclose(part.lowest_task_return, by_task.min())
    np.testing.assert_allclose([result.last_return for result in part.tasks], by_task)
    assert part.env_steps_by_episode == tuple(20.0 * (i + 1) for i in range(8))
    assert part.last_interval.low <= part.last_return <= part.last_interval.high
    assert all(result.last_interval.low <= result.last_return <= result.last_interval.high for result in part.tasks)


def test_the_controls_of_the_same_tasks_come_with_it(evaluation: Evaluation) -> None:
    part = evaluation.test
    assert part is not None
    best = [result.best_return for result in part.tasks]
    assert part.best_return == pytest.approx(np.mean(best))
    # The toy source is at random for two episodes and goes straight to the goal for four more; then it stops.
    source = part.source_return_by_episode
    assert source[2:6] == pytest.approx([part.best_return] * 4)
    assert max(source[:2]) < part.best_return
    assert source[6:] == (None, None)
    assert part.random_return is not None
    assert part.random_return < part.best_return


def test_an_evaluation_is_a_function_of_its_seed(run: Run, evaluation: Evaluation) -> None:
    again, other = (evaluate(run, parts=("test",), num_episodes=8, num_rollouts=2, seed=seed) for seed in (0, 1))
    assert again.test == evaluation.test
    assert other.test != evaluation.test


def test_evaluating_never_touches_the_weights(run: Run) -> None:
    before = (run.path / "model.safetensors").read_bytes()
    evaluate(run, parts=("validation",), num_episodes=3, num_rollouts=1)
    assert (run.path / "model.safetensors").read_bytes() == before


def test_another_run_is_compared_on_the_same_tasks_and_refused_where_it_saw_them(run: Run, tmp_path: Path) -> None:
    store = run.path.parent / "store"
    list(train(store, tmp_path / "control", config(**SETTINGS, method="ed", expert_share=0.5)))
    both = evaluate(run, parts=("test",), num_episodes=3, num_rollouts=1, compare=load_run(tmp_path / "control"))
    assert both.train is None
    assert both.compared is not None
    assert both.compared.method == "ed"
    assert both.compared.test is not None
    assert both.test is not None
    assert [it.task for it in both.compared.test.tasks] == [it.task for it in both.test.tasks]
    assert write_report(tmp_path, both)[1].read_bytes().startswith(b"\x89PNG")

    list(train(store, tmp_path / "other", config(**SETTINGS, split_seed=1)))
    with pytest.raises(InvalidValue, match=r"other: has another split than .* may have seen the tasks"):
        evaluate(run, compare=load_run(tmp_path / "other"))


def test_the_report_is_two_files_in_the_run(run: Run, evaluation: Evaluation, tmp_path: Path) -> None:
    numbers, plot = write_report(tmp_path, evaluation)
    assert (numbers.name, plot.name) == ("evaluation-test-train-seed0.json", "evaluation-test-train-seed0.png")
    assert Evaluation.model_validate_json(numbers.read_text()) == evaluation
    assert plot.stat().st_size > 10_000


def test_a_bootstrap_interval_holds_the_mean_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    hits = []
    for _ in range(200):
        low, high = bootstrap(generator.normal(size=(30, 1)), generator)
        hits.append(low[0] <= 0.0 <= high[0])
    assert 0.90 < np.mean(hits) < 0.98


@pytest.mark.parametrize("numbers", [{"num_episodes": 0}, {"num_rollouts": 0}])
def test_no_episodes_are_refused(run: Run, numbers: dict[str, int]) -> None:
    with pytest.raises(InvalidValue, match="needs at least 1 episode and rollout"):
        evaluate(run, **numbers)


def test_a_family_without_environments_cannot_be_evaluated(tmp_path: Path) -> None:
    list(train(write_bandits(tmp_path / "bandits"), tmp_path / "run", config(updates=1)))
    with pytest.raises(InvalidValue, match="no family is called 'two-arms'"):
        evaluate(load_run(tmp_path / "run"))
