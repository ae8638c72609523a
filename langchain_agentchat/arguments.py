"""A pydantic model of an operation's arguments, derived from the contract.

LangChain validates a tool call with it and shows its schema to the model, so it holds what models may set. It accepts
the same JSON as `agentchat`'s own check; a differential test compares the two.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

from agentchat.schema import described, for_models

if TYPE_CHECKING:
    from pydantic import BaseModel

    from agentchat._operation import Operation, Parameter


@cache
def args_schema(operation: Operation[..., Any]) -> type[BaseModel]:
    """The model of the arguments a language model may set."""
    from pydantic import ConfigDict, Field, create_model

    fields: dict[str, Any] = {}
    for parameter in for_models(operation):
        annotation = _annotation(parameter)
        if parameter.required:
            fields[parameter.name] = (annotation, Field(description=described(parameter)))
        else:
            fields[parameter.name] = (annotation | None, Field(None, description=described(parameter)))
    name = "".join(part.capitalize() for part in operation.name.split("_"))
    return create_model(name, __config__=ConfigDict(extra="forbid"), **fields)


def _annotation(parameter: Parameter) -> Any:
    from pydantic import BeforeValidator, Field, StrictBool, StrictInt, StrictStr

    low, high = parameter.limit or (None, None)
    if parameter.choices:
        return Literal[parameter.choices]
    match parameter.kind:
        case "integer":
            return Annotated[StrictInt, Field(ge=low, le=high), BeforeValidator(_whole)]
        case "boolean":
            return StrictBool
        case "array":
            pattern = parameter.item_form.pattern if parameter.item_form else None
            item = Annotated[StrictStr, Field(pattern=pattern)]
            return Annotated[list[item], Field(min_length=low, max_length=high)]
        case _:
            pattern = parameter.form.pattern if parameter.form else None
            return Annotated[StrictStr, Field(min_length=low, max_length=high, pattern=pattern)]


def _whole(value: object) -> object:
    """A float that is an integer counts as one: some models send every number as floating point."""
    return int(value) if type(value) is float and value.is_integer() else value
