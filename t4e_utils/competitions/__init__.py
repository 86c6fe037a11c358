"""One leaf for each competition: what is known about it alone. No leaf imports another.

Rooms that need one are given its parts, or find it by its name (`workflow.collection`).
"""

FIRST = "brain_tumor"  # its notebooks lie in notebooks/ itself, those of others in notebooks/NAME/
