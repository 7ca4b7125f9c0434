"""Evaluation: numbers, intervals, controls and the picture."""

from pathlib import Path

import numpy as np
import pytest
from test_distill_training import config
from toy_histories import write_bandits, write_darkroom

from distill import Evaluation, Run, evaluate, load_run, train
from distill.evaluation import bootstrap
from distill.report import write_report
from distill.rollouts import iter_rollouts
from historystore.errors import InvalidValue
from historystore.tasks import family
from historystore.tasks.darkroom import BatchedDarkRoom

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


class Breaks(BatchedDarkRoom):
    def step(self, actions):
        raise RuntimeError("a wheel\ncame off")


def test_an_environment_that_raises_ends_an_evaluation_in_one_line(run: Run) -> None:
    env = Breaks([(1, 1)], size=9, is_rewarded_once=False, max_episode_steps=20)
    with pytest.raises(InvalidValue) as refusal:
        list(iter_rollouts(run.load_agent(), env, num_episodes=1, seed=0))
    assert str(refusal.value) == (
        "evaluation: the environment: raises RuntimeError: a wheel came off, expected a result. Correct it."
    )


def test_a_family_without_environments_cannot_be_evaluated(tmp_path: Path) -> None:
    list(train(write_bandits(tmp_path / "bandits"), tmp_path / "run", config(updates=1)))
    with pytest.raises(InvalidValue, match="nothing is called 'two-arms'"):
        evaluate(load_run(tmp_path / "run"))


def test_a_store_of_one_task_is_trained_on_whole_and_evaluated_there(tmp_path: Path) -> None:
    *_, last = train(write_darkroom(tmp_path / "store", [(2, 3)]), tmp_path / "run", config(**SETTINGS))
    assert last.validation is None
    single = load_run(tmp_path / "run")
    evaluation = evaluate(single, num_episodes=2, num_rollouts=1)
    assert list(evaluation.parts()) == ["train"]
    part = evaluate(single, num_episodes=30, num_rollouts=8).train
    assert part is not None
    (alone,) = part.tasks
    assert part.last_interval.low < part.last_return < part.last_interval.high
    assert alone.last_return == part.last_return
    with pytest.raises(InvalidValue) as caught:
        evaluate(single, parts=("test",))
    assert str(caught.value) == (
        f"{tmp_path / 'run'}: there are no test tasks, for its stores hold a single task and that was trained on. "
        "Choose another part."
    )


def test_fresh_tasks_are_none_that_a_store_holds_and_their_bounds_are_the_familys(run: Run) -> None:
    darkroom = family("darkroom")
    evaluation = evaluate(run, num_fresh=5, num_episodes=2, num_rollouts=1)
    assert list(evaluation.parts()) == ["fresh"]
    assert evaluation.fresh is not None
    tasks = [result.task for result in evaluation.fresh.tasks]
    assert len({tuple(task["goal"]) for task in tasks}) == 5
    assert not {tuple(task["goal"]) for task in tasks} & set(GOALS)
    assert [it.best_return for it in evaluation.fresh.tasks] == [darkroom.best_return(task) for task in tasks]
    assert [it.random_return for it in evaluation.fresh.tasks] == [darkroom.random_return(task) for task in tasks]
    assert evaluation.fresh.source_return_by_episode == (None, None)
    others = evaluate(run, num_fresh=5, num_episodes=2, num_rollouts=1, seed=1)
    assert others.fresh is not None
    assert tasks != [result.task for result in others.fresh.tasks]


def test_fresh_tasks_come_beside_parts_that_are_asked_for_and_are_refused_where_there_are_too_few(run: Run) -> None:
    evaluation = evaluate(run, parts=("train",), num_fresh=2, num_episodes=1, num_rollouts=1)
    assert list(evaluation.parts()) == ["fresh", "train"]
    with pytest.raises(InvalidValue) as caught:
        evaluate(run, num_fresh=73)
    assert str(caught.value) == (
        f"{run.path}: darkroom has 72 tasks that the run's stores do not hold, got --fresh 73. "
        "Ask for fewer, or for --split test."
    )


def test_a_family_of_other_arguments_is_lived_in_and_said_so(run: Run, tmp_path: Path) -> None:
    short = evaluate(run, parts=("test",), env_args={"max_episode_steps": 8}, num_episodes=3, num_rollouts=1)
    assert short.test is not None
    assert short.test.env_steps_by_episode == (8.0, 16.0, 24.0)
    known = family("darkroom", {"max_episode_steps": 8})
    assert [it.best_return for it in short.test.tasks] == [known.best_return(it.task) for it in short.test.tasks]
    assert short.test.source_last_return is None
    assert short.world == "darkroom max_episode_steps=8, trained with defaults"
    numbers, plot = write_report(tmp_path, short)
    assert numbers.name == "evaluation-test-max_episode_steps=8-seed0.json"
    assert plot.exists()
    with pytest.raises(InvalidValue) as caught:
        evaluate(run, env_args={"size": 11})
    assert str(caught.value) == (
        f"{run.path}: was trained on other spaces than those of darkroom with size=11, "
        "which are MultiDiscrete([11 11]) and Discrete(5). Give arguments that keep the spaces."
    )


def test_the_stores_arguments_travel_with_the_run_and_where_they_differ_one_must_be_named(tmp_path: Path) -> None:
    wide = write_darkroom(tmp_path / "wide", GOALS, env_args=[{"size": 11}])
    list(train(wide, tmp_path / "run", config(**SETTINGS)))
    run = load_run(tmp_path / "run")
    assert run.document.family_args == {"size": 11}
    evaluation = evaluate(run, parts=("train",), num_episodes=1, num_rollouts=1)
    assert evaluation.family_args == evaluation.trained_args == {"size": 11}
    assert evaluation.world == "darkroom size=11"

    mixed = write_darkroom(tmp_path / "mixed", GOALS, env_args=[{}, {"max_episode_steps": 20}])
    settings = {**SETTINGS, "validation_episodes": 2}
    *_, last = train(mixed, tmp_path / "mixed-run", config(**settings))
    assert last.validation is not None
    assert last.validation.last_return is None
    run = load_run(tmp_path / "mixed-run")
    with pytest.raises(InvalidValue) as caught:
        evaluate(run)
    assert str(caught.value) == (
        f"{run.path}: its stores were recorded with differing arguments of darkroom. Say which to evaluate in, "
        "with --env-arg."
    )
    evaluation = evaluate(run, env_args={"max_episode_steps": 7}, parts=("train",), num_episodes=1, num_rollouts=1)
    assert evaluation.world == "darkroom max_episode_steps=7, trained with differing arguments"


def test_compared_runs_live_in_the_same_fresh_tasks(run: Run) -> None:
    both = evaluate(run, num_fresh=3, num_episodes=1, num_rollouts=1, compare=run)
    assert both.compared is not None
    assert both.compared.fresh == both.fresh
