"""Every picture of the notebooks and the report.

A picture takes its data first and options by keyword, never changes its data, and returns a
matplotlib Figure that pyplot does not know: it is shown once as the last expression of a cell. What
one axes can hold can be drawn into `axes`. Missing data give a picture with a sentence. Colours,
names and words are those of a competition's `Palette`.
"""
