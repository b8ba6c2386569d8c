"""The log of our processes: how much of it, in which form, and where it goes. Records are the standard library's."""
