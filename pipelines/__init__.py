"""Raw corpus -> checked samples table. Imports neither torch nor Prefect."""
