"""Pieces of a scan as a network takes them, and back: pictures, squares, chunks, cuts."""

from t4e_utils import T4EError


class SamplingError(T4EError):
    """A piece of a scan cannot be cut, stored, read or put back."""
