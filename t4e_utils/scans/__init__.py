"""Scans: read from any file, know where they lie in the patient, write.

* `volume`: a scan in memory; `geometry`: planes, display, spacing; `intensity`: 8 bits
* `reading`: a series whatever form it has, from `dicom_series` or `images`; `nifti`: one file
* `dicom`: images of one file, from its header (`dicom_walk`, `dicom_elements`) and its pixels
  (`dicom_decoding`); `stacks`: images in order, `values`: what
  they show; `dicom_writing`
* `problems`: what is odd about a scan, and the error for one that cannot be read; `folders`
"""
