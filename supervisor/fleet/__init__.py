"""Many gateways and workers, one Redis, one S3: jobs, leases, who is there."""
