"""Loaded by schemathesis: every request comes from another address, as through a proxy.

From one address the relay takes ten wrong admin credentials a minute, and after that not even says that one is wrong.
"""

import itertools
from ipaddress import IPv4Address
from typing import Any

import schemathesis

_numbers = itertools.count()


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    case.headers["x-forwarded-for"] = str(IPv4Address("10.0.0.0") + next(_numbers))
