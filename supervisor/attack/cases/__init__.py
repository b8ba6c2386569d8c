"""What is tried from outside of a sandbox: by clients, neighbours, crashes. One module for each group."""
