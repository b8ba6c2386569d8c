"""One execution from request to result: its values, inputs, jail, outputs, and what is said of them."""
