"""Languages: one file of data each, and the code that runs inside the sandbox."""
