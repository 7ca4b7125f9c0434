"""Settings: parsed, checked and told apart, one flat list of names."""

import pytest

from distill import ModelConfig, TrainConfig
from historystore.errors import InvalidValue


def test_values_come_as_text_or_as_they_are() -> None:
    config = TrainConfig().with_values(
        {"learning_rate": "2e-3", "updates": 7, "width": "32", "method": "ed", "min_progress": "none", "splice": "true"}
    )
    assert (config.learning_rate, config.updates, config.method) == (2e-3, 7, "ed")
    assert (config.min_progress, config.splice) == (None, True)
    assert config.model == ModelConfig(width=32)


@pytest.mark.parametrize(
    ("text", "stride"), [("4-8", (4, 8)), ("5", (5, 5)), ("[4, 8]", (4, 8)), (3, (3, 3)), ((1, 9), (1, 9))]
)
def test_a_stride_is_a_number_or_a_range(text: object, stride: tuple[int, int]) -> None:
    assert TrainConfig().with_values({"episode_stride": text}).episode_stride == stride


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lr", 1, "lr: no such training setting. Choose one of: action_bins, attention_dropout, batch_size, "),
        ("width", "1.5", "width: Input should be a valid integer, got a number with a fractional part, got 1.5. "),
        ("width", 65, "settings: width 65 does not divide into 4 heads (of even width, if rotary). "),
        ("episode_stride", "8-4", "settings: episode_stride (8, 4) is no range. "),
        ("updates", 0, "updates: Input should be greater than or equal to 1, got 0. "),
        ("method", "dpt", "method: Input should be 'ad' or 'ed', got 'dpt'. "),
        ("token_masking", 1, "token_masking: Input should be less than 1, got 1. "),
        ("split_ratios", "1", "split_ratios: Input should be a valid tuple, got 1. "),
        ("model", "{}", "model: no such training setting. "),
    ],
)
def test_a_bad_value_is_one_line(name: str, value: object, message: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        TrainConfig().with_values({name: value})
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_every_setting_has_a_meaning_and_no_two_share_a_name() -> None:
    settings = TrainConfig.settings()
    assert len({name for name, _, _ in settings}) == len(settings)
    assert all(meaning for _, _, meaning in settings)
    assert len(settings) == len(TrainConfig.model_fields) - 1 + len(ModelConfig.model_fields)
