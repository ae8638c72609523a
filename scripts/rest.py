"""Write docs/rest.md from the relay's description of itself; with --check, only say whether it is out of date."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agentchat_relay.http.openapi import document

PAGE = Path(__file__).resolve().parent.parent / "docs" / "rest.md"
Schema = dict[str, Any]
DOCUMENT = document()

HEAD = """\
# REST

Made from the code by `make definitions`; do not edit. A running relay serves the same as OpenAPI 3.1 at
`GET /openapi.json`. Whoever has Python needs none of this: the [clients](reference.md#agentchat) do it all.

{about}
## Credentials

| credential | how it travels | |
|---|---|---|
{credentials}

## Contents

{contents}
- [Answers](#answers), [errors](#errors)
"""
ANSWERS_HEAD = """\
## Answers

A member with a question mark may be absent.
"""
ERRORS_HEAD = """\
## Errors

{about}

| member | type | |
|---|---|---|
{members}

| status | codes and what they mean |
|---|---|
{rows}
"""

PROVEN = """\
## How this is held to

`make test` asks for every route once and compares what comes back with this description. `make test-matrix` has
schemathesis make up requests and chains of requests from it for a minute. For longer, after that:

```sh
AGENTCHAT_EXAMPLES=1000 AGENTCHAT_SECONDS=600 .venv-operation/bin/python -m pytest -m operation tests/operation
```
"""


def page() -> str:
    operations = [
        {"verb": verb.upper(), "path": path, **operation}
        for path, item in DOCUMENT["paths"].items()
        for verb, operation in item.items()
    ]
    nouns = {tag["name"]: [each for each in operations if each["tags"] == [tag["name"]]] for tag in DOCUMENT["tags"]}
    contents = (f"- {noun}: {', '.join(link(each['operationId']) for each in group)}" for noun, group in nouns.items())
    head = HEAD.format(
        about=DOCUMENT["info"]["description"], credentials="\n".join(credentials()), contents="\n".join(contents)
    )
    sections = [f"## Routes: {noun}\n\n" + "\n".join(map(route, group)) for noun, group in nouns.items()]
    answers = [answer(name, schema) for name, schema in schemas().items() if name not in ("Envelope", "Error")]
    return "\n".join([head, *sections, ANSWERS_HEAD, *answers, errors(), PROVEN]).rstrip("\n") + "\n"


def credentials() -> Iterator[str]:
    for name, scheme in DOCUMENT["components"]["securitySchemes"].items():
        how = f"`{scheme['name']}`" if scheme["type"] == "apiKey" else f"`Authorization: {scheme['scheme'].title()}`"
        yield row(words(name), how, scheme["description"])


def route(operation: Schema) -> str:
    answered = operation["responses"]["200"]
    rows = [*parameters(operation), *members_sent(operation)]
    table = ["| parameter | in | type | default | limits | |", "|---|---|---|---|---|---|", *rows, ""] if rows else []
    statuses = ", ".join(status for status in operation["responses"] if status != "200")
    lines = [
        f"### {operation['operationId']}\n",
        f"`{operation['verb']} {operation['path']}`, {credential(operation['security'])}\n",
        f"{operation['description']}\n",
        *table,
        f"Answers {content(answered['content'])}."
        + (f" [Refuses](#errors) with {statuses}." if statuses else "")
        + "\n",
    ]
    return "\n".join(lines)


def credential(security: list[Schema]) -> str:
    ways = [words(name) for way in security for name in way]
    if not ways:
        return "no credential"
    return f"{' or '.join(ways)}{', or none' if {} in security else ''}"


def words(name: str) -> str:
    """`agentKey` as it is said."""
    return "".join(f" {each.lower()}" if each.isupper() else each for each in name)


def parameters(operation: Schema) -> Iterator[str]:
    for parameter in map(resolved, operation.get("parameters", [])):
        yield argument(parameter["name"], parameter["in"], parameter, parameter.get("required", False))


def members_sent(operation: Schema) -> Iterator[str]:
    body = operation.get("requestBody", {"content": {"application/json": {"schema": {}}}})
    yield from members_of(body["content"]["application/json"]["schema"], "")


def members_of(schema: Schema, outside: str) -> Iterator[str]:
    for name, member in schema.get("properties", {}).items():
        if "properties" in member:
            yield from members_of(member, f"{outside}{name}.")
        else:
            described = {"schema": member, "description": member["description"]}
            yield argument(outside + name, "body", described, name in schema.get("required", ()))


def argument(name: str, place: str, described: Schema, required: bool) -> str:
    schema = described["schema"]
    default = "required" if required else f"`{text(schema['default'])}`" if "default" in schema else ""
    return row(f"`{name}`", place, kind(schema), default, limits(schema), described["description"])


def text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def kind(schema: Schema) -> str:
    """The type of a value, with links to those that stand on this page."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[`{name}`](#type-{name.lower()})"
    if "const" in schema:
        return f"`{text(schema['const'])}`"
    if "anyOf" in schema:
        return " or ".join(kind(each) for each in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {kind(schema['items'])}"
    return str(schema.get("format") or schema.get("type", "anything"))


def limits(schema: Schema) -> str:
    units = (("Length", " characters"), ("Items", " items"), ("imum", ""))
    found = [", ".join(f"`{each}`" for each in schema["enum"])] if "enum" in schema else []
    for bound, unit in units:
        low, high = schema.get(f"min{bound}"), schema.get(f"max{bound}")
        if high is not None:
            found.append(f"{low:,} to {high:,}{unit}")
        elif low is not None:
            found.append(f"at least {low:,}{unit}")
    return "; ".join(found)


def content(media_types: Schema) -> str:
    """The usual form, and any other that the caller may ask for."""
    return "; or, to who accepts it, ".join(
        form(media_type, each["schema"]) for media_type, each in media_types.items()
    )


def form(media_type: str, schema: Schema) -> str:
    if media_type != "application/json":
        return " or ".join(other(media_type, each) for each in schema.get("anyOf", [schema]))
    if "allOf" in schema:
        return f"{kind(schema['allOf'][1]['properties']['data'])}, in the envelope"
    if "properties" in schema:
        return ", ".join(f"`{name}` ({kind(member)})" for name, member in schema["properties"].items())
    return kind(schema) if "$ref" in schema else in_sentence(schema["description"])


def other(media_type: str, schema: Schema) -> str:
    if "$ref" in schema:
        return kind(schema)
    return in_sentence(schema["description"].rstrip(".")) if "description" in schema else f"`{media_type}`"


def in_sentence(description: str) -> str:
    return description[0].lower() + description[1:].rstrip(".")


def answer(name: str, schema: Schema) -> str:
    rows = (
        row(f"`{member}`{'' if member in schema.get('required', ()) else '?'}", kind(found) + choices(found))
        for member, found in schema["properties"].items()
    )
    return "\n".join([f"### Type {name}\n", f"{schema['description']}\n", "| member | type |", "|---|---|", *rows, ""])


def choices(schema: Schema) -> str:
    return f": {limits(schema)}" if "enum" in schema else ""


def errors() -> str:
    error = schemas()["Error"]
    members = (
        row(f"`{name}`{'' if name in error['required'] else '?'}", kind(found), found["description"])
        for name, found in error["properties"].items()
    )
    rows = (
        row(name.removeprefix("error"), described["description"])
        for name, described in DOCUMENT["components"]["responses"].items()
    )
    return ERRORS_HEAD.format(about=error["description"], members="\n".join(members), rows="\n".join(rows))


def schemas() -> Schema:
    found: Schema = DOCUMENT["components"]["schemas"]
    return found


def resolved(schema: Schema) -> Schema:
    place: Any = DOCUMENT
    for step in schema.get("$ref", "#").split("/")[1:]:
        place = place[step]
    return place if "$ref" in schema else schema


def link(name: str) -> str:
    return f"[`{name}`](#{name.lower()})"


def row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main() -> int:
    wanted = page()
    if PAGE.exists() and PAGE.read_bytes().decode() == wanted:
        return 0
    if "--check" in sys.argv[1:]:
        print("docs/rest.md out of date; run: make definitions", file=sys.stderr)
        return 1
    PAGE.write_bytes(wanted.encode())
    print("docs/rest.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
