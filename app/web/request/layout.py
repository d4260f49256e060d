"""How the pictures of one image/png are arranged: the options `layout` and `columns`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.core.errors import invalid, shown
from app.web.request.limits import Limits
from app.web.request.media_types import PNG
from app.web.request.model_choice import check_within
from app.web.request.options import Option


def arranged(
    options: Mapping[str, Option],
    form: str,
    layouts: Sequence[str],
    limits: Limits,
    *,
    unless: str = "",
    because: str = "",
) -> tuple[str, int | None]:
    """The layout, the first by default, and the columns, None where the server chooses.

    Args:
        form: of the answer.
        unless: an option beside which there is nothing to arrange, where it is there.
        because: why not.

    Raises:
        Unprocessable: an unknown layout, or one where there is none to choose.
    """
    layout, columns = options.get("layout"), options.get("columns")
    if form != PNG:
        unless, because = f"accept: {PNG}", f"the answer is {form}"
    elif unless:
        unless = f"no {unless}"
    for name, value in (("layout", layout), ("columns", columns)):
        if value is not None and unless:
            raise invalid(
                name,
                expected=f"no {name}, or {unless}",
                got=shown(value),
                detail=f"{name} arranges the pictures of one {PNG}, here {because}",
            )
    if layout is not None and layout not in layouts:
        expected = " or ".join(layouts)
        raise invalid("layout", expected=expected, got=shown(layout))
    if columns is not None:
        check_within("columns", int(columns), 1, limits.max_rows)
    return str(layout or layouts[0]), None if columns is None else int(columns)
