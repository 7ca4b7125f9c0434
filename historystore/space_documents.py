"""The JSON of a space, as models: what `historystore.spaces` writes and reads.

A reader leaves out keys that it does not know, so that a later version may add some.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    GetJsonSchemaHandler,
    JsonValue,
    StringConstraints,
    TypeAdapter,
)
from pydantic_core import CoreSchema

Bound = bool | int | float | Literal["inf", "-inf"] | list[JsonValue]
"""One number where it is the same everywhere, else nested lists in the space's shape."""
Size = Annotated[int, Ge(0)]
Dtype = Annotated[str, StringConstraints(pattern=r"^[<>|][biuf][1248]$")]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class BoxDocument(_Document):
    """Arrays between two bounds."""

    kind: Literal["Box"]
    dtype: Dtype
    shape: tuple[Size, ...]
    low: Bound
    high: Bound


class DiscreteDocument(_Document):
    """The numbers from `start` to before `start + n`."""

    kind: Literal["Discrete"]
    dtype: Dtype
    n: Annotated[int, Ge(1)]
    start: int


class MultiDiscreteDocument(_Document):
    """Arrays of such numbers, each with an `n` of its own."""

    kind: Literal["MultiDiscrete"]
    dtype: Dtype
    nvec: list[JsonValue]
    start: Bound


class MultiBinaryDocument(_Document):
    """Arrays of 0 and 1."""

    kind: Literal["MultiBinary"]
    n: Size | list[Size]


class TextDocument(_Document):
    """Texts of some characters, in the space's order."""

    kind: Literal["Text"]
    min_length: Size
    max_length: Size
    charset: str


class SequenceDocument(_Document):
    """Any number of values of a space; `stack` says whether they come as one batch."""

    kind: Literal["Sequence"]
    space: SpaceDocument
    stack: bool


class GraphDocument(_Document):
    """Nodes, and edges between them."""

    kind: Literal["Graph"]
    node_space: BoxDocument | DiscreteDocument
    edge_space: BoxDocument | DiscreteDocument | None


class OneOfDocument(_Document):
    """A value of one of some spaces."""

    kind: Literal["OneOf"]
    spaces: tuple[SpaceDocument, ...]


class TupleDocument(_Document):
    """A value of each of some spaces."""

    kind: Literal["Tuple"]
    spaces: tuple[SpaceDocument, ...]


class DictDocument(_Document):
    """A value of each of some spaces by its key, in the space's order."""

    kind: Literal["Dict"]
    spaces: tuple[tuple[str, SpaceDocument], ...]


SpaceDocument = Annotated[
    BoxDocument
    | DiscreteDocument
    | MultiDiscreteDocument
    | MultiBinaryDocument
    | TextDocument
    | SequenceDocument
    | GraphDocument
    | OneOfDocument
    | TupleDocument
    | DictDocument,
    Discriminator("kind"),
]

for _model in (SequenceDocument, OneOfDocument, TupleDocument, DictDocument):
    _model.model_rebuild()
SPACE: TypeAdapter[Any] = TypeAdapter(SpaceDocument)


class PublishedAsSpace:
    """Marks JSON that is kept as it is, and published as a space."""

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return the JSON Schema of a space."""
        return handler(SPACE.core_schema)


SpaceJson = Annotated[dict[str, JsonValue], PublishedAsSpace]
