"""Fixtures of several test modules of the leaf."""

import pandas as pd
import pytest
from helpers.small_heads import head

from t4e_utils.scans.dicom_writing import write_dicom_series


@pytest.fixture
def series(tmp_path):
    """Two patients with two series each; one of the series holds no image."""
    rows = []
    for patient, tumour in (("00002", (5, 6, 7)), ("00011", (8, 9))):
        for name in ("FLAIR", "T2w"):
            folder = tmp_path / "train" / patient / name
            write_dicom_series(head(tumour), folder, patient_id=patient, series_description=name)
            rows.append({"patient_id": patient, "series": name, "path": str(folder)})
    for file in (tmp_path / "train" / "00011" / "T2w").iterdir():
        file.write_bytes(b"no image at all")
    return pd.DataFrame(rows)
