"""What names, ids and texts look like on the wire, for all declarations (WIRE section 1)."""

from __future__ import annotations

from typing import Annotated, Any

from .._operation import ClientOnly, Form, Limit

NAME_FORM = Form("^[a-z0-9][a-z0-9-]{1,99}$", "2 to 100 of a-z, 0-9 and '-', starting with a letter or digit")
UUID_FORM = Form("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", "a lowercase UUID, as listed by the tools that read")
TIME_FORM = Form(
    "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[ -~]{0,40}$", "an ISO 8601 time like 2026-01-31T12:00:00Z"
)
TAG = Form("^[a-z0-9][a-z0-9-]{0,49}$", "1 to 50 of a-z, 0-9 and '-', starting with a letter or digit")
LONGEST_SCOPE = 200
MOST_PLACES = 40  # that the scopes of a session lead through, all together
SCOPE_FORM = Form(
    "^[a-z][a-z0-9-]{0,19}:[!#-+.0-~-]+(/[!#-+.0-~-]+)*$", "a kind and a path, like repo:github.com/org/proj"
)
TEXT_FORM = Form(r"[^ \t\r\n]", "text that is not blank")

Name = Annotated[str, NAME_FORM]
Id = Annotated[str, UUID_FORM]
Time = Annotated[str, TIME_FORM]
Text = Annotated[str, TEXT_FORM]
Scope = Annotated[str, SCOPE_FORM, Limit(3, LONGEST_SCOPE)]
ShortText = Annotated[str, TEXT_FORM, Limit(1, 100)]
Content = Annotated[str, TEXT_FORM, Limit(1, 32000)]
Metadata = Annotated[dict[str, Any], Limit(2, 4096), ClientOnly()]
Cursor = Annotated[str, Limit(1, 512)]
