"""RSNA-MICCAI brain tumour challenge 2021, after team T4E's solution in two stages."""
