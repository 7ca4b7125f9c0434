from __future__ import annotations

import json

import pytest
from pydantic import ValidationError
from store_samples import spec

from historystore.documents import canonical_json, is_signed, sha256_hex, signed
from historystore.errors import InvalidValue


def test_canonical_json_is_one_text_for_equal_values() -> None:
    assert canonical_json({"b": [1, 2.5, None, True], "a": "é"}) == '{"a":"é","b":[1,2.5,null,true]}'.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_what_json_cannot_say_is_refused(value: object) -> None:
    with pytest.raises(InvalidValue, match="document: cannot be written as JSON"):
        canonical_json({"x": value})


def test_a_learners_id_is_the_digest_of_its_specification() -> None:
    assert spec().id == sha256_hex(canonical_json(spec().model_dump()))
    assert spec().id == "f0d576b47e72d9c9e1a3a1130c04abc3fdcacc061c4b29b58aacee35087f786b"


@pytest.mark.parametrize(
    "change",
    [
        {"family": "maze"},
        {"env_args": {"size": 9}},
        {"task": {"goal": [1, 1]}},
        {"algorithm": "A2C"},
        {"policy": "CnnPolicy"},
        {"hyperparameters": {"learning_rate": 1e-3, "n_steps": 21}},
        {"num_streams": 4},
        {"num_steps": 181},
        {"seed": 1},
    ],
)
def test_another_specification_is_another_learner(change: dict[str, object]) -> None:
    assert spec(**change).id != spec().id


def test_a_specification_survives_the_way_through_json() -> None:
    again = type(spec()).model_validate(json.loads(canonical_json(spec())))
    assert again == spec()
    assert again.id == spec().id


def test_a_misspelt_key_is_refused_and_documents_do_not_change() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        spec(hyperparamters={})
    with pytest.raises(ValidationError, match="frozen"):
        spec().seed = 3  # type: ignore[misc]


def test_a_signed_document_shows_any_change() -> None:
    document = signed({"a": 1, "b": [2]})
    assert is_signed(document)
    assert not is_signed(document | {"a": 2})
    assert not is_signed({"a": 1})
