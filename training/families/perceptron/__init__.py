"""One unit on the columns of a table."""
