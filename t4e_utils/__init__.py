"""Building blocks of a notebook collection for competitions in medical imaging.

The package holds what more than one notebook needs: scans and their geometry, annotations, slices,
tables, models, training, inference and pictures. Arrays are `(D, H, W)` = (slice, row, column),
spacing is in mm in the same order, and affines map an index to RAS mm. Importing the package
imports nothing heavy; each module imports what it needs.
"""

__version__ = "0.1.0"


class T4EError(Exception):
    """Base of every error that a user can cause.

    The message says what was wrong, with the value, and what to do.
    """
