"""The egress proxy's place. Until it is here a sandbox has no network: policies know only ``network = "none"``."""
