"""Settings: the tree, its branches by subject, the rules between them, and how they are read."""
