"""Sessions that last: one interpreter each, what runs in their background, whose they are, how they are saved."""
