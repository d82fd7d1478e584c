"""The plotting library that the page's 3D view needs, packed into the page itself."""

import base64
import gzip
import re
from dataclasses import dataclass
from functools import cache

MISSING = "The view in space needs plotly: pip install 'lamp-robotics[html]', and write the page again."


@dataclass(frozen=True)
class Library:
    """A script that runs when it is first needed.

    Attributes:
        script: the source; the page's content security policy admits it by its SHA-256.
        packed: the script compressed with gzip, as base64: a third of its size.
        styles: names of style elements that the script adds for its maps unless the page has elements of those names.
            The policy would refuse the styles, with an error on the console, and no page of this package has maps.
    """

    script: str
    packed: str
    styles: tuple[str, ...] = ()


@cache
def plotting_library() -> Library | None:
    """Plotly's script from its Python package, or None if that is not installed."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        return None
    script = get_plotlyjs()
    styles = tuple(dict.fromkeys(re.findall(r'getElementById\("([0-9a-f]{32,})"\)', script)))
    return Library(script, base64.b64encode(gzip.compress(script.encode(), mtime=0)).decode(), styles)
