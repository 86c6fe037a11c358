"""Phantoms: patients drawn by a program, so that everything runs without data.

* `shapes`: distances and smooth random functions; `cohort`: a folder of any phantoms
* `head`: the anatomy of a head with a tumour; `head_painting`: that on a grid
* `head_scans`: annotated volumes and series of a patient; `head_randomisation`: of random looks
"""
