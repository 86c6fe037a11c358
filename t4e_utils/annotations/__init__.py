"""What is marked on a scan: regions and their sizes."""
