"""Patients, series and results as tables; parameters, folds, the run folder, the submission."""
