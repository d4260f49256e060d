"""The same models in other people's words: one file per protocol. Nothing here knows a task."""
