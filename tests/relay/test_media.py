"""Names and types of files: nothing a browser runs, nothing that breaks out of a header or a path."""

from __future__ import annotations

import re
from email.message import Message
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentchat_relay.media import disposition, safe_type, stored_name

pytestmark = pytest.mark.sqlite

OCTET_STREAM = "application/octet-stream"


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("text/plain", "text/plain"),
        ("Text/Markdown", "text/markdown"),
        (" application/json ", "application/json"),
        ("text/plain; charset=UTF-8", "text/plain; charset=utf-8"),
        ('text/plain;charset="utf-8"', "text/plain; charset=utf-8"),
        ("text/csv ; Charset=iso-8859-1", "text/csv; charset=iso-8859-1"),
        ("text/css", "text/css"),
        ("image/png", "image/png"),
        ("application/pdf", "application/pdf"),
        ("application/vnd.wap.wbxml", "application/vnd.wap.wbxml"),
        ("application/postscript", "application/postscript"),
        ("application/vnd.ms-excel.sheet.macroEnabled.12", "application/vnd.ms-excel.sheet.macroenabled.12"),
        (
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        ),
    ],
)
def test_a_harmless_type_is_kept(sent: str, stored: str):
    assert safe_type(sent) == stored


SCRIPTED = """
    text/html TEXT/HTML text/x-html application/xhtml+xml application/vnd.wap.xhtml+xml image/svg+xml image/svg
    text/xml application/xml application/atom+xml application/mathml+xml application/xml-dtd text/xsl
    application/xslt+xml text/xml-external-parsed-entity application/x-xml
    text/javascript application/javascript application/x-javascript text/javascript1.5 text/x-javascript
    text/jscript text/livescript text/ecmascript application/ecmascript application/x-ecmascript text/vbscript
    multipart/mixed multipart/x-mixed-replace multipart/related message/rfc822 application/x-mimearchive
    application/x-shockwave-flash application/vnd.adobe.flash.movie application/java-archive
    application/x-java-applet text/x-component text/scriptlet application/hta application/unknown unknown/unknown
"""


@pytest.mark.parametrize("scripted", SCRIPTED.split())
def test_what_a_browser_runs_is_stored_as_bytes(scripted: str):
    assert safe_type(scripted) == OCTET_STREAM
    assert safe_type(scripted.upper()) == OCTET_STREAM
    assert safe_type(f"{scripted}; charset=utf-8") == OCTET_STREAM


@pytest.mark.parametrize(
    "odd",
    [
        None,
        "",
        " ",
        "text",
        "text/",
        "/plain",
        "text/plain/x",
        "*/*",
        "text/plain\n",
        "text/plain\r\nset-cookie: a=b",
        "text/plain; charset=utf-8\r\nx: y",
        "text/plain; charset=a b",
        "text/plain; charset=",
        'text/plain; charset="utf-8',
        "text/plain; boundary=x",
        "text/plain, text/html",
        "text/plain;text/html",
        "text/pl\u00e4in",
        "text/\u212ason",
        "text/plain\0",
        "x" * 200 + "/plain",
        "text/" + "x" * 200,
    ],
)
def test_what_is_no_type_is_stored_as_bytes(odd: str | None):
    assert safe_type(odd) == OCTET_STREAM


@given(st.text() | st.text(alphabet="text/plainsvghml+;= charset\r\n", max_size=40))
def test_a_stored_type_is_fit_for_a_header_and_stays_what_it_is(sent: str):
    stored = safe_type(sent)
    assert re.fullmatch(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+(; charset=[a-z0-9_.:+-]+)?", stored)
    assert safe_type(stored) == stored


# Content-Disposition

NAMES = st.text(max_size=200) | st.text(alphabet=st.sampled_from("a.\"';%/\\\r\n\0 é\ud800\u202e"), max_size=200)


@pytest.mark.parametrize(
    ("filename", "header"),
    [
        ("report.md", "attachment; filename=\"report.md\"; filename*=UTF-8''report.md"),
        ("größe 1.txt", "attachment; filename=\"gr__e_1.txt\"; filename*=UTF-8''gr%C3%B6%C3%9Fe%201.txt"),
        ('a"; x="b', "attachment; filename=\"a___x__b\"; filename*=UTF-8''a%22%3B%20x%3D%22b"),
        ("a\r\nx: y", "attachment; filename=\"a__x__y\"; filename*=UTF-8''a__x%3A%20y"),
        ("../a\\b", "attachment; filename=\".__a_b\"; filename*=UTF-8''.._a_b"),
        ("\u202etxt.exe", "attachment; filename=\"_txt.exe\"; filename*=UTF-8''_txt.exe"),
        ("..", "attachment; filename=\"._\"; filename*=UTF-8''_"),
        ("\ud800", "attachment; filename=\"_\"; filename*=UTF-8''_"),
    ],
)
def test_a_disposition(filename: str, header: str):
    assert disposition(filename) == header


def read_back(header: str) -> str | None:
    """The file name that the standard library finds."""
    message = Message()
    message["Content-Disposition"] = header
    return message.get_filename()


@given(NAMES)
def test_a_disposition_holds_two_harmless_names(filename: str):
    header = disposition(filename)
    found = re.fullmatch(r"attachment; filename=\"([A-Za-z0-9._-]+)\"; filename\*=UTF-8''([A-Za-z0-9%._~-]+)", header)
    assert found is not None
    name = unquote(found[2], errors="strict")
    for one in (found[1], name):
        assert one not in ("", ".", "..")
        assert not set(one) & set("/\\\r\n\0\u202e\ud800")
        assert len(one) <= 150
    assert (read_back(header), read_back(f"attachment; filename*=UTF-8''{found[2]}")) == (found[1], name)


@given(st.text(alphabet=st.characters(categories=["L", "N"]), min_size=1, max_size=100))
def test_a_plain_name_of_any_script_arrives_in_full(filename: str):
    assert unquote(disposition(filename).rpartition("''")[2]) == filename


# Names in paths


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("report.md", "report.md"),
        ("a b/c\\d.txt", "a_b_c_d.txt"),
        ("größe.txt", "gr__e.txt"),
        ("", "_"),
        (".", "_"),
        ("..", "._"),
        ("../../etc/passwd", ".__.__etc_passwd"),
        ("a..b...c", "a._b.__c"),
        (".bashrc", ".bashrc"),
        ("a" * 200 + ".tar", "a" * 146 + ".tar"),
        ("a." + "b" * 200, "a." + "b" * 148),
        ("a" * 145 + "..." + "b" * 20 + ".txt", "a" * 145 + "._txt"),
    ],
)
def test_a_stored_name(name: str, stored: str):
    assert stored_name(name) == stored


@given(NAMES)
@example("a" * 145 + "." * 60)
def test_a_stored_name_is_one_harmless_part_of_a_path(name: str):
    stored = stored_name(name)
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,150}", stored)
    assert ".." not in stored
    assert stored != "."
    assert stored_name(stored) == stored
