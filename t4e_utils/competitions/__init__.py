"""Facts of single competitions: file patterns, label names, columns. One module a competition.

Nothing else imports them.
"""
