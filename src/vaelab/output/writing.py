"""Makes a figure or table of the catalogue from evaluated runs, with its twins."""

from __future__ import annotations

from pathlib import Path

from vaelab.output.catalogue import CATALOGUE
from vaelab.output.figures.style import draw, save
from vaelab.output.tables import write_table
from vaelab.results.reader import Results


def write(target: str, results: Results) -> Path:
    """Make one figure or table under results/<preset>; returns its main file.

    Raises:
        VaelabError: there is no such figure or table, or something it needs is missing.
    """
    item = CATALOGUE[target]
    files = {form: results.folder / path for form, path in item.files.items()}
    if item.kind == "figure":
        save(draw(item.function, results), files["png"], with_vector=item.vector)
    else:
        write_table(item.function(results), files["csv"], files["md"])
        if item.pictures:
            save(draw(item.picture_function, results), files["png"], with_vector=False)
    return next(iter(files.values()))
