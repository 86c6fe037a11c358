"""Facts of single competitions: file patterns, label names, columns. One folder per competition.

Nothing else imports them; rooms that need one find it by its name (`workflow.collection`).
"""

FIRST = "brain_tumor"  # its notebooks lie in notebooks/ itself, those of others in notebooks/NAME/
