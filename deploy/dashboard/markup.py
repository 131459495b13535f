"""From facts to markup: the templates in `pieces/`, which escape what they are given."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from deploy.viewing import prose, words

FILTERS = (
    prose.duration,
    prose.number,
    words.clock,
    words.degrees,
    words.moment,
    words.percent,
    words.size,
)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("deploy.dashboard", "pieces"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {spell.__name__: spell for spell in FILTERS}
    return made


def render(piece: str, **facts: object) -> str:
    """The markup of `pieces/<piece>.html`."""
    return _environment().get_template(f"{piece}.html").render(**facts)
