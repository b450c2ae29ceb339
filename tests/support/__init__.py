"""What several test files need: a connected client, a raw connection, an upstream that sends exactly the given
bytes."""
