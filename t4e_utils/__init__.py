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


class T4EError(Exception):
    """Base of every error that a user can cause.

    The message says what was wrong, with the value, and what to do.
    """
