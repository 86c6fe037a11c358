"""A collection in miniature: two shapes, drawn slices, two notebooks."""
