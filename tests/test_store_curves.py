import numpy as np
import pytest

from historystore.curves import Curve, column_quantiles, final_returns, is_within, learning_curve


def curve(member, position, return_, training_steps, **options) -> Curve | None:
    return learning_curve(
        member=np.array(member, dtype=np.int64),
        position=np.array(position, dtype=np.float64),
        return_=np.array(return_, dtype=np.float64),
        training_steps=np.array(training_steps, dtype=np.int64),
        **options,
    )


def test_a_curve_is_the_quartiles_over_members_of_their_mean_return_in_each_bin():
    found = curve([0, 0, 1, 1, 2, 2], [0.5, 1.0] * 3, [0, 10, 1, 20, 2, 30], [40, 40, 40])
    assert found is not None
    assert found.median == (1, 20)
    assert found.lower_quartile == (0.5, 15)
    assert found.upper_quartile == (1.5, 25)
    assert (found.min_steps, found.max_steps) == (40, 40)


def test_an_interrupted_member_counts_only_in_the_bins_that_it_reached():
    found = curve([0, 0, 1, 1, 2], [0.5, 1.0, 0.5, 1.0, 0.5], [2, 4, 4, 6, 9], [40, 40, 40])
    assert found is not None
    assert found.median == (4, 5)
    assert found.num_members == (3, 2)


def test_an_episode_that_ends_on_the_edge_of_a_bin_is_in_that_bin():
    position = [(step + 1) / 10 for step in range(10)]
    found = curve([0] * 10, position, range(10), [10])
    assert found is not None
    assert found.median == tuple(range(10))


def test_a_bin_without_an_episode_has_no_value_and_json_can_say_so():
    found = curve([0, 0, 0, 0], [0.1, 0.2, 0.9, 1.0], [1, 1, 2, 2], [10])
    assert found is not None
    assert found.median == (1, None, None, 2)
    assert Curve.model_validate_json(found.model_dump_json()) == found


def test_without_a_finished_episode_there_is_no_curve():
    assert curve([], [], [], [10]) is None


def test_the_final_return_is_the_mean_over_the_last_episodes_of_every_history():
    returns = final_returns(
        history=np.array([0, 0, 0, 1, 1, 3]),
        learner=np.array([0, 0, 1, 2]),
        return_=np.array([100.0, 1, 2, 3, 4, 7]),
        num_learners=3,
        last=2,
    )
    assert returns[0] == pytest.approx((1 + 2 + 3 + 4) / 4)
    assert np.isnan(returns[1])
    assert returns[2] == 7


@pytest.mark.parametrize(
    ("value", "best", "expected"), [(9, 10, True), (8.9, 10, False), (-11, -10, True), (-12, -10, False)]
)
def test_nine_tenths_of_the_best_works_for_negative_returns_too(value, best, expected):
    assert is_within(np.array([float(value)]), np.array([float(best)]), share=0.9).tolist() == [expected]


def test_quantiles_equal_those_of_numpy_where_nothing_is_missing():
    values = np.random.default_rng(0).normal(size=(7, 5))
    assert np.allclose(column_quantiles(values, (0.25, 0.5, 0.75)), np.quantile(values, (0.25, 0.5, 0.75), axis=0))
