"""A head phantom that several modules look at."""

from __future__ import annotations

import pytest

from t4e_utils.phantoms.head_scans import make_patient


@pytest.fixture(scope="session")
def patient():
    return make_patient(11, 1, tumour_ml=140)
