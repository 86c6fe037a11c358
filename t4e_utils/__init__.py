"""Building blocks of a notebook collection for competitions in medical imaging.

The rooms, in the way of a scan; a room imports only rooms that stand above it.

    files         files that are complete or not there
    progress      bars, durations, parallel work
    scans         read from any file, know where it lies, write
    annotations   what is marked on a scan: regions and their sizes
    metrics       how good, and how sure: overlap, ranking, intervals
    tables        patients, series and results as tables; folds; the run folder; the submission
    phantoms      patients drawn by a program: shapes, heads, cohorts
    sampling      pieces of a scan as a network takes them, and back
    learning      networks from recipes, data sets, losses, one training loop, cards
    prediction    from trained networks to answers: views, masks, sequences, streams, ensembles
    figures       every picture (matplotlib only here)
    workflow      papermill, Snakemake, Kaggle, report, gallery
    competitions  one leaf each: facts, stages, its own rules, its phantoms; none imports another

Arrays are `(D, H, W)` = (slice, row, column), spacing is in mm in the same order, and affines map
an index to RAS mm. Importing the package imports nothing heavy.
"""

__version__ = "0.1.0"


def printable(text: object, *, kept: str = "\n\t") -> str:
    """Return a text that any terminal, file and page can show, and that shows nothing else.

    A name of a file can hold what steers a terminal (escape sequences, carriage returns), turns the
    direction of writing, or is no text at all (bytes that are not UTF-8). Such characters become
    what Python writes for them: a name stays one that can be told from others.

    Args:
        text: anything that has a text.
        kept: control characters that stay.
    """
    return "".join(
        letter if letter.isprintable() or letter in kept else repr(letter)[1:-1]
        for letter in str(text)
    )


class T4EError(Exception):
    """Base of every error that a user can cause.

    The message says what was wrong, with the value, and what to do. It is printable, whatever the
    names in it are.
    """

    def __init__(self, *parts: object) -> None:
        super().__init__(*(printable(part) if isinstance(part, str) else part for part in parts))
