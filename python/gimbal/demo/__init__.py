"""The demos: they make their data, train, evaluate and check, with the same commands that a user has."""
