"""Metrics: how good, and how sure.

* `overlap`: masks beside masks
* `ranking`: how well scores tell two classes apart
* `intervals`: how sure a score is, and what chance gives
"""

from t4e_utils import T4EError


class MetricError(T4EError, ValueError):
    """What cannot be compared: shapes, labels or numbers that do not fit."""
