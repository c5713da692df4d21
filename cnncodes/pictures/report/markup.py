"""From values to HTML text: whatever comes from a file or a person is escaped here."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable
from typing import Any

from cnncodes.pictures.drawing import plain

LONGEST_NAME = 36  # characters of a class's name that stands in a sentence


def escaped(value: object) -> str:
    """Text for an element or a quoted attribute."""
    return html.escape(plain(str(value)), quote=True)


def several_lines(text: str) -> str:
    """Text of several lines for a ``<pre>``."""
    return "\n".join(escaped(line) for line in text.splitlines())


def json_block(name: str, value: Any) -> str:
    """A JSON document inside the page, which nothing in it can end: ``<``, ``>`` and ``&`` are escaped, all is ASCII."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="{name}">{text}</script>'


def data_uri(image: bytes) -> str:
    """An image file inside the page; PNG, else WebP."""
    kind = "png" if image.startswith(b"\x89PNG") else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"


def section(name: str, title: str, lead: str, *parts: str) -> str:
    """A part of the page with a heading, one sentence (HTML) that says what there is to see, and its content."""
    if not any(parts):
        return ""
    intro = f'<p class="lead">{lead}</p>' if lead else ""
    return f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{title}</h2>{intro}{"".join(parts)}</section>'


def listing(items: Iterable[str], kind: str = "") -> str:
    """A list of HTML items; nothing for none."""
    body = "".join(f"<li>{item}</li>" for item in items)
    return f'<ul class="{kind}">{body}</ul>' if body else ""


def folded(summary: str, content: str) -> str:
    """What a person opens if they want it; works without JavaScript."""
    return f"<details><summary>{summary}</summary>{content}</details>" if content else ""


def command(text: str) -> str:
    """A command to copy."""
    return f'<pre class="command"><code>{several_lines(text)}</code></pre>'


def named(name: str) -> str:
    """A class's name as HTML; one too long for a line is shortened and has the whole where the pointer rests."""
    short = shortened(name)
    return escaped(name) if short == plain(name) else f'<span title="{escaped(name)}">{escaped(short)}</span>'


def shortened(name: str) -> str:
    """A name of at most :data:`LONGEST_NAME` characters: its beginning and its end."""
    name = plain(name)
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 13]}...{name[-10:]}"


def percent(value: float) -> str:
    """``74.5 %`` of 0.745."""
    return f"{100 * value:.1f} %"


def count(number: int, singular: str, plural: str = "") -> str:
    """``1 image``, ``1,200 images``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def sentence(text: str, upper: bool = True) -> str:
    """Text with a capital at its start and a full stop at its end."""
    text = text[:1].upper() + text[1:] if upper else text
    return text if text.endswith((".", "!", "?")) else f"{text}."
