"""Scans: read from any file, know where they lie in the patient, write.

* `volume`: a scan in memory; `geometry`: planes, display, spacing; `intensity`: 8 bits
* `reading`: a series whatever form it has, from `dicom_series` or `images`; `nifti`: one file,
  whose header `nifti_fields` reads
* `dicom`: images of one file, from its header (`dicom_walk`, `dicom_elements`,
  `dicom_keywords`; `dicom_checks`, `dicom_values` and `dicom_telling` say what it means) and its
  pixels (`dicom_decoding`)
* `grouping`: which images belong together, `repeats`: which of several volumes at one place;
  `stacks`: images in order, `values`: what they show
* `dicom_writing`: volumes as DICOM series; `folders`; `limits`: how large a file may be
* `problems`: what is odd about a scan, and the error for one that cannot be read
"""
