"""The environment's proxy, read by one rule for both clients."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

from .errors import NotConfigured
from .settings import is_loopback


def proxy_for(url: str) -> str | None:
    """The environment's proxy for a relay's URL. A relay on this machine is always reached directly."""
    parts = urlsplit(url)
    if is_loopback(parts.hostname) or not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    from urllib.request import getproxies_environment, proxy_bypass

    proxies = getproxies_environment()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.netloc):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    try:
        usable = urlsplit(proxy).scheme == "http" and urlsplit(proxy).hostname and urlsplit(proxy).port != 0
    except ValueError:
        usable = False
    if not usable or not re.fullmatch("[!-~]+", proxy):
        raise NotConfigured("The environment's proxy setting is not supported; it should look like http://host:port.")
    return proxy


def proxy_authorization(proxy: str) -> str:
    """The header line for a proxy whose URL holds a user name."""
    parts = urlsplit(proxy)
    if parts.username is None:
        return ""
    from base64 import b64encode
    from urllib.parse import unquote

    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return f"proxy-authorization: Basic {b64encode(pair.encode()).decode()}\r\n"
