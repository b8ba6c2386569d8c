"""What a workspace looks like from outside: names of files, parts of them, what the doors are shown."""
