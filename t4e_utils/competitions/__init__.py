"""One leaf for each competition: what is known about it alone. No leaf imports another."""
