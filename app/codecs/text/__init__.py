"""Text to token ids and back; pure. Training reads and writes text with it as the server does."""
