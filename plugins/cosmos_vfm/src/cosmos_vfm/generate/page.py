"""A page that plays clips: one file of HTML beside them, without scripts or anything from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import frozen
from jinja2 import Environment

from cosmos_core.plan.record import replace_file

__all__ = ["Cell", "PageRow", "write_page"]

MIN_WIDTH = 256
"""Pixels across that a clip should have in the page."""


@frozen
class Cell:
    """One clip. file: as seen from the page. facts: shown on demand."""

    title: str
    file: str
    width: int
    facts: Mapping[str, object] = {}

    @property
    def times(self) -> int:
        """How much larger it is shown: clips of a few pixels are hidden by their own controls."""
        return max(1, MIN_WIDTH // self.width)

    @property
    def shown(self) -> int:
        """Pixels across in the page."""
        return self.width * self.times


@frozen
class PageRow:
    """One prompt and its clips. details: longer texts, shown on demand. more: another file, with its name."""

    caption: str
    cells: Sequence[Cell]
    details: Mapping[str, str] = {}
    more: tuple[str, str] | None = None


# The browser chooses fonts, so that any script is readable.
_TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{ title }}</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5em auto; max-width: 100em; padding: 0 1em;
  color: #222; background: #fff }
section { border-top: 1px solid #ccc; padding: 1em 0 }
.caption { white-space: pre-wrap; overflow-wrap: anywhere; max-width: 60em; margin: 0 0 .7em; max-height: 14em;
  overflow-y: auto }
.clips { display: flex; flex-wrap: wrap; gap: 1em; align-items: flex-start }
figure { margin: 0; max-width: 100% }
figcaption { color: #555; overflow-wrap: anywhere }
video, img { display: block; max-width: 100%; height: auto; background: #eee }
details { color: #555; margin-top: .5em } pre, dl { white-space: pre-wrap; overflow-wrap: anywhere; margin: .4em 0 }
dt { float: left; clear: left; min-width: 8em } dd { margin-left: 9em }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818 } section { border-color: #444 }
  figcaption, details { color: #aaa } }
</style></head><body>
<h1>{{ title }}</h1>
{% if note %}<p>{{ note }}</p>{% endif %}
{% for row in rows %}
<section>
<p class="caption" dir="auto">{{ row.caption or "(empty prompt)" }}</p>
<div class="clips">
{% for cell in row.cells %}
{% set about = cell.title ~ ": " ~ (row.caption or "(empty prompt)") %}
<figure style="width: {{ [cell.shown, 160] | max }}px">
{% if cell.file.endswith(".png") %}<img src="{{ cell.file | url }}" alt="{{ about }}" width="{{ cell.shown }}">
{% else %}<video src="{{ cell.file | url }}" width="{{ cell.shown }}" aria-label="{{ about }}"
 controls autoplay loop muted playsinline></video>
{% endif %}
<figcaption>{{ cell.title }}
{%- if cell.times > 1 %}; {{ cell.width }} pixels wide, shown {{ cell.times }} times as large{% endif %}</figcaption>
{% if cell.facts %}<details><summary>settings</summary><dl>
{% for name, value in cell.facts.items() %}<dt>{{ name }}</dt><dd>{{ value }}</dd>{% endfor %}
</dl></details>{% endif %}
</figure>
{% endfor %}
</div>
{% if row.more %}<p><a href="{{ row.more[0] | url }}">{{ row.more[1] }}</a></p>{% endif %}
{% for name, text in row.details.items() %}
<details><summary>{{ name }}</summary><pre dir="auto">{{ text }}</pre></details>
{% endfor %}
</section>
{% endfor %}
</body></html>
"""


def write_page(path: Path, title: str, rows: Sequence[PageRow], *, note: str = "") -> None:
    """Write the page, at once or not at all."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["url"] = environment.filters["urlencode"]
    text = environment.from_string(_TEMPLATE).render(title=title, rows=rows, note=note)
    replace_file(path, text.encode())
