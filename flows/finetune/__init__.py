"""Fine-tuning: plan, units, service and Prefect flow."""
