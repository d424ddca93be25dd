"""Training runs: plan, jobs, service, records and Prefect flow."""
