"""A submission: exactly one finite value for every id of the sample, written and read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from t4e_utils import T4EError
from t4e_utils.files import atomic_write


class SubmissionError(T4EError):
    """The submission would not be accepted, or could not be scored."""


def write_submission(
    report: pd.DataFrame, sample: pd.DataFrame, path: Path, *, id_column: str, label_column: str
) -> pd.DataFrame:
    """Validate and write the submission, and beside it the report.

    Args:
        report: from `assemble`.
        sample: column patient_id.
        path: `submission.csv`; the report goes to `submission_report.csv` in the same folder.
        id_column: header of the ids.
        label_column: header of the probabilities.

    Returns:
        The submission as written.

    Raises:
        SubmissionError: as `validate`.
    """
    table = report[["patient_id", "probability"]].rename(
        columns={"patient_id": id_column, "probability": label_column}
    )
    validate(table, sample, id_column=id_column, label_column=label_column)
    _write_csv(report, path.with_name(f"{path.stem}_report.csv"))
    _write_csv(table, path)
    written = pd.read_csv(path, dtype={id_column: str})
    validate(written, sample, id_column=id_column, label_column=label_column)
    return written


def validate(
    table: pd.DataFrame, sample: pd.DataFrame, *, id_column: str, label_column: str
) -> None:
    """Check that a submission has every patient of the sample once, in its order, each with a
    finite probability.

    Raises:
        SubmissionError: naming the first difference.
    """
    if list(table.columns) != [id_column, label_column]:
        raise SubmissionError(
            f"The submission has the columns {list(table.columns)}, it must have "
            f"{[id_column, label_column]}."
        )
    ids, wanted = table[id_column].tolist(), sample["patient_id"].tolist()
    if ids != wanted:
        missing, extra = sorted(set(wanted) - set(ids)), sorted(set(ids) - set(wanted))
        detail = (
            f"missing {missing[:3]}, not asked for {extra[:3]}"
            if missing or extra
            else "the order or the number of rows differs"
        )
        raise SubmissionError(
            f"The submission has {len(ids)} rows for {len(wanted)} patients of the sample: "
            f"{detail}."
        )
    values = table[label_column].to_numpy(float)
    if not (np.isfinite(values) & (values >= 0) & (values <= 1)).all():
        worst = table[~(np.isfinite(values) & (values >= 0) & (values <= 1))].iloc[0]
        raise SubmissionError(
            f"Patient {worst[id_column]} has {worst[label_column]!r}, which is no probability "
            "between 0 and 1."
        )


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    with atomic_write(path) as temporary:
        table.to_csv(temporary, index=False)
