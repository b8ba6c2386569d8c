"""What happens before a process serves: everything is read and made, then rights are given up."""
