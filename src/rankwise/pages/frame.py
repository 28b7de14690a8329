"""The frame of a page: one HTML file with everything in it, from which no request leaves.

A page is a template that extends ``frame.html.j2``, in a folder ``assets`` of the package whose
page it is. It can be made where there is no model, data or accelerator.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankwise.core.errors import SettingsError
from rankwise.core.records import write_text
from rankwise.pages.palette import DARK

if TYPE_CHECKING:
    from rankwise.pages.chart import Shown


def require_extra(extra: str) -> None:
    """Refuse to make a page without the libraries that it needs.

    Raises:
        SettingsError: Some are not installed.
    """
    if missing := missing_extra(extra):
        raise SettingsError(missing)


def missing_extra(extra: str) -> str:
    """Say what a page needs and does not find; nothing if all is there."""
    missing = [name for name in ("jinja2", "plotly") if importlib.util.find_spec(name) is None]
    if not missing:
        return ""
    return (
        f"a page of results needs {' and '.join(missing)}, which cannot be found: "
        f"pip install 'rankwise[{extra}]'"
    )


def write_page(
    path: Path,
    *,
    package: str,
    template: str,
    charts: Sequence[Shown],
    colours: Mapping[str, str],
    context: Mapping[str, Any],
) -> None:
    """Write a page.

    Args:
        path: Of its file.
        package: Whose folder ``assets`` holds the template.
        template: Its name; it extends ``frame.html.j2``.
        charts: What the page draws.
        colours: Of each method, for a light background.
        context: What else the template needs; ``baseline`` is never faded by highlighting others.
    """
    # These need the optional extra.
    import jinja2
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.PackageLoader(name, "assets") for name in (package, "rankwise.pages")]
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_unbroken,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    payload = {
        "baseline": context.get("baseline"),
        "dark": DARK,
        "charts": {
            chart.id: [(picture.view, picture.figure) for picture in chart.pictures]
            for chart in charts
        },
    }
    page = environment.get_template(template).render(
        **context,
        charts=charts,
        colours={name: (light, DARK[light]) for name, light in colours.items()},
        payload=payload,
        plotly=Markup(get_plotlyjs()),
    )
    write_text(path, page)


def _unbroken(value: Any) -> Any:
    """Keep a number and its percent sign on one line; what is markup already stays as it is."""
    return re.sub(r"(?<=\d) (?=%)", "\N{NO-BREAK SPACE}", value) if type(value) is str else value
